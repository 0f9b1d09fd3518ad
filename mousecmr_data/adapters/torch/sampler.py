"""Shuffle samples reproducibly, split them between processes, and resume within an epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sized
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Indices of ``data`` in an order that depends only on ``seed`` and the epoch.

    With several processes (``torchrun``, or ``rank`` and ``world_size``), each gets its own part of the same
    order. The parts are disjoint and of equal length; the remainder is left out, a different one in each epoch
    (``torch.utils.data.DistributedSampler`` repeats samples instead). Call ``set_epoch`` before each epoch.
    ``state_dict`` stores the position in the epoch; ``load_state_dict`` continues from there.
    """

    def __init__(
        self,
        data: Sized,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        if rank is None:
            rank = dist.get_rank() if distributed else int(os.environ.get("RANK", 0))
        if world_size is None:
            world_size = dist.get_world_size() if distributed else int(os.environ.get("WORLD_SIZE", 1))
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes; expected 0 to {world_size - 1}")
        self.rank, self.world_size = rank, world_size
        self.n, self.seed, self.shuffle = len(data), seed, shuffle
        self.epoch = self._next = 0

    def set_epoch(self, epoch: int) -> None:
        """Start this epoch."""
        self.epoch, self._next = epoch, 0

    def __len__(self) -> int:
        return self.n // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = torch.arange(self.n)
        if self.shuffle:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
            order = torch.randperm(self.n, generator=generator)
        used = len(self) * self.world_size
        indices = order[:used][self.rank :: self.world_size].tolist()
        for i in range(self._next, len(indices)):
            self._next = i + 1
            yield indices[i]
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch."""
        return {"seed": self.seed, "epoch": self.epoch, "next": self._next, "n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position; raise ValueError if it belongs to another dataset or seed."""
        if (state["seed"], state["n"]) != (self.seed, self.n):
            raise ValueError(
                f"the state is of {state['n']} samples and seed {state['seed']}; "
                f"expected {self.n} samples and seed {self.seed}"
            )
        self.epoch, self._next = state["epoch"], state["next"]
