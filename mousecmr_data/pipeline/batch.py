"""Segment many mice: what is done is not done again, and a mouse that fails does not stop the rest.

:func:`predict_cohort` writes one HDF5 file per mouse of a cohort, :func:`segment_batch` one folder per scan with masks,
tables and pictures. Both run on the same engine: in this process, in several, or on a dask cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import h5py
import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import remove_leftovers, write_text
from mousecmr_data._utils.checksums import compute_sha256, hash_files
from mousecmr_data._utils.json import to_json_value, write_json
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.notices import RESEARCH_ONLY
from mousecmr_data._utils.parallel import map_in_processes
from mousecmr_data._version import __version__
from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import ArgumentError, CacheError, FileLayoutError, MissingDataError, MouseCMRError
from mousecmr_data.formats.discover import FoundScan, RefusedInput, collect_inputs, rename_in_error
from mousecmr_data.formats.read import read_scan
from mousecmr_data.metrics.overlap import score_frames
from mousecmr_data.pipeline.analysis import AnalysisResult, analyze
from mousecmr_data.pipeline.config import PredictConfig, SegmentConfig
from mousecmr_data.pipeline.writers import (
    OUTDATED_FILE,
    mark_outdated,
    read_record,
    read_tables,
    write_mouse_hdf5,
    write_result,
)
from mousecmr_data.schema.variables import DIMS, MASK, PREDICTED

if TYPE_CHECKING:
    from distributed import Client

    from mousecmr_data.inference.predictor import Predictor

MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE, MANIFEST_FILE = (
    "mice.csv",
    "frames.csv",
    "slices.csv",
    "flags.csv",
    "manifest.json",
)
ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION = "prediction_settings", "prediction_input", "prediction_region"
PACKAGES = ("numpy", "scipy", "xarray", "torch", "nibabel", "pydicom", "highdicom", "brukerapi")
LOADING_TEXT = "Loading the weights. The first time, engines are also tried out on this computer, for up to a minute."
OVERWRITE_HINT = "give another folder, or --overwrite (overwrite=True) to segment them again"
PREDICT_LOCK = "predict"

Status = Literal["done", "as before", "failed"]
"""Segmented now; segmented by an earlier run with the same settings; failed."""


@dataclass(frozen=True)
class MouseResult:
    """What became of one mouse."""

    mouse: str
    status: Status
    path: Path | None = None
    """The file or folder with its result."""
    error: MouseCMRError | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class PredictResult(MouseResult):
    """What became of one mouse of a cohort."""

    synthetic: bool = False
    region: dict[str, Any] = field(default_factory=dict)
    """What the region of interest did; see docs/predicting.md."""
    dice: list[dict[str, Any]] = field(default_factory=list)
    """Overlap with expert masks, one row per labelled frame."""


@dataclass(frozen=True)
class SegmentResult(MouseResult):
    """What became of one scan."""

    row: dict[str, Any] = field(default_factory=dict)
    """Its row in the table of mice."""
    analysis: AnalysisResult | None = None
    """All of the result; only of scans segmented now, in this process."""


@dataclass(frozen=True)
class BatchEvent:
    """Something that happened: "loading" the weights; mice "found" (``total`` of them); of one mouse "reading",
    "slices" (``done`` of ``total`` 2D slices segmented), or its end, a :data:`Status`, with its ``result``."""

    kind: Literal["loading", "found", "reading", "slices"] | Status
    name: str = ""
    done: int = 0
    total: int = 0
    result: MouseResult | None = None


EventListener = Callable[[BatchEvent], None]
Result = TypeVar("Result", bound=MouseResult)


def run_batch(
    names: Sequence[str],
    work: Callable[[str, EventListener], Result],
    make_failed: Callable[[str, MouseCMRError], Result],
    *,
    progress: EventListener | None = None,
    workers: int = 1,
    client: Client | None = None,
) -> list[Result]:
    """Call ``work`` for each of ``names`` and return the results in their order; ``make_failed`` makes those of errors.

    Both pickle.     ``workers`` processes on this machine share its cores; ``client`` (a ``distributed.Client``) takes their place.
    ``progress`` is called with the end of every mouse, in this process with what happens before, too.
    """
    tell = progress or ignore_event
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
    run = partial(_run_one, work, make_failed, threads)
    if client is None and min(workers, len(names)) <= 1:
        results = []
        for name in names:
            results.append(run(name, tell))
            tell(_make_end_event(results[-1]))
        return results
    found: dict[str, Result] = {}

    def collect(name: str, result: Result) -> None:
        found[name] = result
        tell(_make_end_event(result))

    if client is not None:
        _run_on_cluster(client, run, names, collect)
    else:
        map_in_processes(run, names, workers, collect)
    return [found[name] for name in names]


def ignore_event(_event: BatchEvent) -> None:
    """Do nothing."""


def _make_end_event(result: MouseResult) -> BatchEvent:
    return BatchEvent(result.status, result.mouse, result=result)


def _run_one(
    work: Callable[[str, EventListener], Result],
    make_failed: Callable[[str, MouseCMRError], Result],
    threads: int | None,
    name: str,
    progress: EventListener = ignore_event,
) -> Result:
    begin = time.perf_counter()
    try:
        if threads:
            import torch

            torch.set_num_threads(threads)
        return work(name, progress)
    except Exception as e:  # one mouse must not stop the rest, whatever it is
        error = e if isinstance(e, MouseCMRError) else MouseCMRError(f"{name}: {type(e).__name__}: {e}")
        return replace(make_failed(name, error), seconds=time.perf_counter() - begin)


_ONE_AT_A_TIME = threading.Lock()


def _run_alone(run: Callable[[str], Result], name: str) -> Result:
    """Run one mouse at a time: a worker of a cluster may have several threads, a predictor serves one."""
    with _ONE_AT_A_TIME:
        return run(name)


def _run_on_cluster(
    client: Client, run: Callable[[str], Result], names: Iterable[str], collect: Callable[[str, Result], None]
) -> None:
    from distributed import as_completed

    running = {client.submit(_run_alone, run, name, pure=False, key=f"mousecmr-{name}"): name for name in names}
    for future in as_completed(running):  # type: ignore[no-untyped-call]
        collect(running[future], future.result())


@lru_cache(maxsize=1)
def get_predictor(config: PredictConfig, weights_sha256: str) -> Predictor:  # noqa: ARG001 (another file is loaded anew)
    """Return the predictor for ``config``, loaded once per process for weights of this checksum."""
    from mousecmr_data.inference.predictor import load_model

    return load_model(config.weights, device=config.device, engine=config.engine, cache=config.cache)


def load_predictor(config: PredictConfig) -> tuple[Predictor, str]:
    """Return the predictor for ``config`` and the checksum of its weights; the last one is kept."""
    sha256 = config.compute_weights_sha256()
    plain = PredictConfig(weights=config.weights, engine=config.engine, device=config.device, cache=config.cache)
    return get_predictor(plain, sha256), sha256


@contextmanager
def _lock_folder(folder: Path, locks: Path, name: str) -> Iterator[None]:
    """Make ``folder`` and be the only run that writes to it, by the lock ``name`` in the folder ``locks``."""
    folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise CacheError(f"Another run is writing to {folder}.", "one at a time", "wait for it, or give another folder")

    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(locks, name, refuse))
        except OSError as e:
            if isinstance(e, CacheError):
                raise  # a read-only cache has no locks: then nobody is waited for
        remove_leftovers(folder)
        yield


# Predict: one HDF5 file per mouse, which says how it was made.


class MiceProtocol(Protocol):
    """Named mice, opened one at a time: a cohort, or :class:`HDF5Files`. Implementations pickle."""

    @property
    def mice(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str, /) -> xr.Dataset: ...


@dataclass(frozen=True)
class HDF5Files:
    """Mice in HDF5 files of the dataset's layout, each under its path. ``spacing``: (z, y, x) in mm."""

    mice: tuple[str, ...]
    spacing: tuple[float, float, float] | None = None

    def __getitem__(self, name: str, /) -> xr.Dataset:
        return open_mouse_file(name, spacing=self.spacing).assign_attrs(sha256=compute_sha256(name))


