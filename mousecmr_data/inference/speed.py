"""How fast this computer is, how long a cine takes on it (``mousecmr doctor --measure``), and what a network costs.

Engines run in a process of their own with a limit of time: one that takes minutes to get ready the first time is left
out instead of waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mousecmr_data._utils.environment import find_missing_modules
from mousecmr_data._utils.parallel import ONE_THREAD, ChildProcess
from mousecmr_data.errors import MouseCMRError, ProcessError
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS

if TYPE_CHECKING:  # PyTorch is imported where it is used: most of this works without
    from torch import nn

    from mousecmr_data.models.network import SegmentationNetwork

CINE_SLICES = 22 * 9
"""Slices of a cine of the dataset's usual size: 22 frames of 9 slices."""
SECONDS = 45.0
"""For all engines together: the whole command takes less than a minute."""
EXTRAS = {"exact": "torch", "openvino": "openvino", "onnx": "onnx", "eager": "torch", "openvino-int8": "openvino"}
"""Engines in the order in which they are measured, with their extras; "compiled" takes minutes to compile."""
N_SLICES, MATRIX_SIZE, ROUNDS = 3, 1024, 3


@dataclass(frozen=True)
class CineTime:
    """How long a cine of :data:`CINE_SLICES` slices takes if its whole field is computed."""

    weights: str
    engine: str
    seconds: float
    how: str
    """How it was found."""


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


def measure_cines(gflops: float, cache: str | Path | None = None, seconds: float = SECONDS) -> Iterator[CineTime]:
    """Yield the time of a cine for ``phantom-small`` and the published weights with each engine that is installed.

    A few slices are computed. For published weights that are not in ``cache``, or for which no time of the ``seconds``
    is left, the time is that of ``phantom-small`` multiplied by the ratio of their operations; where that was not
    measured either, it is the time of the operations at ``gflops``, the GFLOP/s of a core.
    """
    from mousecmr_data.inference.predictor import has_weights

    end, known, child = time.monotonic() + seconds, dict[str, float](), ChildProcess()
    for weights in (SMALL_WEIGHTS, PUBLISHED_WEIGHTS):
        is_here = has_weights(weights, cache)
        for engine in [name for name, extra in EXTRAS.items() if not find_missing_modules(extra)]:
            left = (end - time.monotonic()) / 2  # the rest is for the engines after this one
            reason = "not ready in time; its first run takes longer" if is_here else "the weights are not in the cache"
            if is_here and left >= 1:
                try:
                    work = partial(measure_slice, weights, engine, cache)
                    value = CINE_SLICES * child.call(work, engine, seconds=left)
                    known.setdefault(engine, value)
                    yield CineTime(weights, engine, value, f"measured with {N_SLICES} slices")
                    continue
                except ProcessError:  # its time was over
                    child = ChildProcess()
                except (MouseCMRError, RuntimeError) as e:
                    reason = str(e).splitlines()[0]
            if engine in known:
                ratio = count_engine_gflop(weights) / count_engine_gflop(SMALL_WEIGHTS)
                how = f"by arithmetic, {ratio:.0f} times that of {SMALL_WEIGHTS}: {reason}"
                yield CineTime(weights, engine, ratio * known[engine], how)
            else:
                value = CINE_SLICES * count_engine_gflop(weights) / gflops / (os.cpu_count() or 1)
                yield CineTime(weights, engine, value, f"by arithmetic, from the matrix product: {reason}")
    child.end()


def measure_slice(weights: str, engine: str, cache: str | Path | None = None) -> float:
    """Return the seconds that ``engine`` takes for a slice of the training grid, after a first run that may compile."""
    from mousecmr_data.inference.grid import make_training_grid
    from mousecmr_data.inference.predictor import load_model

    predictor = load_model(weights, engine=engine, force=True, device="cpu", cache=cache, offline=True)  # no gate
    run, shape = predictor.engine, (N_SLICES, predictor.source.n_inputs, *make_training_grid().shape_yx)
    images = np.random.default_rng(0).random(shape, np.float32)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return min(times) / N_SLICES


def count_gflop(network: SegmentationNetwork) -> float:
    """Return the multiplications and additions, in 10⁹, of a prediction for one slice on the training grid.

    They are those of the network as published, whatever an engine that used it has switched on or off.
    """
    network = deepcopy(network).eval()
    network.deep_supervision = network.low_resolution = False
    return _count_gflop(network, network.n_inputs)


@cache
def count_engine_gflop(weights: str) -> float:
    """Return the same of ``phantom-small`` or the published weights, as the fast engines compute it."""
    from mousecmr_data.inference.engines.pytorch import FusedNetwork
    from mousecmr_data.inference.grid import make_training_grid
    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.models.unet3plus import UNet3Plus

    network = UNet3Plus().eval()
    if weights == SMALL_WEIGHTS:
        network = cast(UNet3Plus, load_model(weights, engine="eager", device="cpu").network)
    fused = FusedNetwork(network, make_training_grid().shape_yx).to("meta")  # counts without computing
    return _count_gflop(fused, network.n_inputs)


def _count_gflop(module: nn.Module, n_inputs: int) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mousecmr_data.inference.grid import make_training_grid

    device = next(chain(module.parameters(), module.buffers())).device
    images = torch.zeros(1, n_inputs, *make_training_grid().shape_yx, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(images)
    return float(counter.get_total_flops()) / 1e9
