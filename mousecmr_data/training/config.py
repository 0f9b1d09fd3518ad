"""The configuration of a training run, and the named recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.models.unet3plus import CHANNELS

Augmentation = Literal["paper", "notebook", "randomised", "none"]
Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["constant", "one-cycle"]


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run. The defaults are the authors' recipe (docs/training.md)."""

    recipe: str = "published"
    channels: tuple[int, ...] = CHANNELS
    reduce: int = 1
    """The network first averages this many pixels along each axis; 1 is the published network."""
    context: int = 0
    """Number of neighbouring slices on each side that the network sees; 0 is the published network."""
    scaling: str = "min-max"
    """How grey values are scaled slice by slice (:data:`mousecmr_data.inference.grid.SCALINGS`)."""
    deep_supervision: bool = True
    batch_size: int = 16
    replicas: int = 1
    """Number of parts of each batch: each has its own batch statistics, gradients are averaged. The processes of
    ``torchrun`` compute them, or one process computes one after the other."""
    epochs: int = 200
    steps_per_epoch: int | None = None
    """None means the number of training slices // batch size."""
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    """"one-cycle" warms up over a twentieth of the steps, then falls to zero as a cosine."""
    patience: int = 25
    """Number of epochs without a better validation loss after which training stops."""
    cross_entropy: float = 0.0
    """Weight of the cross-entropy that is added to soft Dice."""
    augmentation: Augmentation = "paper"
    precision: Precision = "auto"
    """"auto" is bfloat16 on a GPU that supports it, else float32."""
    device: str = "auto"
    seed: int = 0
    pool_mice: int = 0
    """Number of synthetic mice to render for training; 0 trains on the cohort's labelled slices."""
    any_scanner: float = 0.0
    """Share of the synthetic mice imaged by other scanners than the cohort's: field strength, timing, resolution."""
    initial: str = ""
    """Name or path of the weights to start from; empty means random weights."""
    validation_mice: int = 10
    """Number of synthetic mice to validate on, if training is on synthetic mice."""
    end_weight: float = 1.0
    """How many times as often as other slices those at the ventricle's ends are drawn: the last with a label, and the
    first without, towards base and apex."""
    frozen_statistics: bool = False
    """Normalise with the batch statistics of the initial weights: for tuning on few slices."""
    crop: int = 0
    """Side in pixels of the random square that is cut from each training slice; 0 is the whole slice."""
    half_weights: bool = False
    """Write the convolutions of the best weights as float16, which halves the file size."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "replicas", "epochs", "patience", "reduce"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} is {getattr(self, name)}.", "1 or more")
        if self.batch_size % self.replicas:
            text = f"A batch of {self.batch_size} cannot be split among {self.replicas} replicas."
            raise ArgumentError(text, "a multiple")

    def to_json(self) -> str:
        """Return the configuration as JSON text, which :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Return the configuration in a JSON text; an unknown key raises :class:`UnknownNameError`."""
        return update_config(cls(), json.loads(text))


_PHANTOM = TrainConfig(schedule="one-cycle", cross_entropy=0.5, augmentation="randomised", seed=1, any_scanner=0.4)
RECIPES: Mapping[str, TrainConfig] = {
    "published": TrainConfig(),
    "phantom-small": replace(
        _PHANTOM,
        recipe="phantom-small",
        channels=(12, 24, 48, 96, 192),
        reduce=2,
        context=1,
        scaling="min-p99",
        batch_size=8,
        epochs=36,
        steps_per_epoch=250,
        learning_rate=2e-3,
        patience=36,
        precision="bfloat16",
        pool_mice=480,
        validation_mice=10,
        end_weight=2.0,
        crop=192,
        half_weights=True,
    ),
    # Of `mousecmr tune`: a few reviewed mice, the network that segmented them.
    "tuning": TrainConfig(
        recipe="tuning",
        schedule="one-cycle",
        cross_entropy=0.5,
        augmentation="randomised",
        batch_size=8,
        epochs=6,
        steps_per_epoch=8,
        learning_rate=5e-4,
        patience=4,
        end_weight=2.0,
        crop=160,
        frozen_statistics=True,
    ),
    # The published network on synthetic mice; the number of steps suits a computer without a GPU.
    "phantom-full-width": replace(
        _PHANTOM,
        recipe="phantom-full-width",
        batch_size=4,
        epochs=6,
        steps_per_epoch=100,
        pool_mice=400,
        validation_mice=3,
        crop=160,
    ),
}


def get_recipe(name: str) -> TrainConfig:
    """Return the recipe ``name``; raises :class:`UnknownNameError` if there is none."""
    if name not in RECIPES:
        raise UnknownNameError(f"There is no recipe {name!r}.", f"one of {', '.join(map(repr, RECIPES))}")
    return RECIPES[name]


def update_config(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with ``values`` replaced; an unknown key raises :class:`UnknownNameError`."""
    known = {f.name for f in fields(TrainConfig)}
    if unknown := sorted(set(values) - known):
        raise UnknownNameError(f"A configuration has no {unknown[0]!r}.", f"one of {', '.join(sorted(known))}")
    values = {k: tuple(v) if k == "channels" else v for k, v in values.items()}
    return replace(config, **values)
