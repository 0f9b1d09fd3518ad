"""Ways to compute the same network, from the published operations to much faster ones.

:func:`make_engine` makes one by its name. Every engine but the reference (``eager``) is compared with it by a gate
(:mod:`mousecmr_data.inference.engines.auto`). See docs/inference.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.inference.engines.base import Engine, Network

__all__ = ["ENGINE_NAMES", "Engine", "Network", "make_engine"]

ENGINE_NAMES = ("auto", "eager", "exact", "compiled", "onnx", "openvino", "openvino-int8", "cuda")
"""Names that :func:`make_engine` takes."""
PYTORCH_ENGINES = ("eager", "exact", "compiled", "cuda")


def make_engine(name: str, network: Network, device: str = "auto", cache: str | Path | None = None) -> Engine:
    """Make the engine ``name`` for ``network``; "auto" is the fastest that is installed and passes its gate here.

    ``device`` applies to "auto", "eager", "exact" and "compiled"; the others have their own. ``cache`` is the folder
    for compiled networks. Raises :class:`~mousecmr_data.errors.MissingExtraError` if an engine's package is not
    installed.
    """
    if name == "auto":
        from mousecmr_data.inference.engines.auto import AutoEngine

        return AutoEngine(network, device, cache, partial(make_engine, network=network, device=device, cache=cache))
    if name == "onnx":
        from mousecmr_data.inference.engines.onnx import OnnxEngine

        return OnnxEngine(network, cache)
    if name in ("openvino", "openvino-int8"):
        from mousecmr_data.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(network, "int8" if name.endswith("int8") else "bfloat16", cache)
    if name not in ENGINE_NAMES:
        raise UnknownNameError.from_name("engine", name, ENGINE_NAMES)
    from mousecmr_data.inference.engines import pytorch

    if name == "cuda":
        return pytorch.CudaEngine(network)
    kinds: dict[str, Callable[[Network, str], Engine]] = {
        "eager": pytorch.EagerEngine,
        "exact": pytorch.ExactEngine,
        "compiled": pytorch.CompiledEngine,
    }
    return kinds[name](network, device)
