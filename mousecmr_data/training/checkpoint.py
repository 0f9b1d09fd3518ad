"""Checkpoints of a training run: the whole state in one safetensors file, so that a kill loses an epoch at most."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mousecmr_data.errors import FileLayoutError
from mousecmr_data.models.safetensors import read_tensors, write_tensors
from mousecmr_data.training.config import TrainConfig

LAST_FILE, BEST_FILE = "last.safetensors", "best.safetensors"


@dataclass
class TrainingProgress:
    """Where a run stands."""

    epoch: int = 0
    """Epochs done."""
    best_loss: float = float("inf")
    best_epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """A row an epoch: epoch, loss, validation_loss, learning_rate, seconds, and Dice on the validation slices."""


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, progress: TrainingProgress, config: TrainConfig
) -> None:
    """Write the state after an epoch; :func:`restore` continues from it."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value)
    write_tensors(folder / LAST_FILE, tensors, {"progress": vars(progress), "config": config.to_json()})


def restore_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, config: TrainConfig) -> TrainingProgress:
    """Put the saved state into ``model`` and ``optimizer``; says how far the run had come."""
    tensors, about = read_tensors(folder / LAST_FILE)
    saved = TrainConfig.from_json(about["config"])
    if saved != config:
        raise FileLayoutError(
            f"{folder} was begun with another configuration.",
            "the same one (it is in config.json)",
            "train in a new folder",
        )
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            states.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainingProgress(**about["progress"])
