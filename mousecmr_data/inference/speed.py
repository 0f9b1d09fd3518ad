"""How fast this computer is, and how long a cine takes on it, for ``mousecmr doctor --measure``.

Engines run in a process of their own with a limit of time: one that takes minutes to get ready the first time is left
out instead of waited for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from mousecmr_data._utils.environment import find_missing_modules
from mousecmr_data._utils.parallel import ONE_THREAD, ChildProcess
from mousecmr_data.errors import MouseCMRError, ProcessError
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS

CINE_SLICES = 22 * 9
"""Slices of a cine of the dataset's usual size: 22 frames of 9 slices."""
SECONDS = 45.0
"""For all engines together: the whole command takes less than a minute."""
EXTRAS = {"openvino": "openvino", "exact": "torch", "onnx": "onnx", "openvino-int8": "openvino", "eager": "torch"}
"""Engines in the order in which they are measured, with their extras; "compiled" takes minutes to compile."""
N_SLICES, MATRIX_SIZE, ROUNDS = 3, 1024, 3


@dataclass(frozen=True)
class CineTime:
    """How long a cine of :data:`CINE_SLICES` slices takes if its whole field is computed."""

    weights: str
    engine: str
    seconds: float | None
    """None: not known."""
    how: str
    """How the time was found, or why it was not."""


def measure_core() -> float:
    """Return the GFLOP/s of one core in a float32 matrix product, by processor time: other work disturbs it little."""
    child = ChildProcess(ONE_THREAD)
    try:
        return child.call(_measure_product, "a matrix product")
    finally:
        child.end()


def _measure_product() -> float:
    a = np.random.default_rng(0).random((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        a @ a
        times.append(time.process_time() - start)
    return float(2 * MATRIX_SIZE**3 / min(times) / 1e9)


def measure_cines(cache: str | Path | None = None, seconds: float = SECONDS) -> Iterator[CineTime]:
    """Yield the time of a cine for ``phantom-small`` and the published weights with each engine that is installed.

    A few slices are computed. For published weights that are not in ``cache``, or for which no time of the ``seconds``
    is left, the time is that of ``phantom-small`` multiplied by the ratio of their operations.
    """
    from mousecmr_data.inference.predictor import has_weights

    end, known = time.monotonic() + seconds, dict[str, float]()
    for weights in (SMALL_WEIGHTS, PUBLISHED_WEIGHTS):
        for engine in [name for name, extra in EXTRAS.items() if not find_missing_modules(extra)]:
            try:
                if not has_weights(weights, cache):
                    raise MouseCMRError("the weights are not in the cache")
                value = CINE_SLICES * _measure_in_child(weights, engine, cache, end - time.monotonic())
                how = f"measured with {N_SLICES} slices"
                known.setdefault(engine, value)
            except (MouseCMRError, RuntimeError) as e:
                reason = str(e).splitlines()[0]
                if engine in known:
                    how = f"{compare_operations():.0f} times that of {SMALL_WEIGHTS}, by arithmetic: {reason}"
                    yield CineTime(weights, engine, known[engine] * compare_operations(), how)
                else:
                    yield CineTime(weights, engine, None, reason)
            else:
                yield CineTime(weights, engine, value, how)


def _measure_in_child(weights: str, engine: str, cache: str | Path | None, seconds: float) -> float:
    too_long = MouseCMRError("not ready in time; the first segmentation with it takes longer")
    if seconds < 1:
        raise too_long
    child = ChildProcess()
    try:
        return child.call(partial(measure_slice, weights, engine, cache), engine, seconds=seconds)
    except ProcessError as e:
        raise too_long from e
    finally:
        child.end()


def measure_slice(weights: str, engine: str, cache: str | Path | None = None) -> float:
    """Return the seconds that ``engine`` takes for a slice of the training grid, after a first run that may compile."""
    import torch

    from mousecmr_data.inference.engines import make_engine
    from mousecmr_data.inference.grid import make_training_grid
    from mousecmr_data.inference.predictor import load_model

    network = load_model(weights, engine="eager", device="cpu", cache=cache, offline=True).network
    run = make_engine(engine, network, "cpu", cache)
    images = torch.rand(N_SLICES, network.n_inputs, *make_training_grid().shape_yx)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return min(times) / N_SLICES


@cache
def compare_operations() -> float:
    """Return how many times the operations of ``phantom-small`` the published network takes for a slice."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mousecmr_data.inference.grid import make_training_grid
    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.models.unet3plus import UNet3Plus

    counts = []
    for network in (UNet3Plus(), load_model(SMALL_WEIGHTS, engine="eager", device="cpu").network):
        network.to("meta").eval()  # counts without computing
        images = torch.empty(1, network.n_inputs, *make_training_grid().shape_yx, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
        counts.append(counter.get_total_flops())
    return float(counts[0] / counts[1])
