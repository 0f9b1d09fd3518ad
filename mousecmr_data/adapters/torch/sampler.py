"""Shuffling that can be repeated, shared between processes, and resumed in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sized
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Indices of ``data`` in an order that depends on ``seed`` and the epoch alone.

    With several processes (``torchrun``, or ``rank`` and ``world_size``), each gets its own part of the same
    order: the parts are disjoint and of equal length; what does not divide is left out, another remainder
    each epoch (``torch.utils.data.DistributedSampler`` repeats samples instead). Call ``set_epoch`` before
    each epoch. ``state_dict`` remembers the place in the epoch; ``load_state_dict`` goes on from there.
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
        here = dist.is_available() and dist.is_initialized()
        self.rank = rank if rank is not None else dist.get_rank() if here else int(os.environ.get("RANK", 0))
        self.world_size = (
            world_size
            if world_size is not None
            else dist.get_world_size()
            if here
            else int(os.environ.get("WORLD_SIZE", 1))
        )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} of {self.world_size} processes; expected 0 to {self.world_size - 1}")
        self.n, self.seed, self.shuffle = len(data), seed, shuffle
        self.epoch = 0
        self._next = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch."""
        self.epoch, self._next = epoch, 0

    def __len__(self) -> int:
        return self.n // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        for i in range(self._next, len(order)):
            self._next = i + 1
            yield order[i]
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch."""
        return {"seed": self.seed, "epoch": self.epoch, "next": self._next, "n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place; ValueError where it is of another dataset or seed."""
        if (state["seed"], state["n"]) != (self.seed, self.n):
            raise ValueError(
                f"the state is of {state['n']} samples and seed {state['seed']}; "
                f"expected {self.n} samples and seed {self.seed}"
            )
        self.epoch, self._next = state["epoch"], state["next"]

    def _order(self) -> list[int]:
        if self.shuffle:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
            order = torch.randperm(self.n, generator=generator)
        else:
            order = torch.arange(self.n)
        used = len(self) * self.world_size
        return order[:used][self.rank :: self.world_size].tolist()
