"""``engine="auto"``: the fastest engine that is present here and gives the reference's answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.inference.engines.base import Engine
from mousecmr_data.inference.engines.cache import get_cache_path, write_cache_file
from mousecmr_data.inference.preprocessing import normalize_min_max
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.models.device import select_device
from mousecmr_data.models.safetensors import hash_tensors
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.phantom import VERSION as PHANTOM_VERSION
from mousecmr_data.phantom import make_plans, render
from mousecmr_data.schema.labels import Label

# MERGED inference.engines.auto: The gate: how far an engine's answer may be from the reference's, and how far it is.
#
# Measured as the answer is used: labels, Dice, ejection fraction (EF), on stacks at end-diastole and
# end-systole.


Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class GateLimits:
    """What is allowed."""

    same_pixels: float = 0.0
    """Smallest share of pixels with the same label."""
    dice: float = 0.0
    """Smallest Dice of a class in a stack."""
    ef_points: float = float("inf")
    """Largest difference in EF, percentage points."""
    logit: float = float("inf")
    """Largest difference in a logit."""


EXACT = GateLimits(same_pixels=0.99999, logit=1e-3)
REDUCED = GateLimits(same_pixels=0.999, dice=0.998, ef_points=0.5)
COARSE = GateLimits(dice=0.99, ef_points=1.0)
GATE_LIMITS = {
    "eager": EXACT,
    "exact": EXACT,
    "compiled": EXACT,
    "onnx": EXACT,
    "openvino": REDUCED,
    "cuda": REDUCED,
    "openvino-int8": COARSE,
}


@dataclass(frozen=True)
class GateResult:
    """What was measured, of an engine against the reference."""

    same_pixels: float
    dice: float
    """The smallest of classes and stacks."""
    ef_points: float
    """NaN where there are no two stacks."""
    logit: float

    def passes(self, limits: GateLimits) -> bool:
        """Whether nothing is beyond its limit."""
        return (
            self.same_pixels >= limits.same_pixels
            and self.dice >= limits.dice
            and not self.ef_points > limits.ef_points
            and self.logit <= limits.logit
        )

    def __str__(self) -> str:
        ef = "" if np.isnan(self.ef_points) else f", EF {self.ef_points:.2f} points"
        return f"{100 * self.same_pixels:.4f} % of pixels, Dice {self.dice:.4f}{ef}, logit {self.logit:.1e}"


def compare_engines(engine: Engine, reference: Engine, stacks: Tensor) -> GateResult:
    """Both engines on ``stacks`` (stack, slice, 1, Y, X): end-diastole, end-systole; or one stack, without EF."""
    return compare_logits(run_engine(engine, stacks), run_engine(reference, stacks))


def compare_logits(logits: Tensor, reference: Tensor) -> GateResult:
    """Two answers (stack, slice, classes, Y, X) to the same stacks."""
    ours, theirs = (x.argmax(2).to(torch.uint8).numpy() for x in (logits, reference))
    smallest = min(min(dice_by_class(a, b).values()) for a, b in zip(ours, theirs, strict=True))
    ef = [_compute_ef(x) for x in (ours, theirs)]
    return GateResult(
        float((ours == theirs).mean()),
        smallest,
        abs(ef[0] - ef[1]) if ef[0] != ef[1] else 0.0,
        float((logits - reference).abs().max()),
    )


def run_engine(engine: Engine, stacks: Tensor) -> Tensor:
    """Logits (stack, slice, classes, Y, X) of stacks (stack, slice, 1, Y, X), a stack a batch."""
    return torch.stack([engine(stack).cpu() for stack in stacks])


def _compute_ef(stacks: Labels) -> float:
    """Percent, after the paper's post-processing; NaN where it has no meaning."""
    if len(stacks) != 2:
        return float("nan")
    end_diastole, end_systole = (np.count_nonzero(postprocess(s) == Label.BLOOD_POOL) for s in stacks)
    return 100.0 * (end_diastole - end_systole) / end_diastole if end_diastole else float("nan")


