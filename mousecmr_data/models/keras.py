"""Reader of the authors' weights file (Keras HDF5) with h5py, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mousecmr_data._utils.hdf5 import check_dataset, get_item, open_hdf5
from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.models.structure import LEVELS, UNet3PlusArrays
from mousecmr_data.schema import PUBLISHED_WEIGHTS

if TYPE_CHECKING:
    from mousecmr_data.models.unet3plus import UNet3Plus

_ROOT = "model_weights"
_CONV = {"kernel:0": "weight", "bias:0": "bias"}
_BN = {"gamma:0": "weight", "beta:0": "bias", "moving_mean:0": "running_mean", "moving_variance:0": "running_var"}
_LFS = b"version https://git-lfs"


def list_keras_layers() -> Iterator[tuple[str, str]]:
    """Yield the name of every Keras layer with weights, and of its module in PyTorch's network."""
    levels = range(1, LEVELS + 1)
    blocks = [(f"Encoder{k}", f"encoder.{k}.{n - 1}", n) for k in levels for n in (1, 2)]
    blocks += [(f"Skip{u}_{d}", f"skip.{u}_{d}", 1) for u in levels for d in levels[:-1]]
    blocks += [(f"Decoder{d}", f"decoder.{d}", 1) for d in levels[:-1]]
    for keras, module, n in blocks:
        yield f"{keras}_Conv_{n}", f"{module}.conv"
        yield f"{keras}_BN_{n}", f"{module}.bn"
    for k in levels:
        yield f"deepsup_conv_{k}_1", f"head.{k}.first"
        yield f"deepsup_conv_{k}_2", f"head.{k}.second"


def read_keras_weights(path: str | Path) -> UNet3Plus:
    """Read the network in a Keras HDF5 file as PyTorch's, in evaluation mode; see :func:`read_keras_arrays`."""
    from mousecmr_data.models.unet3plus import UNet3Plus

    return UNet3Plus.from_arrays(read_keras_arrays(path))


def read_keras_arrays(path: str | Path) -> UNet3PlusArrays:
    """Read the network in a Keras HDF5 file, float32; its channels are read from the file.

    Raises :class:`MissingDataError` (no file) and :class:`FileLayoutError` (not HDF5, truncated, a Git LFS pointer,
    layers missing, too many or of another shape).
    """
    path = Path(path)
    check_input(path, "the authors' weights file, SEG459.h5")
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS)) == _LFS
        if is_pointer:
            raise FileLayoutError(
                f"{path} is a Git LFS pointer ({path.stat().st_size} bytes of text), not the weights.",
                "the HDF5 file it points to",
                f"mousecmr fetch --only-weights, then the name {PUBLISHED_WEIGHTS} instead of the path",
            )
        with open_hdf5(path) as f:
            arrays = _read_arrays(f, path)
    except FileLayoutError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as e:
        check_access(e, path)
        raise FileLayoutError(
            f"{path} ({path.stat().st_size} bytes) is truncated, damaged or not HDF5: {e}", "a Keras HDF5 file"
        ) from e
    return _convert_arrays(arrays, path)


def _read_arrays(f: h5py.File, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the arrays of each layer, by the last part of their names."""
    root = get_item(f, _ROOT)
    if not isinstance(root, h5py.Group):
        raise FileLayoutError(f"{path} has no group {_ROOT!r}; it has {list(f)[:8]}.", "a whole model saved by Keras")
    arrays: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            check_dataset(item)
            layer, _, rest = name.partition("/")
            arrays.setdefault(layer, {})[rest.removeprefix(f"{layer}/")] = item[()]

    root.visititems(visit)
    return arrays


def _convert_arrays(arrays: dict[str, dict[str, np.ndarray]], path: Path) -> UNet3PlusArrays:
    expected = dict(list_keras_layers())
    if missing := [k for k in expected if k not in arrays]:
        raise FileLayoutError(
            f"{path} lacks {len(missing)} of {len(expected)} layers: {', '.join(missing[:5])}.", "a whole UNet3+"
        )
    if extra := sorted(set(arrays) - set(expected)):
        raise FileLayoutError(f"{path} has layers that UNet3+ does not have: {', '.join(extra[:5])}.", "only a UNet3+")
    state: dict[str, np.ndarray] = {}
    for keras, module in expected.items():
        names = _BN if "_BN_" in keras else _CONV
        if set(arrays[keras]) != set(names):
            raise FileLayoutError(f"{path}: {keras} holds {sorted(arrays[keras])}.", f"{sorted(names)}")
        for keras_name, torch_name in names.items():
            array = np.asarray(arrays[keras][keras_name])
            where = f"{path}: {keras}/{keras_name}"
            if array.dtype.kind != "f":
                raise FileLayoutError(f"{where} has the type {array.dtype}.", "floating point")
            if keras_name == "kernel:0":
                if array.ndim != 4:
                    raise FileLayoutError(f"{where} has the shape {array.shape}.", "(3, 3, in, out)")
                array = array.transpose(3, 2, 0, 1)
            state[f"{module}.{torch_name}"] = np.array(array, np.float32, order="C")
    channels = tuple(len(state[f"encoder.{k}.0.conv.weight"]) for k in range(1, LEVELS + 1))
    network = UNet3PlusArrays(state, channels, len(state["head.1.second.weight"]))
    for name, shape in network.list_shapes().items():
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros(shape, np.int64)
        elif state[name].shape != shape:
            keras = next(k for k, module in expected.items() if name.rpartition(".")[0] == module)
            raise FileLayoutError(
                f"{path}: {keras} does not fit: {name} has the shape {state[name].shape}.",
                f"{shape}, for the channels {channels}",
            )
        elif not np.isfinite(state[name]).all():
            raise FileLayoutError(f"{path}: {name} holds values that are not finite.", "an undamaged file")
    return network
