"""A training run: its folder, which says everything about it, and the call that fills it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from mousecmr_data.baseline import checkpoint, curves, loop
from mousecmr_data.baseline.checkpoint import Progress
from mousecmr_data.baseline.config import Config
from mousecmr_data.baseline.gathering import gathered
from mousecmr_data.baseline.pool import rendered
from mousecmr_data.baseline.segmenter import Origin, Segmenter
from mousecmr_data.baseline.slices import Slices
from mousecmr_data.baseline.weights import load
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.errors import FileLayoutError, MissingDataError, UnknownNameError
from mousecmr_data.models.safetensors import write_text
from mousecmr_data.phantom import COHORTS, plans

CONFIG, RUN = "config.json", "run.json"


def train(
    training: Cohort,
    validation: Cohort,
    folder: str | Path,
    config: Config | None = None,
    *,
    tell: Callable[[dict[str, float]], None] | None = None,
    made: Callable[[int], None] | None = None,
) -> Segmenter:
    """Train on ``training``, stop early by ``validation``, leave everything in ``folder``.

    ``config`` defaults to the authors' recipe. The folder gets ``config.json``, ``run.json`` (versions,
    mice, checksums of the data), ``curves.csv`` and ``.png``, ``best.safetensors`` (what
    :func:`mousecmr_data.baseline.load` takes) and ``last.safetensors`` (the whole state). Where the folder
    holds a run with the same configuration and data, that run goes on after its last whole epoch.
    ``tell`` gets each epoch's numbers, ``made`` is called for each invented mouse that was rendered.
    """
    config, folder = config or Config(), Path(folder)
    if overlap := sorted(set(training.mice) & set(validation.mice)):
        raise UnknownNameError(f"{overlap[0]} is in both cohorts.", "training and validation mice that differ")
    slices = (
        _slices(training, config, config.pool_mice, made),
        _slices(validation, config, config.validation_mice, made),
    )
    about = _about(config, training, validation, slices)
    resume = _begin(folder, config, about)
    board = _board(folder)

    def row(values: dict[str, float]) -> None:
        if board is not None:
            for key, value in values.items():
                board.add_scalar(key, value, int(values["epoch"]))
            board.flush()
        if tell:
            tell(values)

    initial = load(config.initial, device="cpu", engine="eager").network.state_dict() if config.initial else None
    origin = _origin(config, training)
    network, progress = loop.fit(config, *slices, folder, resume=resume, tell=row, about=origin, initial=initial)
    if int(os.environ.get("RANK", "0")) == 0:
        _finish(folder, config, about, progress)
    return Segmenter(network, Origin(**origin), config.device)


def configuration(folder: str | Path) -> Config:
    """The configuration of the run in ``folder``."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise MissingDataError(f"There is no run in {folder}: it has no {CONFIG}.", "a folder that training made")
    return Config.from_json(path.read_text(encoding="utf-8"))


def record(folder: str | Path) -> dict[str, Any]:
    """What ``run.json`` says."""
    path = Path(folder) / RUN
    if not path.is_file():
        raise MissingDataError(f"There is no {RUN} in {folder}.", "a folder that training made")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _slices(cohort: Cohort, config: Config, mice: int, made: Callable[[int], None] | None) -> Slices:
    if not config.pool_mice:
        return gathered(cohort)
    name = cohort.source.name
    if name not in COHORTS:
        raise UnknownNameError(f"Mice cannot be invented from {name!r}.", f"a phantom: {', '.join(COHORTS)}")
    every = plans(name)
    cache = cohort.source.file(cohort.mice[0]).parent / "pools"
    # Validation mice come from other plans, so the same seed does not give the same mice.
    chosen = {m: every[m] for m in cohort.mice}
    return rendered(chosen, mice, config.seed, any_scanner=config.any_scanner, cache=cache, done=made)


def _origin(config: Config, training: Cohort) -> dict[str, Any]:
    source = training.source
    kind = f"{config.pool_mice} invented mice of" if config.pool_mice else f"{len(training)} mice of"
    return {
        "name": config.recipe,
        "trained_on": f"{kind} {source.name} {source.version[:12]}",
        "limits": "Synthetic training only; research use."
        if training.synthetic
        else "Research use, not for clinical use.",
        "synthetic_training": training.synthetic,
    }


def _about(config: Config, training: Cohort, validation: Cohort, slices: tuple[Slices, Slices]) -> dict[str, Any]:
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


def _begin(folder: Path, config: Config, about: dict[str, Any]) -> bool:
    """Make the folder, or find the run in it; whether there is an epoch to go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / checkpoint.LAST).exists():
        if configuration(folder) != config:
            raise FileLayoutError(
                f"{folder} holds a run with another configuration.", "a new folder, or the same configuration"
            )
        if record(folder)["data"] != about["data"]:
            raise FileLayoutError(f"{folder} holds a run on other data.", "the same mice and the same files")
        return True
    if int(os.environ.get("RANK", "0")) == 0:
        write_text(folder / CONFIG, config.to_json())
        write_text(folder / RUN, json.dumps(about, indent=2))
    return False


def _finish(folder: Path, config: Config, about: dict[str, Any], progress: Progress) -> None:
    curves.draw(folder, progress.curve, f"{config.recipe}, seed {config.seed}")
    outcome = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_validation_loss": progress.best_loss,
        "seconds": sum(row["seconds"] for row in progress.curve),
    }
    write_text(folder / RUN, json.dumps({**about, "outcome": outcome}, indent=2))


def _board(folder: Path) -> Any:
    """A TensorBoard writer, where TensorBoard is installed and this process writes files."""
    if int(os.environ.get("RANK", "0")):
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
