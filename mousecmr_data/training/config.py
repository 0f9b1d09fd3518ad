"""The configuration of a training run, and the named recipes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.inference.grid import Scaling
from mousecmr_data.models.network import UNET3PLUS
from mousecmr_data.models.unet3plus import CHANNELS, LEVELS

Augmentation = Literal["paper", "notebook", "randomised", "none"]
Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["constant", "one-cycle"]


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run. The defaults are the authors' recipe (docs/training.md).

    Values are checked against the types below, however a configuration is made; a wrong one raises
    :class:`ArgumentError`, which says what would be right.
    """

    recipe: str = "published"
    network: str = UNET3PLUS
    """"package.module:Class" of the network, or the name of an entry point (:mod:`mousecmr_data.models.network`)."""
    network_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, JSON values. For UNet3+, they become the settings ``channels`` and ``reduce``."""
    channels: tuple[int, ...] = CHANNELS
    """Of UNet3+; other networks have their own arguments."""
    reduce: int = 1
    """UNet3+ first averages this many pixels along each axis; 1 is the published network."""
    context: int = 0
    """Number of neighbouring slices on each side that the network sees; 0 is the published network."""
    scaling: Scaling = "min-max"
    """How grey values are scaled slice by slice (:data:`mousecmr_data.inference.grid.SCALINGS`)."""
    deep_supervision: bool = True
    """Whether the loss is the mean over all outputs of the network, or of its prediction only."""
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
    teacher: str = ""
    """Name or path of weights whose probabilities are learned instead of masks, on all frames; empty means masks."""
    validation_mice: int = 10
    """Number of synthetic mice to validate on, if training is on synthetic mice."""
    end_weight: float = 1.0
    """How many times as often as other slices those at the ventricle's ends are drawn: the last with a label, and the
    first without, towards base and apex."""
    frozen_statistics: bool = False
    """Normalise with the batch statistics of the initial weights: for tuning on few slices."""
    alone: float = 0.0
    """Share of the training slices that are seen without their neighbours: the slice itself takes their places, as in a
    stack of one slice."""
    natural: float = 0.0
    """Share of the training slices whose grey values the augmentation "randomised" leaves as they are."""
    crop: int = 0
    """Side in pixels of the random square that is cut from each training slice; 0 is the whole slice."""
    workers: int = field(default=1, compare=False)
    """Number of threads that make the next batches; 0 makes each when it is needed. Batches are the same, so a run can
    be continued with another number."""
    half_weights: bool = False
    """Write the convolutions of the best weights as float16, which halves the file size."""

    def __post_init__(self) -> None:
        for name, kind in _get_kinds().items():
            object.__setattr__(self, name, _check(name, getattr(self, name), kind))
        if self.network != UNET3PLUS and (self.channels, self.reduce) != (CHANNELS, 1):
            text = f"channels and reduce are settings of UNet3+; the network is {self.network}."
            raise ArgumentError(text, "its own arguments in network_args", "--network-args '{...}'")
        step = 2 ** (LEVELS - 1) * self.reduce
        if self.network == UNET3PLUS and self.crop % step:
            text = f"The crop is {self.crop}."
            raise ArgumentError(text, f"a multiple of {step}, for this network", f"crop={-(-self.crop // step) * step}")
        if self.batch_size % self.replicas:
            text = f"A batch of {self.batch_size} cannot be split among {self.replicas} replicas."
            raise ArgumentError(text, "a multiple")

    def to_json(self) -> str:
        """Return the configuration as JSON text, which :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Return the configuration in a JSON text, as :meth:`to_json` writes it; missing keys have their defaults.

        Raises :class:`UnknownNameError` for an unknown key, :class:`ArgumentError` for a value that is not valid and
        for a text that is not JSON.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as e:
            raise ArgumentError(f"The configuration is not JSON: {e}", "a config.json of mousecmr train") from e
        if not isinstance(values, dict):
            raise ArgumentError(f"The configuration is {values!r:.60}.", "a JSON object, as in a run's config.json")
        return update_config(cls(), values)

    def make_network_args(self) -> dict[str, Any]:
        """Return the arguments by which the class of the network makes it."""
        own = {"channels": self.channels, "reduce": self.reduce} if self.network == UNET3PLUS else {}
        return own | dict(self.network_args)


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_SMALLEST = {
    **dict.fromkeys(
        ("batch_size", "replicas", "epochs", "steps_per_epoch", "patience", "reduce", "validation_mice"), 1
    ),
    **dict.fromkeys(("context", "seed", "pool_mice", "crop", "cross_entropy", "any_scanner", "alone", "natural"), 0),
    "workers": 0,
    **dict.fromkeys(("learning_rate", "end_weight"), 1e-9),
}
_LARGEST = dict.fromkeys(("any_scanner", "alone", "natural"), 1)
_OTHER_WORDS = {
    **dict.fromkeys(("fp16", "float16", "half", "bf16-mixed", "16-mixed"), "bfloat16"),
    **dict.fromkeys(("fp32", "full", "32-true"), "float32"),
    **dict.fromkeys(("cosine", "onecycle"), "one-cycle"),
    **dict.fromkeys(("yes", "on", "ja", "1"), "true"),
    **dict.fromkeys(("no", "off", "nein", "0"), "false"),
}
"""What other programs and people call the nearest that there is here."""


