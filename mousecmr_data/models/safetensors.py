"""Files of named tensors: safetensors with JSON in the header, written atomically, without pickle."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mousecmr_data._utils.atomic import write_bytes
from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.models.network import SegmentationNetwork

_KEY = "mousecmr"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Write ``tensors`` and ``about`` (any JSON values) atomically: no partial file is ever visible."""
    cpu_tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    seen: set[int] = set()
    for name, tensor in cpu_tensors.items():  # the format has no shared tensors, some networks do
        if tensor.data_ptr() in seen:
            cpu_tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return write_bytes(path, save(cpu_tensors, {_KEY: json.dumps(about)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the JSON of a file that :func:`write_tensors` wrote."""
    check_input(path, "a .safetensors file, as mousecmr train writes it", "check the path")
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a mapping)
            about = json.loads((f.metadata() or {}).get(_KEY, "{}"))
    except (SafetensorError, ValueError, OSError, MemoryError) as e:
        check_access(e, path)
        raise FileLayoutError(f"{path} is not a valid safetensors file: {e}", "a file of this library") from e
    return tensors, about


def write_weights(path: Path, model: SegmentationNetwork, about: dict[str, Any], *, half: bool = False) -> None:
    """Write a network's weights with the class and the arguments that build it again, and ``about``, in the header.

    The tensors have the names of the network's own state dict. With ``half``, convolutions are stored as float16;
    batch statistics stay float32.
    """
    tensors = {k: v.half() if half and v.ndim == 4 else v for k, v in model.module.state_dict().items()}
    write_tensors(path, tensors, {**model.describe(), **about})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the state dict (float32) and the header of a file that :func:`write_weights` wrote."""
    tensors, about = read_tensors(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, about


def is_hashed(path: Path) -> bool:
    """Return whether the tensors of a weights file have the SHA-256 that its header states as ``content``."""
    try:
        tensors, about = read_weights(path)
    except FileLayoutError:
        return False
    return about.get("content") == hash_tensors(tensors)


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, as float32."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().to("cpu").float().contiguous().numpy().data)
    return digest.hexdigest()


def hash_network(network: SegmentationNetwork) -> str:
    """Return the SHA-256 of everything that a network computes with: tensors, arguments, and the code of its class."""
    digest = hashlib.sha256(hash_tensors(network.state_dict()).encode())
    digest.update(json.dumps(network.describe(), sort_keys=True).encode())
    kind = type(network.module)
    with suppress(OSError, TypeError):  # there is no file: typed in a notebook
        digest.update(inspect.getsource(inspect.getmodule(kind) or kind).encode())
    return digest.hexdigest()