def predict_cohort(
    mice: MiceProtocol,
    folder: str | Path,
    config: PredictConfig,
    *,
    overwrite: bool = False,
    workers: int = 1,
    client: Client | None = None,
    progress: EventListener | None = None,
) -> tuple[PredictResult, ...]:
    """Segment every mouse of ``mice``, a cohort or :class:`HDF5Files`.

    ``folder`` gets one HDF5 file per mouse in the dataset's layout, written whole or not at all, with the settings
    and the weights' checksum in its attributes. What is there already, with the same settings, is not done again:
    a run that was killed goes on where it stopped. Masks do not depend on how the work is spread.

    Parameters
    ----------
    overwrite
        Segment again what was segmented with other settings or from other files, instead of refusing.
    workers
        Processes on this machine, the cores shared among them. More than one needs a main module that can be
        imported (``if __name__ == "__main__"``).
    client
        A ``distributed.Client`` instead: each mouse is a task. ``folder``, and the source's files, must be
        within reach of its workers under the same paths.
    on_event
        Called with a :class:`BatchEvent` for what happens; from other processes only with the end of each mouse.

    Returns what became of each mouse, in the order of ``mice``; one that failed does not stop the rest.

    Raises :class:`~mousecmr_data.errors.FileLayoutError` where ``folder`` holds masks of other settings (nothing is
    written then), :class:`~mousecmr_data.errors.CacheError` where another run is writing to it.
    """
    if not mice.mice:
        raise ArgumentError("There is no mouse to segment.", "at least one")
    folder = Path(folder).resolve()
    settings = describe_settings(config, *load_predictor(config))
    with _lock_folder(folder, folder, PREDICT_LOCK):
        if not overwrite:
            _check_other_predictions(folder, settings)
        work = partial(_predict_one, mice, config, settings, folder, overwrite)
        return tuple(
            run_batch(mice.mice, work, _make_failed_prediction, progress=progress, workers=workers, client=client)
        )


