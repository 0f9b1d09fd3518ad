"""Train a network. The run folder holds the weights and everything needed to describe and resume the run."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mousecmr_data._utils.atomic import atomic_path, translate_os_error, write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.environment import copy_to_device, list_versions, select_device
from mousecmr_data._utils.outputs import (
    BEING_WRITTEN,
    RECORD_FILE,
    check_apart,
    check_replaceable,
    find_paths,
    list_files,
    read_listed_files,
)
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data._utils.tables import format_csv
from mousecmr_data._utils.text import RESEARCH_ONLY, format_count
from mousecmr_data.dataset.cohort import Cohort, check_no_leakage, list_inputs
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, MissingExtraError
from mousecmr_data.inference.predictor import Predictor, WeightsInfo, load_model
from mousecmr_data.models.network import UNET3PLUS, NetworkLike, SegmentationNetwork, build_network, get_source
from mousecmr_data.models.safetensors import read_tensors, read_weights, write_tensors, write_weights
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.phantom import make_plans
from mousecmr_data.plotting import create_figure, escape_math
from mousecmr_data.schema import PHANTOMS
from mousecmr_data.schema.labels import MEANINGS, Label
from mousecmr_data.training.config import STUDENT, TrainConfig, update_config
from mousecmr_data.training.data import (
    SliceData,
    collect_slices,
    iterate_epoch,
    iterate_validation,
    render_slices,
)
from mousecmr_data.training.distillation import (
    compare_with_teacher,
    describe_report,
    join_mice,
    read_mice,
    split_pool,
    teach,
)

LAST_FILE, BEST_FILE = "last.safetensors", "best.safetensors"


@dataclass
class TrainingProgress:
    """The state of a run beside its weights: epochs done, best epoch and learning curve."""

    epoch: int = 0
    """Number of epochs done."""
    best_loss: float = float("inf")
    best_epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch: epoch, loss, validation_loss, learning_rate, Dice on the validation slices, seconds, and how
    many of these the steps waited for data and computed; the rest is validation."""


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