@cache
def _get_kinds() -> dict[str, Any]:
    return get_type_hints(TrainConfig)


def _check(name: str, value: Any, kind: Any) -> Any:
    """Return ``value`` in the type that the annotation ``kind`` states; raise :class:`ArgumentError` if it has none."""
    smallest, largest = _SMALLEST.get(name, -math.inf), _LARGEST.get(name, math.inf)
    try:
        converted = _convert(value, kind)
        if not isinstance(converted, int | float) or smallest <= converted <= largest:
            return converted
    except (TypeError, ValueError):
        pass
    options = get_args(kind) if get_origin(kind) is Literal else ("true", "false") if kind is bool else ()
    default = TrainConfig.__dataclass_fields__[name].default
    limits = f", {smallest:g} or more" * (smallest > -math.inf) + f", {largest:g} at most" * (largest < math.inf)
    expected = f"{_describe(kind)}{limits}" + f"; by default {default}" * (kind in (int, float))
    raise ArgumentError(f"{name} is {value!r}.", expected, _suggest(str(value), options, f"{name}="))


def _convert(value: Any, kind: Any) -> Any:
    """Return ``value`` in the type ``kind``, or raise TypeError or ValueError. Whole numbers do for fractions."""
    inner = get_args(kind)
    if isinstance(kind, UnionType):  # X | None
        return None if value is None else _convert(value, inner[0])
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_convert(v, inner[0]) for v in value)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        return json.loads(json.dumps(dict(value)))  # equal after writing and reading
    if get_origin(kind) is Literal and value in inner:
        return value
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise TypeError


def _describe(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return f"{_describe(get_args(kind)[0])}, or null"
    if get_origin(kind) is tuple:
        return f"a list of whole numbers, such as {list(CHANNELS)}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return _WORDS.get(kind, 'an object of JSON values, such as {"spatial_dims": 2}')


def _suggest(word: str, names: Collection[str], before: str = "") -> str | None:
    close = get_close_matches(_OTHER_WORDS.get(word.lower(), word), names, 1, 0.5)
    return f"did you mean {before}{close[0]}?" if close else None


_PHANTOM = TrainConfig(schedule="one-cycle", cross_entropy=0.5, augmentation="randomised", seed=1, any_scanner=0.4)
_PHANTOM_SMALL = replace(
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
)
STUDENT = "student"
RECIPES: Mapping[str, TrainConfig] = {
    "published": TrainConfig(),
    "phantom-small": _PHANTOM_SMALL,
    # Goes on from the weights of the recipe above: `make weights` runs both.
    "phantom-small-refined": replace(
        _PHANTOM_SMALL, recipe="phantom-small-refined", epochs=18, learning_rate=1e-3, alone=0.1, natural=0.5
    ),
    # The small network, of a teacher's probabilities: half of the slices have the grey values that the teacher saw.
    STUDENT: replace(_PHANTOM_SMALL, recipe=STUDENT, precision="auto", pool_mice=0, natural=0.5),
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
        expected = f"one of {', '.join(map(repr, RECIPES))}"
        raise UnknownNameError(f"There is no recipe {name!r}.", expected, _suggest(name, RECIPES))
    return RECIPES[name]


def update_config(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with ``values`` replaced; another network does not inherit the settings of UNet3+.

    Raises :class:`UnknownNameError` for an unknown key, :class:`ArgumentError` for a value that is not valid.
    """
    known = sorted(_get_kinds())
    if unknown := sorted(set(values) - set(known)):
        expected = f"one of {', '.join(known)}"
        raise UnknownNameError(f"A configuration has no {unknown[0]!r}.", expected, _suggest(unknown[0], known))
    if values.get("network", config.network) != config.network:
        values = {"channels": CHANNELS, "reduce": 1, "network_args": {}, **values}
    return replace(config, **values)
