"""Distributed training: which process computes which part (replica) of a batch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mousecmr_data.errors import ArgumentError


@dataclass(frozen=True)
class ProcessGroup:
    """This process and its place in the group of training processes."""

    rank: int
    count: int
    local: int
    """Rank on this machine."""
    replicas: list[int]
    """The parts of each batch that this process computes."""

    @classmethod
    def join(cls, replicas: int) -> ProcessGroup:
        """Join the group that ``torchrun`` started, or return a group of one process that computes all parts."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(0, 1, 0, list(range(replicas)))
        if replicas != count:
            text = f"torchrun started {count} processes, but the batch is split among {replicas} replicas."
            raise ArgumentError(text, "the same number", f"mousecmr train --replicas {count}")
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        rank = dist.get_rank()
        return cls(rank, count, int(os.environ.get("LOCAL_RANK", rank)), [rank])

    @property
    def is_first(self) -> bool:
        """Return whether this process writes the files."""
        return self.rank == 0

    def wrap_model(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return ``model`` wrapped so that gradients are averaged over the processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    def average(self, value: float, device: torch.device) -> float:
        """Return the mean of a number over the processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return float(total) / self.count

    def broadcast(self, values: dict[str, float] | None) -> dict[str, float]:
        """Return the ``values`` of the first process in every process."""
        shared = [values]
        if self.count > 1:
            dist.broadcast_object_list(shared, src=0)
        return shared[0] or {}

    def leave(self) -> None:
        """Wait for all processes, then leave the group."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()
