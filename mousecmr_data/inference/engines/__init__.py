"""Engines: ways to compute the same network, from the published operations to much faster ones.

``make`` gives one by its name. Every engine but the reference (``eager``) is held against it by a gate
(:mod:`mousecmr_data.inference.engines.auto`). See docs/inference.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.inference.engines.base import Engine
from mousecmr_data.models.unet3plus import UNet3Plus

__all__ = ["ENGINE_NAMES", "Engine", "make_engine"]

ENGINE_NAMES = ("auto", "eager", "exact", "compiled", "onnx", "openvino", "openvino-int8", "cuda")


def make_engine(name: str, network: UNet3Plus, device: str = "auto", cache: str | Path | None = None) -> Engine:
    """The engine ``name`` for ``network``; "auto" is the fastest that is present and passes its gate here.

    ``device`` matters to "auto", "eager", "exact" and "compiled"; the others have their own. ``cache`` is where
    compiled networks are kept. Raises :class:`~mousecmr_data.errors.MissingExtraError` where an engine's
    package is not installed.
    """
    if name == "auto":
        from mousecmr_data.inference.engines.auto import AutoEngine

        return AutoEngine(network, device, cache, partial(make_engine, network=network, device=device, cache=cache))
    if name == "eager":
        from mousecmr_data.inference.engines.base import EagerEngine

        return EagerEngine(network, device)
    if name == "exact":
        from mousecmr_data.inference.engines.base import ExactEngine

        return ExactEngine(network, device)
    if name == "compiled":
        from mousecmr_data.inference.engines.base import CompiledEngine

        return CompiledEngine(network, device)
    if name == "onnx":
        from mousecmr_data.inference.engines.onnx import OnnxEngine

        return OnnxEngine(network, cache)
    if name in ("openvino", "openvino-int8"):
        from mousecmr_data.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(network, "int8" if name.endswith("int8") else "bfloat16", cache)
    if name == "cuda":
        from mousecmr_data.inference.engines.base import CudaEngine

        return CudaEngine(network)
    raise UnknownNameError(f"There is no engine {name!r}.", f"one of {', '.join(ENGINE_NAMES)}")
