"""The parts of the region of interest, compiled by OpenVINO in an engine's own precision."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor

from mousecmr_data.baseline.engines import kept, quantised
from mousecmr_data.baseline.engines.openvino import OpenVINO
from mousecmr_data.baseline.engines.rounding import to_bfloat16
from mousecmr_data.baseline.region_network import Pointed


class Part:
    """A callable with the inputs and outputs of ``kind``, for images of ``shape_yx``; a slice a stream.

    Compiled when it is made, and kept in the engine's cache for the next time.
    """

    def __init__(self, engine: OpenVINO, kind: type[Pointed], shape_yx: tuple[int, int]) -> None:
        of = {"content": kept.content(engine.network.state_dict()), "openvino": openvino.__version__}
        of |= {"part": kind.__name__, "shape": shape_yx, "precision": engine.precision, **engine.config}
        place = kept.place(of, "openvino", engine.cache)
        compiled = None
        if place.is_file():
            try:
                compiled = engine.core.import_model(io.BytesIO(place.read_bytes()), "CPU", engine.config)
            except RuntimeError:  # damaged, or of another build: made anew
                place.unlink(missing_ok=True)
        if compiled is None:
            compiled = engine.core.compile_model(_model(engine, kind, shape_yx), "CPU", engine.config)
            kept.keep(place, compiled.export_model().getvalue())
        self._queue = openvino.AsyncInferQueue(compiled)
        self._shapes = [tuple(out.get_shape())[1:] for out in compiled.outputs]

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the module's; tensors of any number N of slices, float32."""
        arrays = [i.numpy() for i in inputs]
        made = [np.empty((len(arrays[0]), *shape), np.float32) for shape in self._shapes]

        def keep(request: Any, at: int) -> None:
            for number, into in enumerate(made):
                np.copyto(into[at], request.get_output_tensor(number).data[0])

        self._queue.set_callback(keep)
        for at in range(len(arrays[0])):
            self._queue.start_async([a[at : at + 1] for a in arrays], at, share_inputs=True)
        self._queue.wait_all()
        tensors = tuple(torch.from_numpy(m) for m in made)
        return tensors if len(tensors) > 1 else tensors[0]


def _model(engine: OpenVINO, kind: type[Pointed], shape_yx: tuple[int, int]) -> Any:
    module = kind(engine.network, shape_yx, anchored=True)
    if engine.precision == "int8":
        quantised.quantise(module, engine.largest_values())
    elif engine.config["INFERENCE_PRECISION_HINT"] == "bf16":
        to_bfloat16(module)
    examples = tuple(torch.zeros(1, *shape) for shape in module.inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as for the whole network
        return openvino.convert_model(module, example_input=examples, input=[tuple(e.shape) for e in examples])