def describe_settings(config: PredictConfig, predictor: Predictor, weights_sha256: str) -> dict[str, str]:
    """Return what masks depend on, as it stands in each file: names, and the checksum of the weights."""
    return {
        "weights": predictor.origin.name,
        "weights_sha256": weights_sha256,
        "engine": predictor.engine.name,
        "region": config.region,
        "postprocessing": config.postprocessing,
        "release": __version__,
    }


def _predict_one(
    mice: MiceProtocol,
    config: PredictConfig,
    settings: dict[str, str],
    folder: Path,
    overwrite: bool,
    name: str,
    progress: EventListener,
) -> PredictResult:
    begin = time.perf_counter()
    ds = mice[name]
    mouse, synthetic = str(ds.attrs["mouse"]), bool(ds.attrs["synthetic"])
    path = folder / f"{mouse}.h5"
    source = json.dumps(
        {"mouse": mouse, **{k: str(ds.attrs[k]) for k in ("source", "version", "sha256") if k in ds.attrs}}
    )
    if path.exists() and not overwrite:
        found = read_prediction_attrs(path)
        if found.get(ATTR_INPUT) != source or not _are_compatible(found.get(ATTR_SETTINGS), settings):
            raise FileLayoutError(f"{path} was made of another file or with other settings.", source, OVERWRITE_HINT)
        with open_mouse_file(path) as before:
            predicted = ds.assign({PREDICTED: (DIMS, before[MASK].values)})
        region = json.loads(found.get(ATTR_REGION, "{}"))
        return PredictResult(mouse, "as before", path, synthetic=synthetic, region=region, dice=_score_mouse(predicted))
    predictor, sha256 = load_predictor(config)
    if predictor.engine.name != settings["engine"]:  # "auto" chose otherwise on this machine
        predictor, sha256 = load_predictor(replace(config, engine=settings["engine"]))
    if describe_settings(config, predictor, sha256) != settings:
        raise FileLayoutError(f"{config.weights} holds other weights here.", f"SHA-256 {settings['weights_sha256']}")
    predicted = predictor.segment(
        ds,
        postprocessing=config.postprocessing,
        region=config.region,
        batch_size=config.batch_size,
        progress=_count_slices(ds, name, progress),
    )
    region = {str(k): to_json_value(v) for k, v in predicted[PREDICTED].attrs.items() if str(k).startswith("region")}
    attrs = {ATTR_SETTINGS: json.dumps(settings), ATTR_INPUT: source, ATTR_REGION: json.dumps(region)}
    write_mouse_hdf5(predicted, path, attrs)
    seconds = time.perf_counter() - begin
    return PredictResult(mouse, "done", path, None, seconds, synthetic, region, _score_mouse(predicted))


