"""The one configuration of a training run, and the recipes that are kept by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.models.unet3plus import CHANNELS

Augmentation = Literal["paper", "notebook", "randomised", "none"]
Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["constant", "one-cycle"]


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are the authors' recipe (docs/training.md)."""

    recipe: str = "published"
    channels: tuple[int, ...] = CHANNELS
    reduce: int = 1
    """The network averages this many pixels along each axis first; 1 is the published network."""
    deep_supervision: bool = True
    batch_size: int = 16
    replicas: int = 1
    """Parts that each batch is split into, each with its own batch statistics, gradients averaged: the
    processes of ``torchrun``, or, in one process, one after the other."""
    epochs: int = 200
    steps_per_epoch: int | None = None
    """None: number of training slices // batch size."""
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    """"one-cycle" warms up over a twentieth of the steps and falls to nothing as a cosine."""
    patience: int = 25
    """Epochs without a better validation loss before training stops."""
    cross_entropy: float = 0.0
    """Weight of cross-entropy beside soft Dice."""
    augmentation: Augmentation = "paper"
    precision: Precision = "auto"
    """"auto" is bfloat16 where the GPU has it, float32 elsewhere."""
    device: str = "auto"
    seed: int = 0
    pool_mice: int = 0
    """Invented mice to render for training; 0 trains on the cohort's labelled slices."""
    any_scanner: float = 0.0
    """Share of the invented mice seen by scanners other than the cohort's: field strength, timing, resolution."""
    initial: str = ""
    """Weights to start from, by name or path; empty: random ones."""
    validation_mice: int = 10
    """Invented mice to validate on, where training is on invented mice."""
    crop: int = 0
    """Side in pixels of the random square that training sees of each slice; 0 is the whole slice."""
    half_weights: bool = False
    """Write the best convolutions as float16: half the size of the file."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "replicas", "epochs", "patience", "reduce"):
            if getattr(self, name) < 1:
                raise UnknownNameError(f"{name} is {getattr(self, name)}.", "1 or more")
        if self.batch_size % self.replicas:
            raise UnknownNameError(
                f"A batch of {self.batch_size} cannot be split among {self.replicas} replicas.", "a multiple"
            )

    def to_json(self) -> str:
        """The configuration as JSON text; :meth:`from_json` reads it."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """The configuration in a JSON text; unknown keys are an error."""
        return update_config(cls(), json.loads(text))


RECIPES: Mapping[str, TrainConfig] = {
    "published": TrainConfig(),
    "phantom-small": TrainConfig(
        recipe="phantom-small",
        channels=(12, 24, 48, 96, 192),
        reduce=2,
        batch_size=8,
        epochs=28,
        steps_per_epoch=100,
        learning_rate=2e-3,
        schedule="one-cycle",
        patience=28,
        cross_entropy=0.5,
        augmentation="randomised",
        precision="float32",
        seed=1,
        pool_mice=400,
        any_scanner=0.4,
        validation_mice=20,
        half_weights=True,
    ),
    # The published network on invented mice, as long as a processor without a GPU allows.
    "phantom-full-width": TrainConfig(
        recipe="phantom-full-width",
        batch_size=4,
        epochs=6,
        steps_per_epoch=100,
        schedule="one-cycle",
        cross_entropy=0.5,
        augmentation="randomised",
        seed=1,
        pool_mice=400,
        any_scanner=0.4,
        validation_mice=3,
        crop=160,
    ),
}


def get_recipe(name: str) -> TrainConfig:
    """A recipe by name."""
    if name not in RECIPES:
        raise UnknownNameError(f"There is no recipe {name!r}.", f"one of {', '.join(map(repr, RECIPES))}")
    return RECIPES[name]


def update_config(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """``config`` with other values; :class:`UnknownNameError` for a key that it does not have."""
    known = {f.name for f in fields(TrainConfig)}
    if strange := sorted(set(values) - known):
        raise UnknownNameError(f"A configuration has no {strange[0]!r}.", f"one of {', '.join(sorted(known))}")
    values = {k: tuple(v) if k == "channels" else v for k, v in values.items()}
    return replace(config, **values)