SMOOTHING = 1e-6


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes including the background (source: the authors' recipe).

    ``logits`` are (N, classes, Y, X), ``labels`` integers (N, Y, X) or probabilities (N, classes, Y, X). Sums run over
    batch and pixels. The overlap with probabilities is the smaller of the two, which equals the product for labels, so
    that the loss is least where both are equal (Wang et al., Dice semimetric losses, MICCAI 2023).
    """
    probabilities = logits.float().softmax(1)
    dims = (0, 2, 3)
    if labels.is_floating_point():
        truth = labels
        overlap = torch.minimum(probabilities, truth).sum(dims)
    else:
        truth = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
        overlap = (probabilities * truth).sum(dims)
    total = probabilities.sum(dims) + truth.sum(dims)
    return 1.0 - ((2.0 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()


def supervised_loss(outputs: Sequence[Tensor], labels: Tensor, cross_entropy: float = 0.0) -> Tensor:
    """Return the mean loss over all heads; ``cross_entropy`` is the weight of that term.

    ``labels`` are those of :func:`soft_dice_loss`.
    """
    target = labels if labels.is_floating_point() else labels.long()
    losses = []
    for logits in outputs:
        loss = soft_dice_loss(logits, labels)
        if cross_entropy:
            loss = loss + cross_entropy * F.cross_entropy(logits.float(), target)
        losses.append(loss)
    return torch.stack(losses).mean()


CONFIG_FILE, RUN_FILE, CURVES_FILE, PLOT_FILE = "config.json", "run.json", "curves.csv", "curves.png"
CARD_FILE = "best.toml"
RUN_FILES = (CONFIG_FILE, RUN_FILE, CURVES_FILE, PLOT_FILE, BEST_FILE, CARD_FILE, LAST_FILE)
EpochCallback = Callable[[dict[str, float]], None]


def draw_curves(folder: Path, curve: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw ``curves.png``, losses and Dice over the epochs; without matplotlib, do nothing."""
    try:
        figure = create_figure(figsize=(9, 3.6), layout="constrained")
    except MissingExtraError:
        return
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
    figure.suptitle(escape_math(title))
    with atomic_path(folder / PLOT_FILE) as partial:
        figure.savefig(partial, dpi=120)


def fit(
    config: TrainConfig,
    training: SliceData,
    validation: SliceData | Callable[[SegmentationNetwork], dict[str, float]] | None,
    folder: Path,
    *,
    resume: bool = False,
    on_epoch: EpochCallback | None = None,
    about: Mapping[str, Any] | None = None,
    initial: Mapping[str, Tensor] | None = None,
    model: SegmentationNetwork | None = None,
) -> tuple[SegmentationNetwork, TrainingProgress]:
    """Train a network as ``config`` says, or ``model``, and write checkpoints and curves to ``folder``.

    Returns the network with the best validation loss and the run's progress. With ``resume``, training continues after
    the last whole epoch and gives the same result as an uninterrupted run. ``on_epoch`` is called with the row of each
    epoch. ``about`` is written to the header of the weights. ``initial`` is a state dict to start from.

    ``validation`` may be a function that returns the columns of a row, "validation_loss" among them; the network of
    epoch 0, as it began, then counts, too. With None, the last epoch is the best.
    """
    processes = ProcessGroup.join(config.replicas)
    device = select_device(config.device, processes.local)
    if config.crop > min(training.image.shape[1:]):
        rows, columns = training.image.shape[1:]
        raise ArgumentError(f"The crop is {config.crop}.", f"at most the size of the slices, {rows} × {columns}")
    model = model or make_network(config)
    model.deep_supervision = config.deep_supervision
    if initial is not None:
        model.load_state_dict(initial)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    progress = restore_checkpoint(folder, model, optimizer, config) if resume else TrainingProgress()
    network = processes.wrap_model(model, device)
    steps = config.steps_per_epoch or max(1, len(training) // config.batch_size)

    def check() -> dict[str, float]:
        if isinstance(validation, SliceData):
            return validate(model, validation, config)
        return validation(model) if validation else {}

    def keep_best(row: dict[str, float], epoch: int) -> None:
        progress.epoch = epoch
        progress.curve.append(row)
        if validation is None or row["validation_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = row.get("validation_loss", progress.best_loss), epoch
            if processes.is_first:
                write_weights(folder / BEST_FILE, model, {**(about or {}), "epoch": epoch}, half=config.half_weights)

    if callable(validation) and not progress.curve:
        keep_best({"epoch": 0.0, **check()}, 0)
    while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
        started, epoch = time.monotonic(), progress.epoch + 1
        network.train()
        if config.frozen_statistics:
            for layer in filter(lambda part: isinstance(part, nn.BatchNorm2d), model.modules()):
                layer.eval()
        losses: list[Tensor] = []
        waited, total = 0.0, 0.0
        with closing(iterate_epoch(training, config, epoch, steps, processes.replicas, device)) as batches:
            for step in range(steps):
                asked = time.monotonic()
                parts = next(batches)
                waited += time.monotonic() - asked
                rate = _compute_learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses.append(_train_step(network, model, optimizer, parts, config, device, (epoch, step), processes))
        for of_parts in torch.stack(losses).tolist():  # read once: a GPU computes while later steps are prepared
            total += sum(of_parts)
        computed = time.monotonic() - started - waited
        row = {"epoch": float(epoch), "loss": processes.average(total / steps, device), "learning_rate": rate}
        row |= processes.broadcast(check() if processes.is_first else None)
        row |= {"seconds": time.monotonic() - started, "seconds_waiting": waited, "seconds_computing": computed}
        keep_best(row, epoch)
        if processes.is_first:
            save_checkpoint(folder, model, optimizer, progress, config)
            table = pd.DataFrame(progress.curve)
            write_text(folder / CURVES_FILE, format_csv(table, missing="nan"))
            if on_epoch:
                on_epoch(row)
    processes.leave()
    if not (folder / BEST_FILE).exists():
        text = f"The loss was not a number in any of {progress.epoch} epochs."
        raise ArgumentError(text, "a network and settings that train", "a smaller learning_rate")
    best, _ = read_weights(folder / BEST_FILE)
    model.module.load_state_dict(best)
    return model.eval(), progress


def make_network(config: TrainConfig, network: NetworkLike | None = None) -> SegmentationNetwork:
    """Return the network of ``config``, or ``network`` with its arguments, with random weights from its seed."""
    torch.manual_seed(config.seed)
    network = config.network if network is None else network
    arguments = config.make_network_args()
    known = arguments or not isinstance(network, nn.Module)  # weights can be loaded into a module, not make it again
    return build_network(network, arguments if known else None, context=config.context, scaling=config.scaling)


def _train_step(
    network: nn.Module,
    model: SegmentationNetwork,
    optimizer: torch.optim.Optimizer,
    parts: list[tuple[Tensor, Tensor]],
    config: TrainConfig,
    device: torch.device,
    epoch_step: tuple[int, int],
    processes: ProcessGroup,
) -> Tensor:
    """Do one step of the optimiser on the replicas' parts of a batch; return each part's share of the mean loss."""
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for number, (replica, (x, y)) in enumerate(zip(processes.replicas, parts, strict=True)):
        # Dropout must be the same in every process layout and after every resume.
        torch.manual_seed(hash((config.seed, *epoch_step, replica)) % 2**63)
        # Only the first replica updates the running batch statistics, as in DistributedDataParallel.
        buffers = [b.clone() for b in model.buffers()] if number else []
        with make_autocast(config, device):
            outputs = network(copy_to_device(x, device).to(memory_format=torch.channels_last))
            loss = supervised_loss(outputs, copy_to_device(y, device), config.cross_entropy) / len(parts)
        loss.backward()  # type: ignore[no-untyped-call]
        for buffer, old in zip(model.buffers() if buffers else (), buffers, strict=True):
            buffer.copy_(old)
        losses.append(loss.detach())
    optimizer.step()
    return torch.stack(losses)


@torch.no_grad()
def validate(model: SegmentationNetwork, slices: SliceData, config: TrainConfig) -> dict[str, float]:
    """Return the loss (mean over batches) and the Dice of each class over all validation slices together."""
    model.eval()
    device = next(model.parameters()).device
    losses, counts = [], torch.zeros(2, len(Label), dtype=torch.int64, device=device)
    for x, y in iterate_validation(slices, config):
        with make_autocast(config, device):
            outputs = model(copy_to_device(x, device).to(memory_format=torch.channels_last))
        truth, predicted = copy_to_device(y, device), outputs[-1].argmax(1)
        losses.append(supervised_loss(outputs, truth, config.cross_entropy))
        truth = truth.argmax(1) if truth.is_floating_point() else truth
        for label in Label:
            a, b = truth == label, predicted == label
            counts[0, label] += (a & b).sum()
            counts[1, label] += a.sum() + b.sum()
    common, both = counts.cpu().double()
    dice = 2.0 * common / both.clamp_min(1.0)
    names = {Label.MYOCARDIUM: "dice_myocardium", Label.BLOOD_POOL: "dice_blood_pool"}
    return {"validation_loss": sum(torch.stack(losses).tolist()) / len(losses)} | {
        n: float(dice[k]) for k, n in names.items()
    }


def make_autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[None]:
    """Return the context of mixed precision; "auto" is bfloat16 on a GPU that supports it."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and supported)
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed)


def _compute_learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    if config.schedule == "constant":
        return config.learning_rate
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(
    training: Cohort,
    validation: Cohort,
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    on_epoch: EpochCallback | None = None,
    progress: ProgressCallback | None = None,
    overwrite: bool = False,
    network: NetworkLike | None = None,
    network_args: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> Predictor:
    """Train on ``training``, stop early by ``validation``, and write everything to ``folder``.

    ``network`` is any network from slices (N, 1 + 2 · context, Y, X) to logits (N, 3, Y, X), or a list of them of which
    the last is the prediction: a module, a class, or its import path "package.module:Class"; default: that of
    ``config``. A class is made with ``network_args`` (JSON values), and so it is again when its weights are loaded.

    ``config`` defaults to the authors' recipe. The folder gets ``config.json``, ``run.json`` (versions, mice, checksums
    of the data), ``curves.csv`` and ``.png``, ``best.safetensors`` (weights for
    :func:`mousecmr_data.inference.load_model`) and ``last.safetensors`` (the whole state). If the folder holds a run
    with the same configuration and data, that run continues after its last whole epoch. ``on_epoch`` is called with the
    numbers of each epoch, ``progress`` with 1 for each synthetic mouse that was rendered, and each mouse that the
    teacher labelled. ``cache`` is the folder of the cache, for weights by name and for the teacher's labels.

    With a teacher (``config.teacher``), no masks are read: the network learns the teacher's probabilities on every
    frame, and stops early by these. ``run.json`` and the weights' card, ``best.toml``, then tell how well it did on
    ``validation`` (:func:`mousecmr_data.training.distillation.compare_with_teacher`).

    Raises :class:`ArgumentError` if a mouse is in both cohorts, :class:`FileLayoutError` if the folder holds a run with
    another configuration or other data, and :class:`OutputError` if it meets files of the cohorts, or holds files of
    these names that are of no run, or of one and edited since it ended (``overwrite`` replaces edited files).
    """
    config, folder = config or TrainConfig(), Path(folder)
    if network is not None:
        config = update_config(config, {"network": get_source(network)})
    if network_args is not None:
        config = update_config(config, {"network_args": network_args})
    if config.recipe == STUDENT and not config.teacher:
        text = f"The recipe {STUDENT!r} has no teacher."
        raise ArgumentError(text, "the name or the path of weights", "--teacher WEIGHTS (Python: teacher=)")
    # "exact" gives the same labels on every machine, which "auto" does not.
    teacher = load_model(config.teacher, device=config.device, engine="exact", cache=cache) if config.teacher else None
    start = _load_initial(config, network, cache) if config.initial else None
    if start:  # a network is tuned as it is: its layout is not another setting
        config = adopt_layout(config, start.network)
    model = make_network(config, network)
    config = adopt_layout(config, model)
    check_no_leakage(training, validation)
    inputs = [*list_inputs(training), *list_inputs(validation), *find_paths(config.initial)]
    inputs += find_paths(config.teacher)
    check_apart([folder, *(folder / name for name in RUN_FILES)], inputs)
    check_replaceable(folder, RUN_FILES, _list_run_files(folder), overwrite=overwrite)
    roles = ((training, config.pool_mice), (validation, config.validation_mice))
    held_out: list[SliceData] = []
    if teacher:
        *_, held_out = taught = [_load_taught(*role, config, teacher, cache, progress) for role in roles]
        slices = (join_mice(taught[0]), join_mice(held_out))
    else:
        slices = (_load_slices(*roles[0], config, progress), _load_slices(*roles[1], config, progress))
    about = _describe_run(config, training, validation, slices, model)
    lineage = {}
    if teacher:
        lineage = {"teacher": {k: getattr(teacher.origin, k) for k in ("name", "sha256", "licence", "trained_on")}}
        about |= lineage
    resume = _prepare_folder(folder, config, about)
    tensorboard: Any = None
    if _is_first_process():
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            tensorboard = SummaryWriter(str(folder / "tensorboard"))

    def report(row: dict[str, float]) -> None:
        if tensorboard is not None:
            for key, value in row.items():
                tensorboard.add_scalar(key, value, int(row["epoch"]))
            tensorboard.flush()
        if on_epoch:
            on_epoch(row)

    initial = start.network.state_dict() if start else None
    kind = f"{config.pool_mice} invented mice of" if config.pool_mice else f"{format_count(len(training), 'mouse')} of"
    trained_on = f"{kind} {training.source.name} {training.source.version[:12]}"
    n_synthetic = len(training.list_synthetic())
    if 0 < n_synthetic < len(training):
        trained_on += f", {n_synthetic} of them SYNTHETIC"
    synthetic = n_synthetic > 0 if n_synthetic in (0, len(training)) else None
    name = folder.resolve().name
    ancestors = (found.origin if found else None for found in (start, teacher))
    origin = describe_origin(name, trained_on, synthetic, *ancestors)
    header = make_header(origin) | lineage
    model, state = fit(
        config, *slices, folder, resume=resume, on_epoch=report, about=header, initial=initial, model=model
    )
    if _is_first_process():
        draw_curves(folder, state.curve, f"{config.recipe}, seed {config.seed}")
        outcome: dict[str, Any] = {
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "best_validation_loss": state.best_loss,
            "seconds": sum(row["seconds"] for row in state.curve),
        }
        if teacher:
            student = Predictor(model, origin, config.device, engine="exact")
            measured = compare_with_teacher(student, teacher, held_out, validation)
            outcome["student"] = measured
            card = make_card(origin, model, folder / BEST_FILE, describe_report(measured), "mousecmr train")
            write_text(folder / CARD_FILE, card)
        write_json(folder / RUN_FILE, {**about, "outcome": outcome})
        list_files(folder, [name for name in RUN_FILES if (folder / name).exists()])
    return Predictor(model, origin, config.device)


def _load_initial(config: TrainConfig, network: NetworkLike | None, cache: str | Path | None) -> Predictor:
    """Load the weights to start from; the caller's network, if there is one, is not touched."""
    if isinstance(network, nn.Module):
        network = deepcopy(network)
    elif network is None and config.network != UNET3PLUS:
        network = config.network
    return load_model(config.initial, device="cpu", engine="eager", network=network, cache=cache)


def adopt_layout(config: TrainConfig, network: SegmentationNetwork) -> TrainConfig:
    """Return ``config`` with the network, its arguments, context and scaling of ``network``."""
    values: dict[str, Any] = {"network": network.source, "context": network.context, "scaling": network.scaling}
    if isinstance(network, UNet3Plus):
        values |= {"channels": network.channels, "reduce": network.reduce, "network_args": {}}
    else:
        values["network_args"] = network.arguments or {}
    return update_config(config, values)


def describe_origin(
    name: str,
    trained_on: str,
    synthetic: bool | None,
    ancestor: WeightsInfo | None = None,
    teacher: WeightsInfo | None = None,
) -> WeightsInfo:
    """Describe weights that were trained on mice, all ``synthetic`` or none (None: some), beginning with others, or
    taught by others.
    """
    origins = [found for found in (ancestor, teacher) if found]
    only_synthetic = synthetic is True and all(found.synthetic_training for found in origins)
    limits = (
        "Synthetic training only; research use." if only_synthetic or (synthetic and not teacher) else RESEARCH_ONLY
    )
    for found in origins:
        mark = " (SYNTHETIC)" if found.synthetic_training else ""
        how = "began with" if found is ancestor else "taught by"
        trained_on += f"; {how} {found.name}{mark}, trained on {found.trained_on}"
    if teacher:
        limits += f" Derived from {teacher.name} (SHA-256 {teacher.sha256}), licence: {teacher.licence}."
    was_synthetic = any(found.synthetic_training or found.synthetic_ancestry for found in origins)
    return WeightsInfo(
        name, trained_on, limits, only_synthetic,
        synthetic_ancestry=was_synthetic or (synthetic is not False and not only_synthetic),
        licence=teacher.licence if teacher else WeightsInfo.licence,
    )  # fmt: skip


def make_header(origin: WeightsInfo) -> dict[str, Any]:
    """Return what the header of a weights file says about their origin; their SHA-256 is not known yet."""
    return {k: v for k, v in vars(origin).items() if k != "sha256"}


def make_card(
    origin: WeightsInfo, network: SegmentationNetwork, path: Path, measured: Mapping[str, str], command: str
) -> str:
    """Return the card of a weights file that ``command`` made as TOML, as that of ``phantom-small``."""

    def quote(value: object) -> str:  # JSON is TOML here: texts without DEL, numbers, booleans and lists
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "")

    entry = {
        "name": origin.name, "path": path.name, "url": "", "sha256": compute_sha256(path), "size": path.stat().st_size,
        "licence": origin.licence, "channels": list(getattr(network, "channels", ())),
        "classes": list(MEANINGS.values()), "scaling": network.scaling, "context": network.context,
        "trained_on": origin.trained_on, "limits": origin.limits,
    }  # fmt: skip
    marks = {key: getattr(origin, key) for key in ("synthetic_training", "synthetic_ancestry")}
    lines = [f"# Written by {command}.", *(f"{key} = {quote(value)}" for key, value in marks.items())]
    lines += ["", "[weights]", *(f"{key} = {quote(value)}" for key, value in entry.items())]
    lines += ["", "[measured]", *(f"{quote(key)} = {quote(value)}" for key, value in measured.items())]
    return "\n".join(lines) + "\n"


def read_run(folder: str | Path, name: str = RUN_FILE) -> dict[str, Any]:
    """Return the content of ``run.json``, or of another JSON file, in ``folder``.

    Raises :class:`MissingDataError` if there is no such file.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise MissingDataError(f"There is no run in {folder}: it has no {name}.", "a folder written by mousecmr train")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _load_taught(
    cohort: Cohort,
    mice: int,
    config: TrainConfig,
    teacher: Predictor,
    cache: str | Path | None,
    progress: ProgressCallback | None,
) -> list[SliceData]:
    """Return the mice to learn from, each with the teacher's probabilities."""
    if config.pool_mice:
        pool = _load_slices(cohort, mice, config, progress)
        return teach(split_pool(pool), teacher, total=mice, cache=cache, progress=progress)
    return teach(read_mice(cohort), teacher, total=len(cohort), cache=cache, progress=progress)


def _load_slices(cohort: Cohort, mice: int, config: TrainConfig, progress: ProgressCallback | None) -> SliceData:
    if not config.pool_mice:
        return collect_slices(cohort)
    name = cohort.source.name
    if name not in PHANTOMS:
        raise ArgumentError(f"No synthetic mice can be made from {name!r}.", f"a phantom: {', '.join(PHANTOMS)}")
    all_plans = make_plans(name)
    cache = cohort.source.get_path(cohort.mice[0]).parent / "pools"
    # Validation mice come from other plans, so the same seed does not give the same mice.
    plans = {m: all_plans[m] for m in cohort.mice}
    return render_slices(plans, mice, config.seed, any_scanner=config.any_scanner, cache=cache, progress=progress)


def _describe_run(
    config: TrainConfig,
    training: Cohort,
    validation: Cohort,
    slices: tuple[SliceData, SliceData],
    model: SegmentationNetwork,
) -> dict[str, Any]:
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "network": model.describe() | {"parameters": sum(p.numel() for p in model.parameters())},
        "versions": list_versions("torch", "monai", "numpy", "safetensors", missing="not installed"),
        "data": {
            role: {
                "source": cohort.source.name,
                "version": cohort.source.version,
                "synthetic": bool(cohort.list_synthetic()),
                "mice": list(cohort.mice),
                "slices": len(part),
                "sha256_of_slices": part.checksum(),
            }
            for role, cohort, part in zip(("training", "validation"), (training, validation), slices, strict=True)
        },
    }


def _list_run_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a run in ``folder``, by name; empty while it goes on."""
    listed = read_listed_files(folder / RECORD_FILE)
    if listed or not all((folder / name).is_file() for name in (CONFIG_FILE, RUN_FILE, LAST_FILE)):
        return listed
    return dict.fromkeys(RUN_FILES, BEING_WRITTEN)  # a run from before files were listed; its files are checked later


def _prepare_folder(folder: Path, config: TrainConfig, about: dict[str, Any]) -> bool:
    """Make the folder and return False, or True if it holds a run to resume."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise translate_os_error(e, folder) from e
    if (folder / LAST_FILE).exists():
        check_config(folder, update_config(TrainConfig(), read_run(folder, CONFIG_FILE)), config)
        if read_run(folder)["data"] != about["data"]:
            raise FileLayoutError(f"{folder} holds a run on other data.", "the same mice and the same files")
    if _is_first_process():
        list_files(folder, RUN_FILES, being_written=True)
    if (folder / LAST_FILE).exists():
        return True
    if _is_first_process():
        write_text(folder / CONFIG_FILE, config.to_json())
        write_json(folder / RUN_FILE, about)
    return False


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