def _make_failed_prediction(name: str, error: MouseCMRError) -> PredictResult:
    return PredictResult(name, "failed", error=error)


def _count_slices(ds: xr.Dataset, name: str, progress: EventListener) -> Callable[[int], None]:
    """A progress callback that adds up slices into events."""
    total, done = ds.sizes["frame"] * ds.sizes["slice"], 0

    def add(n: int) -> None:
        nonlocal done
        done += n
        progress(BatchEvent("slices", name, done, total))

    return add


def read_prediction_attrs(path: Path) -> dict[str, str]:
    """Return what a file says of its making; empty for a file that says nothing or cannot be read."""
    try:
        with h5py.File(path) as f:
            return {k: str(f.attrs[k]) for k in (ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION) if k in f.attrs}
    except OSError:
        return {}


def _score_mouse(predicted: xr.Dataset) -> list[dict[str, Any]]:
    return [to_json_value(row) for row in score_frames(predicted).to_dict("records")]


def _are_compatible(found: str | None, settings: dict[str, str]) -> bool:
    """Whether masks of the settings ``found`` may stand where ``settings`` are asked for. Whole fields may where
    "auto" is asked for, since a window only approximates them."""
    if not found:
        return False
    other = json.loads(found)
    return bool(other == settings or (other.get("region") == "full" and {**other, "region": "auto"} == settings))


def _check_other_predictions(folder: Path, settings: dict[str, str]) -> None:
    """Masks of different weights in one folder would be taken for one set."""
    for path in sorted(folder.glob("*.h5")):
        found = read_prediction_attrs(path).get(ATTR_SETTINGS)
        if _are_compatible(found, settings):
            continue
        other = json.loads(found) if found else {}
        differ = {k: v for k, v in other.items() if settings.get(k) != v}
        raise FileLayoutError(
            f"{path} was made with other settings: {differ or 'it does not say which'}.",
            f"{ {k: settings[k] for k in differ} if differ else settings }",
            OVERWRITE_HINT,
        )


# Segment: one folder per scan, and tables over all.


def segment(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    workers: int = 1,
    progress: EventListener | None = None,
    **options: Any,
) -> BatchResult:
    """Segment scans, as ``mousecmr segment`` does: masks, volumes, quality flags and pictures in the folder ``output``.

    ``inputs``: a file, folder or zip archive, or several. ``options``: any field of
    :class:`~mousecmr_data.pipeline.config.SegmentConfig`, such as ``weights="phantom-small"``, ``spacing=(1.0, 0.1, 0.1)``
    or ``region="full"``. For ``workers``, ``progress``, the result and errors see :func:`segment_batch`.
    """
    if unknown := sorted(options.keys() - {f.name for f in fields(SegmentConfig)}):
        known = ", ".join(f.name for f in fields(SegmentConfig))
        raise ArgumentError(f"There is no option {unknown[0]!r}.", f"one of {known}")
    paths = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    config = SegmentConfig(**options)
    return segment_batch([Path(p) for p in paths], Path(output), config, workers=workers, progress=progress)


