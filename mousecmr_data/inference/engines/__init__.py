"""Ways to compute the same network, from the published operations to much faster ones.

:func:`make_engine` makes one by its name. Every engine but the reference (``eager``) is compared with it by a gate
(:mod:`mousecmr_data.inference.engines.auto`). See docs/inference.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.inference.engines.base import CompiledEngine, CudaEngine, EagerEngine, Engine, ExactEngine
from mousecmr_data.models.network import SegmentationNetwork

__all__ = ["ENGINE_NAMES", "Engine", "make_engine"]

ENGINE_NAMES = ("auto", "eager", "exact", "compiled", "onnx", "openvino", "openvino-int8", "cuda")
"""Names that :func:`make_engine` takes."""
_PYTORCH_ENGINES: dict[str, Callable[[SegmentationNetwork, str], Engine]] = {
    "eager": EagerEngine,
    "exact": ExactEngine,
    "compiled": CompiledEngine,
}


def make_engine(
    name: str, network: SegmentationNetwork, device: str = "auto", cache: str | Path | None = None
) -> Engine:
    """Make the engine ``name`` for ``network``; "auto" is the fastest that is installed and passes its gate here.

    ``device`` applies to "auto", "eager", "exact" and "compiled"; the others have their own. ``cache`` is the folder
    for compiled networks. Raises :class:`~mousecmr_data.errors.MissingExtraError` if an engine's package is not
    installed.
    """
    if name in _PYTORCH_ENGINES:
        return _PYTORCH_ENGINES[name](network, device)
    if name == "cuda":
        return CudaEngine(network)
    if name == "auto":
        from mousecmr_data.inference.engines.auto import AutoEngine

        return AutoEngine(network, device, cache, partial(make_engine, network=network, device=device, cache=cache))
    if name == "onnx":
        from mousecmr_data.inference.engines.onnx import OnnxEngine

        return OnnxEngine(network, cache)
    if name in ("openvino", "openvino-int8"):
        from mousecmr_data.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(network, "int8" if name.endswith("int8") else "bfloat16", cache)
    raise UnknownNameError.from_name("engine", name, ENGINE_NAMES)
