"""``engine="auto"``: the fastest installed engine whose labels agree with the reference's.

The gate measures an engine against the reference as its results are used: labels, Dice, ejection fraction (EF), on
stacks at end-diastole and end-systole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.environment import find_device, list_versions
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.inference.engines.base import Engine, Network, get_cache_path, read_cache_file, write_cache_file
from mousecmr_data.inference.engines.reference import make_reference
from mousecmr_data.inference.grid import Array, list_neighbours, normalize, to_numpy
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.models.safetensors import hash_network
from mousecmr_data.models.structure import UNet3PlusArrays
from mousecmr_data.phantom.plan import VERSION as PHANTOM_VERSION
from mousecmr_data.schema.labels import Label

CPU_CANDIDATES = ("openvino", "onnx", "exact")
"""Fastest first. "openvino-int8" is faster still, but its gate is wider: it is used by name only."""
GPU_CANDIDATES = ("cuda", "exact")
SAMPLES_VERSION = f"2, phantom {PHANTOM_VERSION}"
"""Changes whenever the slices for calibration and for the gate do."""
CALIBRATION_MICE = ("Mouse1", "Mouse2")
GATE_MOUSE = "Mouse6"
"""In the phantom's test split: used neither for calibration nor for training."""
PROOF_PIXELS = slice(64, 192)
"""Rows and columns of the gate's slices that are computed in NumPy, too."""


@dataclass(frozen=True)
class GateLimits:
    """Limits of the differences between an engine and the reference."""

    same_pixels: float = 0.0
    """Smallest share of pixels with the same label."""
    dice: float = 0.0
    """Smallest Dice of a class in a stack."""
    ef_points: float = float("inf")
    """Largest difference in EF, percentage points."""
    logit: float = float("inf")
    """Largest difference in a logit (:func:`compare_values`)."""

    def __str__(self) -> str:
        limits = {
            f"{100 * self.same_pixels:g} % of pixels the same": self.same_pixels > 0,
            f"Dice {self.dice:g} or more": self.dice > 0,
            f"EF within {self.ef_points:g} points": np.isfinite(self.ef_points),
            f"logits within {self.logit:g}": np.isfinite(self.logit),
        }
        return ", ".join(text for text, applies in limits.items() if applies)


LOGIT_RANGE = 30.0
"""Logits may differ by more where the reference's are larger than this: float32 rounds larger numbers more coarsely."""
EXACT = GateLimits(same_pixels=0.99999, logit=1e-3)
REDUCED = GateLimits(same_pixels=0.999, dice=0.998, ef_points=0.5)
COARSE = GateLimits(dice=0.99, ef_points=1.0)
GATE_LIMITS = {
    **dict.fromkeys(("eager", "exact", "compiled", "onnx"), EXACT),
    **dict.fromkeys(("openvino", "cuda"), REDUCED),
    "openvino-int8": COARSE,
}


@dataclass(frozen=True)
class GateResult:
    """Measured differences between an engine and the reference."""

    same_pixels: float
    dice: float
    """The smallest over classes and stacks."""
    ef_points: float
    """NaN if there are not two stacks."""
    logit: float

    def passes(self, limits: GateLimits) -> bool:
        """Return whether all values are within ``limits``."""
        return (
            self.same_pixels >= limits.same_pixels
            and self.dice >= limits.dice
            and not self.ef_points > limits.ef_points
            and self.logit <= limits.logit
        )

    def __str__(self) -> str:
        ef = "" if np.isnan(self.ef_points) else f", EF {self.ef_points:.2f} points"
        return f"{100 * self.same_pixels:.4f} % of pixels, Dice {self.dice:.4f}{ef}, logit {self.logit:.1e}"


def compare_engines(engine: Engine, reference: Engine, stacks: Array) -> GateResult:
    """Compare engines on ``stacks`` (stack, slice, inputs, Y, X): end-diastole, end-systole; or one, without EF."""
    return compare_logits(run_engine(engine, stacks), run_engine(reference, stacks))