@dataclass
class BatchResult:
    """What :func:`segment_batch` did."""

    folder: Path
    mice: pd.DataFrame
    """One row per mouse: numbers, flags, ``status`` (a :data:`Status`) and ``error``."""
    errors: dict[str, MouseCMRError] = field(default_factory=dict)


def segment_batch(
    inputs: Sequence[Path],
    folder: Path,
    config: SegmentConfig | None = None,
    *,
    workers: int = 1,
    progress: EventListener | None = None,
    scratch: Path | None = None,
    predictor: Predictor | None = None,
) -> BatchResult:
    """Segment the mice in ``inputs`` (files, folders, zip archives) into ``folder``.

    Writes one folder per mouse, and four tables and a manifest over all. A mouse whose folder was made from the same
    bytes with the same settings and weights is not done again. Archives are unpacked below ``scratch`` (default: the
    system's folder for temporary files). ``predictor``: loaded before, for the weights that ``config`` names; else it
    is loaded. ``workers``: processes, which share the cores. ``progress`` is called with a :class:`BatchEvent`.

    Raises :class:`~mousecmr_data.errors.MissingDataError` where the weights are neither in the cache nor
    reachable, before anything is read or written, and where there is no mouse in ``inputs`` at all. What goes
    wrong with one mouse is in :attr:`BatchResult.errors` and in the tables.
    """
    config, tell = config or SegmentConfig(), progress or ignore_event
    if not inputs:
        raise ArgumentError("There is nothing to segment.", "files, folders or zip archives")
    started = datetime.now(UTC)
    tell(BatchEvent("loading"))
    sha256 = config.compute_weights_sha256()
    if predictor is None:
        predictor, sha256 = load_predictor(config)
    weights = _describe_weights(predictor, sha256)
    with collect_inputs(inputs, scratch) as (found, refused):
        if not found:
            raise _make_nothing_found_error(refused)
        tell(BatchEvent("found", total=len(found) + len(refused)))
        with _lock_folder(folder, get_cache_root(config.cache) / "segment", str(folder.absolute())):
            results = [_make_refused_result(r, folder) for r in refused]
            for result in results:
                tell(_make_end_event(result))
            scans = {scan.name: scan for scan in found}
            work = partial(_segment_one, scans, folder, config, weights, None if workers > 1 else predictor)
            make_failed = partial(_make_failed_scan, scans, folder, scratch)
            results += run_batch(list(scans), work, make_failed, progress=tell, workers=workers)
            rows = [_make_row(result) for result in results]
            mice = _write_tables(folder, rows)
            manifest = {
                "started": started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "use": RESEARCH_ONLY,
                "versions": _list_versions(),
                "weights": weights,
                "settings": config.to_dict(),
                "mice": [
                    {k: r.get(k) for k in ("mouse", "status", "error", "input", "seconds", "marks")} for r in rows
                ],
            }
            write_json(folder / MANIFEST_FILE, manifest)
    return BatchResult(folder, mice, {r.mouse: r.error for r in results if r.error})


def _make_nothing_found_error(refused: Sequence[RefusedInput]) -> MouseCMRError:
    first = refused[0]
    if len(refused) == 1:
        return first.error
    text = f"None of {len(refused)} inputs can be read. {first.name}: {first.error.found}"
    return MissingDataError(text, first.error.expected)


def _make_refused_result(refused: RefusedInput, folder: Path) -> SegmentResult:
    mark_outdated(folder / refused.name, refused.error)
    row: dict[str, Any] = {}
    with suppress(OSError):  # a folder, or nothing there
        row["input"] = _describe_input("", [refused.path])
    return SegmentResult(refused.name, "failed", error=refused.error, row=row)


