"""``mousecmr doctor``: what a bug report needs, and what to do about each problem."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from mousecmr_data._utils.environment import (
    BF16_FEATURES,
    EXTRAS,
    INT8_FEATURES,
    describe_machine,
    describe_processor,
    find_missing_modules,
    list_cpu_features,
    list_versions,
)
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.cli import options, output
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS

PACKAGES = ("numpy", "h5py", "xarray", "zarr", "numcodecs", "pandas", "requests", "torch", "openvino", "onnxruntime")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")
CPU_HINT = "if torch was to be small: docs/install.md has the line for a computer without a GPU"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    next_step: str = ""
    """What to do about it; empty where nothing is to be done."""
    values: dict[str, Any] = field(default_factory=dict)
    """What was measured, for programs."""


@click.command()
@options.cache
@click.option("--network/--no-network", default=True, help="Ask the dataset's host for one file's size.")
@click.option(
    "--measure",
    is_flag=True,
    help="Also measure this computer, in less than a minute: what a cine takes with each engine.",
)
@options.as_json
def command(cache: Path | None, network: bool, measure: bool, as_json: bool) -> None:
    """Report versions, extras, cache, locks, engines, GPU, weights and network, and what to do about each.

    Paste the output into a bug report: it holds no tokens and no passwords, but the path of the cache.
    """
    findings = [
        *_describe_installation(),
        *_describe_extras(),
        *_check_cache(cache),
        *_describe_networks(cache),
        *_check_network(network),
        *(_measure_speed(cache) if measure else ()),
    ]
    if as_json:
        output.print_json([asdict(f) for f in findings])
        return
    width = max(len(f.what) for f in findings)
    for f in findings:
        click.echo(f"{f.what:{width}}  {f.found}")
        if f.next_step:
            click.echo(f"{'':{width}}  → {f.next_step}")


def _describe_installation() -> Iterator[Finding]:
    versions = list_versions(*PACKAGES, missing="not installed")
    yield Finding("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))
    yield Finding("installed in", str(Path(__file__).parents[1]))
    yield Finding("machine", describe_machine())
    yield Finding("processor", describe_processor())
    yield Finding("output encoding", str(sys.stdout.encoding))
    names = sorted(n for n in os.environ if n.startswith("MOUSECMR_") or n.upper() in PROXIES or n == "MPLBACKEND")
    yield Finding("variables set", ", ".join(names) or "none")  # names only: values hold tokens and passwords


def _describe_extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        missing = find_missing_modules(extra)
        if missing:
            yield Finding(f"extra {extra}", f"without {', '.join(missing)}", f"pip install 'mousecmr-data[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "complete")


def _check_cache(cache: Path | None) -> Iterator[Finding]:
    from mousecmr_data._utils.atomic import get_free_bytes, write_bytes
    from mousecmr_data._utils.locks import hold_lock
    from mousecmr_data.download.cache import get_cache_root, get_file_statuses
    from mousecmr_data.schema.manifest import load_manifest

    root = get_cache_root(cache)
    choose = "export MOUSECMR_CACHE=/path/to/your/folder"
    trial = root / f"doctor-{os.getpid()}"
    try:
        write_bytes(trial, b"")
        trial.unlink()
        yield Finding("cache", f"{root}, {format_bytes(get_free_bytes(root))} free")
    except OSError as e:
        yield Finding("cache", f"{root} cannot be written: {e.strerror or getattr(e, 'found', e)}", choose)
        return
    try:
        with hold_lock(root, "doctor"):
            yield Finding("locks", "work")
    except OSError as e:
        yield Finding("locks", f"do not work here: {e.strerror or e}", f"{choose}, on a local disk")
    manifest = load_manifest()
    states = [str(state) for state in get_file_statuses(manifest, cache=root).values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    yield Finding("mice", f"{manifest.name}: {counts}", "mousecmr fetch" if "missing" in states else "")


def _describe_gpu() -> Iterator[Finding]:
    if find_missing_modules("torch"):
        return
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding("GPU", f"{torch.cuda.get_device_name()}, {format_bytes(free)} of {format_bytes(total)} free")
    elif torch.version.cuda:
        yield Finding("GPU", f"none that PyTorch (built for CUDA {torch.version.cuda}) can use", CPU_HINT)
    else:
        yield Finding("GPU", "Apple's (mps)" if torch.backends.mps.is_available() else "none; PyTorch is the CPU build")


def _describe_networks(cache: Path | None) -> Iterator[Finding]:
    """Describe GPU, weights and engines; no engine is tested here, because that takes minutes."""
    yield from _describe_gpu()
    if find_missing_modules("openvino") and find_missing_modules("torch"):
        return
    from mousecmr_data.errors import MouseCMRError
    from mousecmr_data.inference.engines.auto import AutoEngine
    from mousecmr_data.inference.predictor import load_model

    for name in (SMALL_WEIGHTS, PUBLISHED_WEIGHTS):
        try:
            engine = load_model(name, cache=cache, offline=True).engine
        except (MouseCMRError, OSError):
            yield Finding(f"weights {name}", "not in the cache", "mousecmr fetch --only-weights")
            continue
        assert isinstance(engine, AutoEngine)  # noqa: S101 (the default of load_model)
        choice = engine.read_choice()
        text = f"engine {choice['chosen']}" if choice else "engine not chosen yet: the first segmentation tests them"
        yield Finding(f"weights {name}", f"present; {text}")
        for candidate, verdict in choice["verdicts"].items() if choice else ():
            yield Finding(f"  {candidate}", verdict)


def _check_network(ask: bool) -> Iterator[Finding]:
    from mousecmr_data._utils.environment import is_offline
    from mousecmr_data.download.http import RetryPolicy
    from mousecmr_data.download.sources import list_mirrors, redact_url
    from mousecmr_data.download.verify import check_upstream
    from mousecmr_data.schema.manifest import load_manifest

    if mirrors := list_mirrors():
        yield Finding("mirrors", ", ".join(map(redact_url, mirrors)))
    if is_offline():
        yield Finding("network", "walled off by MOUSECMR_OFFLINE", "unset MOUSECMR_OFFLINE, to download")
    elif not ask:
        yield Finding("network", "not asked")
    else:
        manifest = load_manifest()
        policy = RetryPolicy(max_attempts=1, connect_timeout=5, read_timeout=10)
        answer = check_upstream(manifest, next(iter(manifest.files)), retry_policy=policy)[0]
        if answer.answers:
            yield Finding("network", f"{answer.url} answers")
        else:
            step = "mousecmr bundle carries files here; MOUSECMR_MIRROR names other hosts; see docs/download.md"
            yield Finding("network", answer.trouble, step)


def _measure_speed(cache: Path | None) -> Iterator[Finding]:
    from mousecmr_data.inference.speed import CINE_SLICES, measure_cines, measure_core

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
    gflops, features = measure_core(), list_cpu_features()
    found = {"8-bit": INT8_FEATURES, "bfloat16": BF16_FEATURES}
    has = {name: any(f in features for f in wanted) for name, wanted in found.items()}
    units = ", ".join(f"{'with' if known else 'without'} {name} instructions" for name, known in has.items())
    text = f"{gflops:.0f} GFLOP/s in a float32 matrix product, {units}"
    yield Finding(
        "one core", text, values={"float32_gflops": gflops, "int8": has["8-bit"], "bfloat16": has["bfloat16"]}
    )
    if find_missing_modules("torch"):
        yield Finding("time of a cine", "not measured without torch", "pip install 'mousecmr-data[segment]'")
        return
    text = f"{CINE_SLICES} slices, whole field, with all cores; --region auto takes about a third"
    step = "measure again when this computer does nothing else" if load > (os.cpu_count() or 1) / 2 else ""
    yield Finding("time of a cine", f"{text}; load {load:.1f} before", step, {"slices": CINE_SLICES, "load": load})
    for cine in measure_cines(gflops, cache):
        yield Finding(f"  {cine.weights}, {cine.engine}", f"{cine.seconds:.1f} s, {cine.how}", values=vars(cine))