# MERGED inference.engines.auto: Synthetic slices that engines are calibrated on, and others that they are held to the reference on.


SAMPLES_VERSION = f"1, phantom {PHANTOM_VERSION}"
"""Changes whenever the slices do."""
CALIBRATION_MICE = ("Mouse1", "Mouse2")
GATE_MOUSE = "Mouse6"
"""Of the phantom's test split: neither calibrated nor trained on."""


@cache
def make_calibration_slices() -> Tensor:
    """Every second slice of two synthetic mice at end-diastole and end-systole: (n, 1, 256, 256) in [0, 1]."""
    return torch.cat([make_gate_stacks(mouse)[:, ::2].flatten(0, 1) for mouse in CALIBRATION_MICE])


@cache
def make_gate_stacks(mouse: str = GATE_MOUSE) -> Tensor:
    """The stacks of a synthetic mouse at end-diastole and end-systole: (2, slice, 1, 256, 256) in [0, 1]."""
    plan = make_plans("phantom")[mouse]
    image = render(plan).image[[plan.ed_frame, plan.es_frame]].astype(np.float32)
    return normalize_min_max(torch.from_numpy(image)[:, :, None])


CPU_CANDIDATES = ("openvino", "exact")
"""In the order of speed. "openvino-int8" is faster still, but its gate is wider: it is taken by name only."""
GPU_CANDIDATES = ("cuda", "exact")


class AutoEngine:
    """Chooses when it is first used. Each candidate has to pass its gate on this machine with these weights.

    The verdict is kept in the cache, for these weights, versions and processor.
    """

    def __init__(
        self, network: UNet3Plus, device: str, cache: str | Path | None, make: Callable[[str], Engine]
    ) -> None:
        self.network, self.device, self.cache, self.make = network, select_device(device), cache, make
        self.verdicts: dict[str, str] = {}
        """What was found of each candidate, in words; filled by the choice."""

    @property
    def name(self) -> str:
        """The name of the engine that was chosen."""
        return self.chosen.name

    @cached_property
    def chosen(self) -> Engine:
        """The engine; choosing takes a while the first time."""
        return self._choose()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, by the engine that was chosen."""
        return self.chosen(images)

    def _choose(self) -> Engine:
        candidates = {"cpu": CPU_CANDIDATES, "cuda": GPU_CANDIDATES}.get(self.device.type, ("exact",))
        versions = {
            "torch": torch.__version__,
            "openvino": _get_version("openvino"),
            "onnx": _get_version("onnxruntime"),
        }
        of = {
            "content": hash_tensors(self.network.state_dict()),
            "device": str(self.device),
            "limits": {k: vars(GATE_LIMITS[k]) for k in candidates},
            "samples": SAMPLES_VERSION,
        }
        place = get_cache_path({**of, **versions}, "json", self.cache)
        if (known := _read_choice(place)) is not None:
            self.verdicts = known["verdicts"]
            return self.make(known["chosen"])
        chosen = self._first_to_pass(candidates)
        write_cache_file(place, json.dumps({"chosen": chosen.name, "verdicts": self.verdicts}).encode())
        return chosen

    def _first_to_pass(self, candidates: tuple[str, ...]) -> Engine:
        reference, expected = self.make("eager"), None
        for name in candidates:
            try:
                engine = self.make(name)
                found = run_engine(engine, make_gate_stacks())
            except (MouseCMRError, RuntimeError) as e:  # not installed; or its library cannot do it on this machine
                self.verdicts[name] = f"not here: {next(iter(str(e).splitlines()), type(e).__name__)}"
                continue
            expected = run_engine(reference, make_gate_stacks()) if expected is None else expected
            agreement = compare_logits(found, expected)
            passed = agreement.passes(GATE_LIMITS[name])
            self.verdicts[name] = f"{'passed' if passed else 'failed'} its gate: {agreement}"
            if passed:
                return engine
        return reference


def _read_choice(place: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
        return {"chosen": str(known["chosen"]), "verdicts": dict(known["verdicts"])}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: found out anew
        return None


def _get_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
