"""A training run: its folder, which says everything about it, and the call that fills it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mousecmr_data._utils.atomic import write_text
from mousecmr_data._utils.json import write_json
from mousecmr_data._utils.notices import RESEARCH_ONLY
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.errors import FileLayoutError, MissingDataError, UnknownNameError
from mousecmr_data.inference.predictor import Predictor, WeightsInfo, load_model
from mousecmr_data.models.device import select_device
from mousecmr_data.models.safetensors import read_weights, write_weights
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.phantom import COHORTS, make_plans
from mousecmr_data.schema.labels import Label
from mousecmr_data.training.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    TrainingProgress,
    restore_checkpoint,
    save_checkpoint,
)
from mousecmr_data.training.config import TrainConfig
from mousecmr_data.training.data import (
    Batch,
    SliceData,
    collect_slices,
    iterate_epoch,
    iterate_validation,
    render_slices,
)
from mousecmr_data.training.distributed import ProcessGroup
from mousecmr_data.training.losses import supervised_loss

# MERGED training.trainer: Learning curves as CSV, and as a PNG where matplotlib is installed.


def write_curves(folder: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Write ``curves.csv``, a row an epoch, whole or not at all."""
    out = io.StringIO()
    table = csv.DictWriter(out, list(curve[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(curve)
    write_text(folder / "curves.csv", out.getvalue())


def draw_curves(folder: Path, curve: Sequence[Mapping[str, float]], title: str) -> Path | None:
    """Draw ``curves.png``: losses and Dice over the epochs. None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, dice = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in curve]
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        losses.plot(epochs, [row[name] for row in curve], label=label)
    for name, label in (("dice_myocardium", "LV myocardium"), ("dice_blood_pool", "LV blood pool")):
        dice.plot(epochs, [row[name] for row in curve], label=label)
    losses.set(xlabel="epoch", ylabel="loss")
    dice.set(xlabel="epoch", ylabel="Dice, validation slices together", ylim=(0, 1))
    for axes in (losses, dice):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path


# MERGED training.trainer: The training loop.


EpochCallback = Callable[[dict[str, float]], None]


def fit(
    config: TrainConfig,
    training: SliceData,
    validation: SliceData,
    folder: Path,
    *,
    resume: bool = False,
    on_epoch: EpochCallback | None = None,
    about: Mapping[str, Any] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> tuple[UNet3Plus, TrainingProgress]:
    """Train a network as ``config`` says and leave checkpoints and curves in ``folder``.

    Returns the network with the best validation loss and the run's progress. With ``resume``, goes on
    after the last whole epoch; what comes out is what an unbroken run gives. ``on_epoch`` gets each epoch's
    row of the curve; ``about`` goes into the header of the weights. ``initial`` is a state
    dict to start from.
    """
    processes = ProcessGroup.join(config.replicas)
    device = select_device(config.device, processes.local)
    torch.manual_seed(config.seed)
    model = UNet3Plus(config.channels, deep_supervision=config.deep_supervision, reduce=config.reduce)
    if initial is not None:
        model.load_state_dict(initial)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    progress = restore_checkpoint(folder, model, optimizer, config) if resume else TrainingProgress()
    network = processes.wrap_model(model, device)
    steps = config.steps_per_epoch or max(1, len(training) // config.batch_size)

    while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
        started, epoch = time.monotonic(), progress.epoch + 1
        network.train()
        total = 0.0
        for step, parts in enumerate(iterate_epoch(training, config, epoch, steps, processes.replicas)):
            rate = _compute_learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            total += _train_step(network, model, optimizer, parts, config, device, (epoch, step), processes)
        row = {"epoch": float(epoch), "loss": processes.average(total / steps, device), "learning_rate": rate}
        row |= processes.broadcast(_validate(model, validation, config, device) if processes.is_first else None)
        row["seconds"] = time.monotonic() - started
        progress.epoch = epoch
        progress.curve.append(row)
        if row["validation_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = row["validation_loss"], epoch
            if processes.is_first:
                header = {**(about or {}), "epoch": epoch}
                write_weights(folder / BEST_FILE, model, header, half=config.half_weights)
        if processes.is_first:
            save_checkpoint(folder, model, optimizer, progress, config)
            write_curves(folder, progress.curve)
            if on_epoch:
                on_epoch(row)
    processes.leave()
    best, _ = read_weights(folder / BEST_FILE)
    model.load_state_dict(best)
    return model.eval(), progress


def _train_step(
    network: nn.Module,
    model: UNet3Plus,
    optimizer: torch.optim.Optimizer,
    parts: list[Batch],
    config: TrainConfig,
    device: torch.device,
    when: tuple[int, int],
    processes: ProcessGroup,
) -> float:
    """One step of the optimiser on the replicas' parts of a batch; the mean loss."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for number, (replica, (x, y)) in enumerate(zip(processes.replicas, parts, strict=True)):
        # Dropout draws the same in every process layout and after every resume.
        torch.manual_seed(hash((config.seed, *when, replica)) % 2**63)
        # Only the first replica's batch statistics run on, as in DistributedDataParallel.
        kept = [b.clone() for b in model.buffers()] if number else []
        with make_autocast(config, device):
            loss = supervised_loss(network(_to_device(x, device)), y.to(device), config.cross_entropy) / len(parts)
        loss.backward()  # type: ignore[no-untyped-call]
        for buffer, old in zip(model.buffers() if kept else (), kept, strict=True):
            buffer.copy_(old)
        total += float(loss.detach())
    optimizer.step()
    return total


@torch.no_grad()
def _validate(model: UNet3Plus, slices: SliceData, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Loss (mean over batches) and Dice of each class over all validation slices together."""
    model.eval()
    losses, counts = [], torch.zeros(2, len(Label), dtype=torch.float64)
    for x, y in iterate_validation(slices, config.batch_size):
        with make_autocast(config, device):
            outputs = model(_to_device(x, device))
        truth, predicted = y.to(device), outputs[-1].argmax(1)
        losses.append(float(supervised_loss(outputs, truth, config.cross_entropy)))
        for label in Label:
            a, b = truth == label, predicted == label
            counts[0, label] += float((a & b).sum())
            counts[1, label] += float(a.sum() + b.sum())
    dice = 2.0 * counts[0] / counts[1].clamp_min(1.0)
    names = {Label.MYOCARDIUM: "dice_myocardium", Label.BLOOD_POOL: "dice_blood_pool"}
    return {"validation_loss": sum(losses) / len(losses)} | {n: float(dice[k]) for k, n in names.items()}


def make_autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision as configured; "auto" is bfloat16 on a GPU that has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and able)
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed)


def _to_device(x: Tensor, device: torch.device) -> Tensor:
    return x.to(device, memory_format=torch.channels_last)


def _compute_learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of a step."""
    if config.schedule == "constant":
        return config.learning_rate
    warm = max(1, steps // 20)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


CONFIG_FILE, RUN_FILE = "config.json", "run.json"


def train(
    training: Cohort,
    validation: Cohort,
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    on_epoch: EpochCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Predictor:
    """Train on ``training``, stop early by ``validation``, leave everything in ``folder``.

    ``config`` defaults to the authors' recipe. The folder gets ``config.json``, ``run.json`` (versions,
    mice, checksums of the data), ``curves.csv`` and ``.png``, ``best.safetensors`` (what
    :func:`mousecmr_data.training.load` takes) and ``last.safetensors`` (the whole state). Where the folder
    holds a run with the same configuration and data, that run goes on after its last whole epoch.
    ``on_epoch`` gets each epoch's numbers, ``progress`` is called with 1 for each synthetic mouse that was rendered.
    """
    config, folder = config or TrainConfig(), Path(folder)
    if overlap := sorted(set(training.mice) & set(validation.mice)):
        raise UnknownNameError(f"{overlap[0]} is in both cohorts.", "training and validation mice that differ")
    slices = (
        _load_slices(training, config, config.pool_mice, progress),
        _load_slices(validation, config, config.validation_mice, progress),
    )
    about = _describe_run(config, training, validation, slices)
    resume = _prepare_folder(folder, config, about)
    board = _open_tensorboard(folder)

    def row(values: dict[str, float]) -> None:
        if board is not None:
            for key, value in values.items():
                board.add_scalar(key, value, int(values["epoch"]))
            board.flush()
        if on_epoch:
            on_epoch(values)

    initial = load_model(config.initial, device="cpu", engine="eager").network.state_dict() if config.initial else None
    origin = _make_weights_info(config, training)
    network, outcome = fit(config, *slices, folder, resume=resume, on_epoch=row, about=origin, initial=initial)
    if int(os.environ.get("RANK", "0")) == 0:
        _write_outcome(folder, config, about, outcome)
    return Predictor(network, WeightsInfo(**origin), config.device)


def read_config(folder: str | Path) -> TrainConfig:
    """The configuration of the run in ``folder``."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise MissingDataError(f"There is no run in {folder}: it has no {CONFIG_FILE}.", "a folder that training made")
    return TrainConfig.from_json(path.read_text(encoding="utf-8"))


def read_run(folder: str | Path) -> dict[str, Any]:
    """What ``run.json`` says."""
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise MissingDataError(f"There is no {RUN_FILE} in {folder}.", "a folder that training made")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _load_slices(cohort: Cohort, config: TrainConfig, mice: int, progress: ProgressCallback | None) -> SliceData:
    if not config.pool_mice:
        return collect_slices(cohort)
    name = cohort.source.name
    if name not in COHORTS:
        raise UnknownNameError(f"Mice cannot be invented from {name!r}.", f"a phantom: {', '.join(COHORTS)}")
    every = make_plans(name)
    cache = cohort.source.get_path(cohort.mice[0]).parent / "pools"
    # Validation mice come from other plans, so the same seed does not give the same mice.
    chosen = {m: every[m] for m in cohort.mice}
    return render_slices(chosen, mice, config.seed, any_scanner=config.any_scanner, cache=cache, progress=progress)


def _make_weights_info(config: TrainConfig, training: Cohort) -> dict[str, Any]:
    source = training.source
    kind = f"{config.pool_mice} invented mice of" if config.pool_mice else f"{len(training)} mice of"
    return {
        "name": config.recipe,
        "trained_on": f"{kind} {source.name} {source.version[:12]}",
        "limits": "Synthetic training only; research use." if training.synthetic else RESEARCH_ONLY,
        "synthetic_training": training.synthetic,
    }


def _describe_run(
    config: TrainConfig, training: Cohort, validation: Cohort, slices: tuple[SliceData, SliceData]
) -> dict[str, Any]:
    versions = {}
    for package in ("mousecmr-data", "torch", "monai", "numpy", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "versions": {"python": platform.python_version(), **versions},
        "data": {
            role: {
                "source": cohort.source.name,
                "version": cohort.source.version,
                "synthetic": cohort.synthetic,
                "mice": list(cohort.mice),
                "slices": len(part),
                "sha256_of_slices": part.checksum(),
            }
            for role, cohort, part in zip(("training", "validation"), (training, validation), slices, strict=True)
        },
    }


def _prepare_folder(folder: Path, config: TrainConfig, about: dict[str, Any]) -> bool:
    """Make the folder, or find the run in it; whether there is an epoch to go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / LAST_FILE).exists():
        if read_config(folder) != config:
            raise FileLayoutError(
                f"{folder} holds a run with another configuration.", "a new folder, or the same configuration"
            )
        if read_run(folder)["data"] != about["data"]:
            raise FileLayoutError(f"{folder} holds a run on other data.", "the same mice and the same files")
        return True
    if int(os.environ.get("RANK", "0")) == 0:
        write_text(folder / CONFIG_FILE, config.to_json())
        write_json(folder / RUN_FILE, about)
    return False


def _write_outcome(folder: Path, config: TrainConfig, about: dict[str, Any], progress: TrainingProgress) -> None:
    draw_curves(folder, progress.curve, f"{config.recipe}, seed {config.seed}")
    outcome = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_validation_loss": progress.best_loss,
        "seconds": sum(row["seconds"] for row in progress.curve),
    }
    write_json(folder / RUN_FILE, {**about, "outcome": outcome})


def _open_tensorboard(folder: Path) -> Any:
    """A TensorBoard writer, where TensorBoard is installed and this process writes files."""
    if int(os.environ.get("RANK", "0")):
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