def _make_failed_scan(
    scans: dict[str, FoundScan], folder: Path, scratch: Path | None, name: str, error: MouseCMRError
) -> SegmentResult:
    error = rename_in_error(error, scratch)
    mark_outdated(folder / name, error)
    row: dict[str, Any] = {}
    with suppress(OSError):
        row["input"] = _describe_input(scans[name].kind, scans[name].paths)
    return SegmentResult(name, "failed", error=error, row=row)


def _make_row(result: SegmentResult) -> dict[str, Any]:
    row = {"mouse": result.mouse, **result.row, "status": result.status}
    if result.error:
        return {**row, "error": result.error.found}
    return {**row, "seconds": result.seconds}


def _segment_one(
    scans: dict[str, FoundScan],
    folder: Path,
    config: SegmentConfig,
    weights: dict[str, Any],
    predictor: Predictor | None,
    name: str,
    progress: EventListener,
) -> SegmentResult:
    scan, target = scans[name], folder / name
    source = _describe_input(scan.kind, scan.paths)
    made_of = [source["sha256"], config.to_dict(), weights["sha256"], __version__]
    key = hashlib.sha256(json.dumps(made_of, default=str).encode()).hexdigest()
    record = read_record(target)
    if record and record["key"] == key:
        (target / OUTDATED_FILE).unlink(missing_ok=True)
        row = {"input": source, **record["mouse"]}
        return SegmentResult(name, "as before", target, None, record.get("seconds"), row)
    progress(BatchEvent("reading", name))
    ds = read_scan(scan, spacing=config.spacing, axes=config.axes, frame_time_ms=config.frame_time_ms)
    in_this_process = predictor is not None
    predictor = predictor or load_predictor(config)[0]
    result = analyze(ds, predictor, config, _count_slices(ds, name, progress), name)
    write_result(result, target, config, scan, key)
    row = {"input": source, **result.mouse}
    seconds = round(result.seconds, 3)
    return SegmentResult(name, "done", target, None, seconds, row, result if in_this_process else None)


def _write_tables(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write the tables over all mice; returns that of the mice."""
    first = ["mouse", "status", "error"]
    mice = pd.DataFrame(rows)
    mice = mice.reindex(columns=[*first, *(c for c in mice.columns if c not in (*first, "input"))])
    whole_numbers = [c for c in ("frames", "slices", "ed_frame", "es_frame") if c in mice]
    mice = mice.astype(dict.fromkeys(whole_numbers, "Int64"))
    frames, slices, flags = [], [], []
    for row in rows:
        if row["status"] == "failed":
            continue
        f, s = read_tables(folder / row["mouse"])
        frames.append(f)
        slices.append(s)
        record = read_record(folder / row["mouse"]) or {"flags": []}
        flags += [{"mouse": row["mouse"], **flag, "marks": row["marks"]} for flag in record["flags"]]
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    flagged = pd.DataFrame(flags, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    joined = [pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (frames, slices)]
    names = (MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE)
    for name, table in zip(names, (mice, *joined, flagged), strict=True):
        write_text(folder / name, table.to_csv(index=False))
    return mice


def _describe_weights(predictor: Predictor, sha256: str) -> dict[str, Any]:
    """Which weights, with their checksum."""
    origin = predictor.origin
    return {
        "name": origin.name,
        "sha256": sha256,
        "trained_on": origin.trained_on,
        "limits": origin.limits,
        "synthetic_training": origin.synthetic_training,
        "engine": predictor.engine.name,
    }


def _describe_input(kind: str, paths: Sequence[Path]) -> dict[str, Any]:
    """What the manifest says of a mouse's files."""
    size = sum(p.stat().st_size for p in paths)
    return {"format": kind, "files": len(paths), "bytes": size, "sha256": hash_files(paths)}


def _list_versions() -> dict[str, str]:
    found = {"mousecmr-data": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}
