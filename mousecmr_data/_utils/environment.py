"""This machine and what is installed on it: versions, extras, variables, processor, cores, device to compute on."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mousecmr_data._version import __version__
from mousecmr_data.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    import torch

_NETWORK = ("torch", "safetensors")
_ENGINES = ("openvino", "onnxruntime", "torch")
_OPENVINO = ("openvino", "safetensors")
_PICTURES = ("matplotlib", "PIL")
_FORMATS = ("nibabel", "pydicom", "nrrd")
_METAIMAGE = (*_FORMATS, "SimpleITK")
_EVALUATION = (*_PICTURES, "jinja2", "pingouin", "xlsxwriter")
_SEGMENT = (*_OPENVINO, *_FORMATS, "highdicom", "brukerapi", *_PICTURES, "xlsxwriter")
EXTRAS = {
    "segment": _SEGMENT,
    "torch": _NETWORK,
    "openvino": _OPENVINO,
    "onnx": ("onnx", "onnxruntime", "onnxscript", "safetensors"),
    "training": (*_NETWORK, "monai", *_EVALUATION),
    "evaluation": _EVALUATION,
    "formats": _FORMATS,
    "metaimage": _METAIMAGE,
    "netcdf": ("h5netcdf",),
    "dicom-seg": (*_FORMATS, "highdicom"),
    "bruker": (*_FORMATS, "brukerapi"),
    "web": ("gradio", *_SEGMENT, "SimpleITK"),
    "huggingface": ("datasets", "huggingface_hub", "nibabel", "PIL", "pyarrow", "yaml"),
    "dask": ("dask", "distributed"),
    "remote": ("aiohttp", "fsspec", "s3fs"),
}
"""The extras of this package, each with the modules that it installs."""

CPU_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)
"""Processor features that decide what is fast, in Linux' names."""
INT8_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm")
BF16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")


def list_versions(*packages: str, missing: str | None = None) -> dict[str, str]:
    """Return the versions of this library, Python and ``packages``; those not installed are ``missing`` or left out."""
    versions = {"mousecmr-data": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if missing is not None:
                versions[package] = missing
    return versions


def find_missing_modules(extra: str) -> list[str]:
    """Return the modules of ``extra``, or of several ("segment,evaluation"), that are not installed; imports none."""
    return [module for name in extra.split(",") for module in EXTRAS[name] if find_spec(module) is None]


def require_extra(extra: str, *modules: str) -> None:
    """Raise :class:`MissingExtraError` if one of ``modules`` (default: all of ``extra``) is not installed."""
    for module in find_missing_modules(extra):
        if not modules or module in modules:
            raise MissingExtraError.from_module(module, extra)


def require_engine(extra: str = "segment") -> None:
    """Raise :class:`MissingExtraError`, with ``extra``, if nothing is installed that computes networks."""
    require_extra(extra, "safetensors")
    if all(find_spec(module) is None for module in _ENGINES):
        raise MissingExtraError.from_module(_ENGINES[0], extra)


def read_flag(variable: str, default: bool) -> bool:
    """Return an environment variable as True or False; empty counts as not set."""
    text = os.environ.get(variable, "").strip().lower()
    return default if not text else text not in ("0", "false", "no", "off")


def is_offline(offline: bool | None = None) -> bool:
    """Return whether network traffic is forbidden: ``offline``, or ``MOUSECMR_OFFLINE`` if it is None."""
    return read_flag("MOUSECMR_OFFLINE", default=False) if offline is None else offline


def ensure_temporary_folder(folder: Path) -> None:
    """Let temporary files go to ``folder`` where the system has no place for them: on a read-only root, for example."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(folder.absolute())  # also in processes that this one starts


def import_matplotlib() -> None:
    """Import matplotlib, also where ``MPLBACKEND`` names a backend that is not installed here: a notebook's, say.

    Figures of this library need no backend. Raises :class:`MissingExtraError` without matplotlib.
    """
    require_extra("evaluation", "matplotlib")
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", "")
    try:
        import matplotlib
    finally:
        if backend:
            os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        if backend:
            matplotlib.rcParams["backend"] = backend  # as matplotlib itself does


@lru_cache(1)
def _read_cpu_info() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}


def list_cpu_features() -> list[str]:
    """Return the :data:`CPU_FEATURES` of this machine's processor; none where the system does not state them."""
    info = _read_cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [f for f in CPU_FEATURES if f in flags]


def describe_processor() -> str:
    """Return the name of this machine's processor and its :data:`CPU_FEATURES`, as far as the system states them."""
    info = _read_cpu_info()
    if not info:
        return f"{platform.machine()} {platform.processor()}"
    name = info.get("model name", platform.machine())
    return f"{name} ({', '.join(list_cpu_features()) or 'none of the features known here'})"


def describe_machine() -> str:
    """Return processor, cores, system and Python version in one line."""
    name = _read_cpu_info().get("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


_threads: int | None = None


def get_threads() -> int:
    """Return how many threads a network is computed with: of :func:`set_threads`, else PyTorch's number if a program
    has imported it, else ``OMP_NUM_THREADS``, else the cores that this process may use, without their second threads.
    """
    if _threads:
        return _threads
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()  # type: ignore[no-any-return]
    if (text := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(text):
        return int(text)
    try:
        topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(topology.format(n)).read_text(encoding="utf-8") for n in os.sched_getaffinity(0)})
    except (OSError, AttributeError):  # not Linux
        return os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Let networks be computed with ``threads`` threads in this process, by any library."""
    global _threads
    _threads = threads
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def find_device(name: str = "auto") -> str:
    """Return the kind of the device called ``name``: "cpu", "cuda" or "mps".

    PyTorch is imported only if it is installed and this computer has something that looks like a GPU.
    """
    if name == "cpu":
        return name
    if name != "auto":
        return select_device(name).type
    windows = Path(os.environ.get("SYSTEMROOT", "")) / "System32" / "nvcuda.dll"
    drivers = [Path(path) for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")]
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    has_gpu = is_apple or any(path.exists() for path in (*drivers, windows))
    return select_device().type if has_gpu and find_spec("torch") else "cpu"


def copy_to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``x`` on ``device``; a GPU's copy is made in the background, and nothing waits for it."""
    if device.type != "cuda" or x.device.type == "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def select_device(name: str = "auto", index: int = 0) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA, else MPS, else the CPU. ``index`` counts GPUs."""
    require_extra("torch", "torch")
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available.get(name.split(":")[0], False):
        names = ["auto", *(kind for kind, is_available in available.items() if is_available)]
        raise UnknownNameError.from_name("device on this machine", name, names, "device='auto'")
    if name == "cuda":
        return torch.device("cuda", index % torch.cuda.device_count())
    return torch.device(name)
