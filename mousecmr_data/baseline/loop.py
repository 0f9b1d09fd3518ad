"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mousecmr_data.baseline import checkpoint, curves
from mousecmr_data.baseline.batches import Batch, epoch_batches, validation_batches
from mousecmr_data.baseline.checkpoint import Progress
from mousecmr_data.baseline.config import Config
from mousecmr_data.baseline.loss import supervised_loss
from mousecmr_data.baseline.processes import Processes
from mousecmr_data.baseline.slices import Slices
from mousecmr_data.models.device import select_device
from mousecmr_data.models.safetensors import read_weights, write_weights
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.schema.labels import Label

Tell = Callable[[dict[str, float]], None]


def fit(
    config: Config,
    training: Slices,
    validation: Slices,
    folder: Path,
    *,
    resume: bool = False,
    tell: Tell | None = None,
    about: Mapping[str, Any] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> tuple[UNet3Plus, Progress]:
    """Train a network as ``config`` says and leave checkpoints and curves in ``folder``.

    Returns the network with the best validation loss and the run's progress. With ``resume``, goes on
    after the last whole epoch; what comes out is what an unbroken run gives. ``tell`` gets each epoch's
    row of the curve; ``about`` goes into the header of the weights. ``initial`` is a state
    dict to start from.
    """
    processes = Processes.joined(config.replicas)
    device = select_device(config.device, processes.local)
    torch.manual_seed(config.seed)
    model = UNet3Plus(config.channels, deep_supervision=config.deep_supervision, reduce=config.reduce)
    if initial is not None:
        model.load_state_dict(initial)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    progress = checkpoint.restore(folder, model, optimizer, config) if resume else Progress()
    network = processes.wrapped(model, device)
    steps = config.steps_per_epoch or max(1, len(training) // config.batch_size)

    while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
        started, epoch = time.monotonic(), progress.epoch + 1
        network.train()
        total = 0.0
        for step, parts in enumerate(epoch_batches(training, config, epoch, steps, processes.replicas)):
            rate = _rate(config, (epoch - 1) * steps + step, config.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            total += _step(network, model, optimizer, parts, config, device, (epoch, step), processes)
        row = {"epoch": float(epoch), "loss": processes.mean(total / steps, device), "learning_rate": rate}
        row |= processes.shared(_validated(model, validation, config, device) if processes.first else None)
        row["seconds"] = time.monotonic() - started
        progress.epoch = epoch
        progress.curve.append(row)
        if row["validation_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = row["validation_loss"], epoch
            if processes.first:
                header = {**(about or {}), "epoch": epoch}
                write_weights(folder / checkpoint.BEST, model, header, half=config.half_weights)
        if processes.first:
            checkpoint.save(folder, model, optimizer, progress, config)
            curves.write(folder, progress.curve)
            if tell:
                tell(row)
    processes.leave()
    best, _ = read_weights(folder / checkpoint.BEST)
    model.load_state_dict(best)
    return model.eval(), progress


def _step(
    network: nn.Module,
    model: UNet3Plus,
    optimizer: torch.optim.Optimizer,
    parts: list[Batch],
    config: Config,
    device: torch.device,
    when: tuple[int, int],
    processes: Processes,
) -> float:
    """One step of the optimiser on the replicas' parts of a batch; the mean loss."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for number, (replica, (x, y)) in enumerate(zip(processes.replicas, parts, strict=True)):
        # Dropout draws the same in every process layout and after every resume.
        torch.manual_seed(hash((config.seed, *when, replica)) % 2**63)
        # Only the first replica's batch statistics run on, as in DistributedDataParallel.
        kept = [b.clone() for b in model.buffers()] if number else []
        with precision(config, device):
            loss = supervised_loss(network(_on(x, device)), y.to(device), config.cross_entropy) / len(parts)
        loss.backward()  # type: ignore[no-untyped-call]
        for buffer, old in zip(model.buffers() if kept else (), kept, strict=True):
            buffer.copy_(old)
        total += float(loss.detach())
    optimizer.step()
    return total


@torch.no_grad()
def _validated(model: UNet3Plus, slices: Slices, config: Config, device: torch.device) -> dict[str, float]:
    """Loss (mean over batches) and Dice of each class over all validation slices together."""
    model.eval()
    losses, counts = [], torch.zeros(2, len(Label), dtype=torch.float64)
    for x, y in validation_batches(slices, config.batch_size):
        with precision(config, device):
            outputs = model(_on(x, device))
        truth, predicted = y.to(device), outputs[-1].argmax(1)
        losses.append(float(supervised_loss(outputs, truth, config.cross_entropy)))
        for label in Label:
            a, b = truth == label, predicted == label
            counts[0, label] += float((a & b).sum())
            counts[1, label] += float(a.sum() + b.sum())
    dice = 2.0 * counts[0] / counts[1].clamp_min(1.0)
    names = {Label.MYOCARDIUM: "dice_myocardium", Label.BLOOD_POOL: "dice_blood_pool"}
    return {"validation_loss": sum(losses) / len(losses)} | {n: float(dice[k]) for k, n in names.items()}


def precision(config: Config, device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision as configured; "auto" is bfloat16 on a GPU that has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and able)
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed)


def _on(x: Tensor, device: torch.device) -> Tensor:
    return x.to(device, memory_format=torch.channels_last)


def _rate(config: Config, step: int, steps: int) -> float:
    """The learning rate of a step."""
    if config.schedule == "constant":
        return config.learning_rate
    warm = max(1, steps // 20)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
