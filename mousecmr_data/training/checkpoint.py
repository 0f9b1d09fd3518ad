"""Checkpoints: the whole state of a training run in one safetensors file, so that a kill loses at most one epoch."""

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
    """The state of a run beside its weights: epochs done, best epoch and learning curve."""

    epoch: int = 0
    """Number of epochs done."""
    best_loss: float = float("inf")
    best_epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch: epoch, loss, validation_loss, learning_rate, seconds, and Dice on the validation slices."""


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, progress: TrainingProgress, config: TrainConfig
) -> None:
    """Write the state after an epoch, so that :func:`restore_checkpoint` can continue from it."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value)
    write_tensors(folder / LAST_FILE, tensors, {"progress": vars(progress), "config": config.to_json()})


def check_config(folder: Path, stored: TrainConfig, config: TrainConfig) -> None:
    """Raise :class:`FileLayoutError` if the run in ``folder`` has another configuration than ``config``."""
    if stored != config:
        text = f"{folder} holds a run with another configuration."
        raise FileLayoutError(text, "the same configuration (see config.json)", "train in a new folder")


def restore_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, config: TrainConfig) -> TrainingProgress:
    """Load the saved state into ``model`` and ``optimizer`` and return the progress of the run.

    Raises :class:`FileLayoutError` if the run has another configuration.
    """
    tensors, header = read_tensors(folder / LAST_FILE)
    check_config(folder, TrainConfig.from_json(header["config"]), config)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            states.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return TrainingProgress(**header["progress"])
