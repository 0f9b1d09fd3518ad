"""Files of named tensors: safetensors with JSON in the header, written atomically, without pickle."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import write_bytes
from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.models.structure import UNET3PLUS, UNet3PlusArrays

if TYPE_CHECKING:
    from torch import Tensor

    from mousecmr_data.models.network import SegmentationNetwork

require_extra("openvino", "safetensors")
from safetensors import SafetensorError, safe_open  # noqa: E402
from safetensors.numpy import save  # noqa: E402

_KEY = "mousecmr"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write ``tensors`` and ``about`` (any JSON values) atomically: no partial file is ever visible."""
    from safetensors.torch import save as save_tensors

    cpu_tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    seen: set[int] = set()
    for name, tensor in cpu_tensors.items():  # the format has no shared tensors, some networks do
        if tensor.data_ptr() in seen:
            cpu_tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return write_bytes(path, save_tensors(cpu_tensors, {_KEY: json.dumps(about)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the JSON of a file that :func:`write_tensors` wrote."""
    with _open_file(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, _parse_header(f)  # noqa: SIM118 (not a mapping)


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON of a file that :func:`write_tensors` wrote."""
    with _open_file(path, "np") as f:
        return _parse_header(f)


@contextmanager
def _open_file(path: Path, framework: Literal["pt", "np"]) -> Iterator[Any]:
    check_input(path, "a .safetensors file, as mousecmr train writes it", "check the path")
    try:
        with safe_open(path, framework=framework) as f:
            yield f
    except (SafetensorError, ValueError, OSError, MemoryError, TypeError) as e:
        check_access(e, path)
        raise FileLayoutError(f"{path} is not a valid safetensors file: {e}", "a file of this library") from e


def _parse_header(file: Any) -> dict[str, Any]:
    return dict(json.loads((file.metadata() or {}).get(_KEY, "{}")))


def write_weights(
    path: Path, model: SegmentationNetwork | UNet3PlusArrays, about: dict[str, Any], *, half: bool = False
) -> None:
    """Write a network's weights with the class and the arguments that build it again, and ``about``, in the header.

    The tensors have the names of the network's own state dict. With ``half``, convolutions of a module are stored as
    float16; batch statistics stay float32.
    """
    about = {**model.describe(), **about}
    if isinstance(model, UNet3PlusArrays):
        write_bytes(path, save(dict(model.arrays), {_KEY: json.dumps(about)}))
        return
    tensors = {k: v.half() if half and v.ndim == 4 else v for k, v in model.module.state_dict().items()}
    write_tensors(path, tensors, about)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the state dict (float32) and the header of a file that :func:`write_weights` wrote."""
    tensors, about = read_tensors(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, about


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the state dict (float32) of a file of :func:`write_weights` as arrays, without PyTorch."""
    with _open_file(path, "np") as f:
        arrays = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a mapping)
    return {k: v.astype(np.float32, copy=False) if v.dtype.kind == "f" else v for k, v in arrays.items()}


def is_hashed(path: Path) -> bool:
    """Return whether the tensors of a weights file have the SHA-256 that its header states as ``content``."""
    try:
        tensors, about = read_arrays(path), read_header(path)
    except FileLayoutError:
        return False
    return about.get("content") == hash_tensors(tensors)


def hash_tensors(state: Mapping[str, Tensor | NDArray[Any]]) -> str:
    """Return the SHA-256 of named tensors or arrays, as float32."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        array = value if isinstance(value, np.ndarray) else value.detach().cpu().float().numpy()
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()


def hash_network(network: SegmentationNetwork | UNet3PlusArrays) -> str:
    """Return the SHA-256 of everything that a network computes with: tensors, arguments, and the code of its class,
    if it is not UNet3+ itself.
    """
    state = network.arrays if isinstance(network, UNet3PlusArrays) else network.state_dict()
    digest = hashlib.sha256(hash_tensors(state).encode())
    digest.update(json.dumps(network.describe(), sort_keys=True).encode())
    kind = type(getattr(network, "module", network))
    if kind is not UNet3PlusArrays and f"{kind.__module__}:{kind.__qualname__}" != UNET3PLUS:
        with suppress(OSError, TypeError):  # there is no file: typed in a notebook
            digest.update(inspect.getsource(inspect.getmodule(kind) or kind).encode())
    return digest.hexdigest()