def compare_logits(logits: Array, reference: Array) -> GateResult:
    """Compare logits (stack, slice, classes, Y, X) of the same stacks with the reference's."""
    ours, theirs = (to_numpy(x).argmax(2).astype(np.uint8) for x in (logits, reference))
    smallest = min(min(dice_by_class(a, b).values()) for a, b in zip(ours, theirs, strict=True))
    ef = [_compute_ef(x) for x in (ours, theirs)]
    return GateResult(
        float((ours == theirs).mean()),
        smallest,
        abs(ef[0] - ef[1]) if ef[0] != ef[1] else 0.0,
        compare_values(logits, reference),
    )


def compare_values(logits: Array, reference: Array) -> float:
    """Return the largest difference between logits, as if the largest of the reference were :data:`LOGIT_RANGE`."""
    ours, theirs = to_numpy(logits), to_numpy(reference)
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max()) / LOGIT_RANGE)


def run_engine(engine: Engine, stacks: Array) -> NDArray[np.float32]:
    """Return logits (stack, slice, classes, Y, X) of stacks (stack, slice, inputs, Y, X), one batch per stack."""
    return np.stack([to_numpy(engine(stack)) for stack in stacks])


def check_engine(engine: Engine, network: Network, device: str) -> GateResult:
    """Compare an engine with the reference on the stacks of a synthetic mouse.

    Engines that compute a graph are compared without PyTorch, and in a tenth of the time: their own float32 graph with
    NumPy, in the middle of one slice; then rounded ones with the float32 graph, in every second slice. The result is
    the worse of both. The reference of other engines is "eager" on ``device``, in all slices.
    """
    stacks, is_exact = make_gate_stacks(network), getattr(engine, "is_exact", None)
    if is_exact is None or not isinstance(network, UNet3PlusArrays):
        return compare_engines(engine, _make_eager(network, device), stacks)
    exact = engine if is_exact else engine.make_exact()  # type: ignore[attr-defined]
    middle = stacks[:1, stacks.shape[1] // 2 :][:, :1, ..., PROOF_PIXELS, PROOF_PIXELS]
    proof = compare_engines(exact, make_reference(network), middle)
    if is_exact:
        return proof
    result = compare_engines(engine, exact, stacks[:, ::2])
    return GateResult(
        min(proof.same_pixels, result.same_pixels),
        min(proof.dice, result.dice),
        result.ef_points,
        max(proof.logit, result.logit),
    )


def _make_eager(network: Network, device: str) -> Engine:
    from mousecmr_data.inference.engines.pytorch import EagerEngine

    return EagerEngine(network, device)


def _compute_ef(stacks: NDArray[np.uint8]) -> float:
    """Return EF in percent, after the paper's post-processing; NaN if it is not defined."""
    if len(stacks) != 2:
        return float("nan")
    end_diastole, end_systole = (np.count_nonzero(postprocess(s) == Label.BLOOD_POOL) for s in stacks)
    return 100.0 * (end_diastole - end_systole) / end_diastole if end_diastole else float("nan")


def make_calibration_slices(network: Network) -> NDArray[np.float32]:
    """Make every second slice of two synthetic mice at end-diastole and end-systole: (n, inputs, 256, 256) in [0, 1].

    ``inputs``, and the scaling, are those of ``network``.
    """
    stacks = [make_gate_stacks(network, mouse)[:, ::2] for mouse in CALIBRATION_MICE]
    return np.concatenate([part.reshape(-1, *part.shape[2:]) for part in stacks])


def make_gate_stacks(network: Network, mouse: str = GATE_MOUSE) -> NDArray[np.float32]:
    """Make the stacks of a synthetic mouse at end-diastole and end-systole, as ``network`` sees them: (2, slice,
    inputs, 256, 256) in [0, 1].
    """
    images = normalize(_render_stacks(mouse), network.scaling)
    return images[:, list_neighbours(images.shape[1], network.context)]


@cache
def _render_stacks(mouse: str) -> NDArray[np.float32]:
    from mousecmr_data.phantom import make_plans, render  # only for the gate, not for every job

    plan = make_plans("phantom")[mouse]
    return render(plan).image[[plan.ed_frame, plan.es_frame]].astype(np.float32)


class AutoEngine:
    """Chooses an engine on first use. Each candidate has to pass its gate on this machine with these weights.

    The choice is kept in the cache, for these weights, versions and processor.
    """

    def __init__(self, network: Network, device: str, cache: str | Path | None, make: Callable[[str], Engine]) -> None:
        self.network, self.device, self.cache, self.make = network, find_device(device), cache, make
        self.verdicts: dict[str, str] = {}
        """Result of each candidate, in words; filled by the choice."""

    @property
    def name(self) -> str:
        """The name of the chosen engine."""
        return self.chosen.name

    @cached_property
    def chosen(self) -> Engine:
        """The engine; choosing takes a while the first time."""
        if (choice := self.read_choice()) is not None:
            self.verdicts = choice["verdicts"]
            return self.make(choice["chosen"])
        engine = self._find_first_passing(self._candidates)
        write_cache_file(self._path, json.dumps({"chosen": engine.name, "verdicts": self.verdicts}).encode())
        return engine

    @property
    def _candidates(self) -> tuple[str, ...]:
        return {"cpu": CPU_CANDIDATES, "cuda": GPU_CANDIDATES}.get(self.device, ("exact",))

    @cached_property
    def _path(self) -> Path:
        return _get_path(self.network, self.device, self._candidates, self.cache)

    def read_choice(self) -> dict[str, Any] | None:
        """Return the choice in the cache (``chosen``, and ``verdicts`` by candidate); None if there is none yet."""
        return _read_choice(self._path)

    def __call__(self, images: Array) -> Array:
        """Return the logits of the chosen engine."""
        return self.chosen(images)

    def _find_first_passing(self, candidates: tuple[str, ...]) -> Engine:
        for name in candidates:
            try:
                engine = self.make(name)
                result = check_engine(engine, self.network, self.device)
            except (MouseCMRError, RuntimeError) as e:  # not installed; or its library cannot do it on this machine
                self.verdicts[name] = f"not available: {next(iter(str(e).splitlines()), type(e).__name__)}"
                continue
            passed = result.passes(GATE_LIMITS[name])
            self.verdicts[name] = f"{'passed' if passed else 'failed'} its gate: {result}"
            if passed:
                return engine
        return self.make("eager")


def _get_path(
    network: Network,
    device: str,
    names: tuple[str, ...],
    cache: str | Path | None,
    kind: str = "json",
) -> Path:
    """Return the path of what gates said of the engines ``names``: for these weights, versions and processor."""
    versions = list_versions("openvino", "onnxruntime", "torch", missing="none")
    key_parts = {
        "content": hash_network(network),
        "device": device,
        "limits": {k: vars(GATE_LIMITS[k]) for k in names},
        "samples": SAMPLES_VERSION,
        "torch": versions["torch"],
        "openvino": versions["openvino"],
        "onnx": versions["onnxruntime"],
    }
    return get_cache_path(key_parts, kind, cache)


def find_gate_failure(engine: Engine, network: Network, device: str, cache: str | Path | None = None) -> str:
    """Return by how much an engine fails its gate with the weights of ``network`` on this machine; "" if it passes.

    Measured on first use (:func:`check_engine`), and kept in the cache.
    """
    path = _get_path(network, find_device(device), (engine.name,), cache, "gate")
    try:
        return str(json.loads(read_cache_file(path) or "")["failure"])
    except (ValueError, KeyError, TypeError):  # none yet, or damaged: measure again
        result = check_engine(engine, network, device)
    failure = "" if result.passes(GATE_LIMITS[engine.name]) else str(result)
    write_cache_file(path, json.dumps({"failure": failure}).encode())
    return failure


def _read_choice(path: Path) -> dict[str, Any] | None:
    try:
        choice = json.loads(read_cache_file(path) or "")
        return {"chosen": str(choice["chosen"]), "verdicts": dict(choice["verdicts"])}
    except (ValueError, KeyError, TypeError):  # none yet, or damaged: choose again
        return None
