"""Segment many mice. Finished mice are skipped in a later run, and one that fails does not stop the rest.

:func:`predict_cohort` writes one HDF5 file per mouse of a cohort, :func:`segment_batch` one folder per scan with masks,
tables and pictures. Both use :func:`run_batch`, which works in this process, in several, or on a dask cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import remove_leftovers, to_json_value, write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256, hash_files
from mousecmr_data._utils.environment import describe_machine, list_versions, set_threads
from mousecmr_data._utils.hdf5 import open_hdf5
from mousecmr_data._utils.locks import try_lock
from mousecmr_data._utils.outputs import (
    FILES_KEY,
    check_apart,
    check_replaceable,
    make_foreign_error,
    read_listed_files,
    write_folder,
)
from mousecmr_data._utils.parallel import map_in_processes, map_on_cluster, read_in_child, start_reader
from mousecmr_data._utils.progress import open_bar
from mousecmr_data._utils.reading import ABSENT, check_access, make_read_error
from mousecmr_data._utils.tables import format_csv, write_workbook
from mousecmr_data._utils.text import RESEARCH_ONLY, hide_home, make_file_name
from mousecmr_data._version import __version__
from mousecmr_data.dataset.hdf5 import load_mouse_file, open_mouse_file, read_header
from mousecmr_data.dataset.model import check_not_empty
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import (
    ArgumentError,
    CacheError,
    FileLayoutError,
    MissingDataError,
    MouseCMRError,
)
from mousecmr_data.formats.discover import FoundScan, collect_inputs, rename_in_error
from mousecmr_data.formats.masks import LeftOutFile
from mousecmr_data.formats.read import read_scan
from mousecmr_data.metrics.overlap import score_frames
from mousecmr_data.pipeline import writers
from mousecmr_data.pipeline.analysis import MICE_COLUMNS, AnalysisResult, analyze
from mousecmr_data.pipeline.config import PredictConfig, SegmentConfig
from mousecmr_data.pipeline.review import is_measured, update_result
from mousecmr_data.schema.variables import ATTR_MOUSE, ATTR_SETTINGS, DIMS, MASK, PREDICTED

if TYPE_CHECKING:
    from distributed import Client

    from mousecmr_data.inference.predictor import Predictor
    from mousecmr_data.inference.roi import RegionMode
    from mousecmr_data.metrics.postprocessing import PostprocessingRule

MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE = "mice.csv", "frames.csv", "slices.csv", "flags.csv"
CSV_FILES = (MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE)
WORKBOOK_FILE = "tables.xlsx"
"""The tables of all mice as sheets of one Excel workbook."""
TABLE_FILES = (*CSV_FILES, WORKBOOK_FILE)
MANIFEST_FILE = "manifest.json"
ATTR_INPUT, ATTR_REGION = "prediction_input", "prediction_region"
PACKAGES = ("numpy", "scipy", "xarray", "torch", "openvino", "nibabel", "pydicom", "highdicom", "brukerapi")
LOADING_TEXT = "Loading the weights. The first time, engines are also tested on this computer, for up to a minute."
OVERWRITE_HINT = "give another folder, or --overwrite (overwrite=True) to segment them again"
PREDICT_LOCK = "predict"

Status = Literal["done", "as before", "measured again", "failed"]
"""Segmented in this run; segmented by an earlier run with the same settings; the same, but its masks were corrected
since and were measured again; failed."""


@dataclass(frozen=True)
class MouseResult:
    """The result for one mouse."""

    mouse: str
    status: Status
    path: Path | None = None
    """The file or folder with the masks."""
    error: MouseCMRError | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class PredictResult(MouseResult):
    """The result for one mouse of a cohort."""

    synthetic: bool = False
    region: dict[str, Any] = field(default_factory=dict)
    """How the region of interest was used; see docs/predicting.md."""
    dice: list[dict[str, Any]] = field(default_factory=list)
    """Overlap with expert masks, one row per labelled frame."""


@dataclass(frozen=True)
class SegmentResult(MouseResult):
    """The result for one scan."""

    row: dict[str, Any] = field(default_factory=dict)
    """Its row in the table of mice."""
    analysis: AnalysisResult | None = None
    """The whole analysis; only for scans segmented in this run and in this process."""


@dataclass(frozen=True)
class BatchEvent:
    """An event of a batch, by ``kind``: "loading" the weights; "found" mice (``total`` of them); "reading" a mouse;
    "slices" (``done`` of ``total`` 2D slices segmented); or a :data:`Status` at the end of a mouse, with ``result``."""

    kind: Literal["loading", "found", "reading", "slices"] | Status
    name: str = ""
    done: int = 0
    total: int = 0
    result: MouseResult | None = None


EventListener = Callable[[BatchEvent], None]
ProgressOption = bool | EventListener | None
"""Called with each event; True draws a bar of the whole batch, in mice, with the time left; None where it is seen."""
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
    """Call ``work`` for each of ``names`` and return the results in this order; ``make_failed`` makes those of errors.

    Both functions must pickle. ``workers`` processes on this machine share its cores; ``client`` (a
    ``distributed.Client``) is used instead of them. ``progress`` is called with the end of every mouse and, for mice
    segmented in this process, also with earlier events.
    """
    progress = progress or ignore_event
    threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
    run = partial(_run_one, work, make_failed, threads)
    if client is None and min(workers, len(names)) <= 1:
        in_order = []
        for name in names:
            in_order.append(run(name, progress))
            progress(_make_end_event(in_order[-1]))
        return in_order
    results: dict[str, Result] = {}

    def collect(name: str, result: Result) -> None:
        results[name] = result
        progress(_make_end_event(result))

    if client is None:
        map_in_processes(run, names, workers, collect, make_failed)
    else:
        map_on_cluster(run, names, client, collect, make_failed)
    return [results[name] for name in names]


@contextmanager
def open_batch_bar(progress: ProgressOption, title: str = "segmenting, in mice") -> Iterator[EventListener]:
    """Yield ``progress`` if it is a function, else one that draws the bar that it asks for."""
    if callable(progress):
        yield progress
        return
    with ExitStack() as bars:
        advance: list[Callable[[float], None]] = []
        counted = 0.0  # the share of the present mouse that the bar has counted

        def listen(event: BatchEvent) -> None:
            nonlocal counted
            if event.kind == "found":
                advance.append(bars.enter_context(open_bar(progress, title, event.total)))
            elif advance and event.kind not in ("loading", "reading"):
                share = event.done / event.total if event.kind == "slices" else 1.0
                advance[0](share - counted)
                counted = share if event.kind == "slices" else 0.0

        yield listen


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
    start = time.perf_counter()
    try:
        if threads:
            set_threads(threads)
        return work(name, progress)
    except Exception as e:  # no error of one mouse may stop the rest
        error = e if isinstance(e, MouseCMRError) else MouseCMRError(f"{name}: {type(e).__name__}: {e}")
        return replace(make_failed(name, error), seconds=time.perf_counter() - start)


@lru_cache(maxsize=1)
def _load_predictor(config: PredictConfig, weights_sha256: str) -> Predictor:  # noqa: ARG001 (part of the cache key)
    from mousecmr_data.inference.predictor import load_model

    return load_model(
        config.weights,
        device=config.device,
        engine=config.engine,
        force=config.force,
        cache=config.cache,
        network=config.network,
    )


def load_predictor(config: PredictConfig) -> tuple[Predictor, str]:
    """Return the predictor for ``config`` and the SHA-256 of its weights; the last predictor is cached."""
    sha256 = config.compute_weights_sha256()
    names = ("weights", "network", "engine", "force", "device", "cache")
    key = PredictConfig(**{name: getattr(config, name) for name in names})
    return _load_predictor(key, sha256), sha256


def _load_predictor_again(config: PredictConfig, settings: dict[str, str]) -> Predictor:
    """Return the predictor that made ``settings``, in a process or on a machine where "auto" may choose another engine.

    Raises FileLayoutError if it is not the same here.
    """
    predictor, sha256 = load_predictor(config)
    if predictor.engine.name != settings["engine"]:
        predictor, sha256 = load_predictor(replace(config, engine=settings["engine"]))
    if (found := describe_settings(config, predictor, sha256)) != settings:
        differ = [name for name in settings if found.get(name) != settings[name]]
        text = ", ".join(f"{name} {found.get(name)}" for name in differ)
        raise FileLayoutError(
            f"{config.weights} on {platform.node() or 'this machine'}: {text}.",
            ", ".join(f"{name} {settings[name]}" for name in differ),
            "install the same release on every machine, and give each the same weights",
        )
    return predictor


@contextmanager
def _lock_folder(folder: Path, locks: Path, name: str) -> Iterator[None]:
    """Make ``folder`` and hold the lock ``name`` in the folder ``locks``, so that only one run writes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
        raise CacheError(f"Another run is writing to {folder}.", "one at a time", "wait for it, or give another folder")

    with try_lock(locks, name, refuse):
        remove_leftovers(folder)
        yield
        remove_leftovers(folder)  # of processes and workers that ended


# Predict: one HDF5 file per mouse, with the settings in its attributes


class MiceProtocol(Protocol):
    """Named mice that are opened one at a time: a cohort, or :class:`HDF5Files`. Implementations must pickle, and
    for more than one worker be defined in a module, not in the main script."""

    @property
    def mice(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> Any: ...
    def __getitem__(self, name: str, /) -> xr.Dataset: ...


@dataclass(frozen=True)
class HDF5Files:
    """Mice in HDF5 files of the dataset's layout; the paths are the names. ``spacing`` is (z, y, x) in mm;
    ``axes`` says what the axes of their arrays are, one letter each."""

    mice: tuple[str, ...]
    spacing: tuple[float, float, float] | None = None
    axes: str | None = None
    source: ClassVar[None] = None

    def __getitem__(self, name: str, /) -> xr.Dataset:
        ds = read_in_child(load_mouse_file, name, name, spacing=self.spacing, axes=self.axes)
        return ds.assign_attrs(sha256=compute_sha256(name))


def predict_cohort(
    mice: MiceProtocol,
    folder: str | Path,
    config: PredictConfig,
    *,
    overwrite: bool = False,
    workers: int = 1,
    client: Client | None = None,
    progress: ProgressOption = None,
) -> tuple[PredictResult, ...]:
    """Segment every mouse of ``mice``, a cohort or :class:`HDF5Files`.

    ``folder`` gets one HDF5 file per mouse in the dataset's layout, written whole or not at all, with the settings and
    the checksum of the weights in its attributes. Existing files with the same settings are kept, so a run that was
    killed continues where it stopped. Returns one result per mouse, in the order of ``mice``; a mouse that failed does
    not stop the rest. Masks do not depend on how the work is distributed.

    With ``overwrite``, mice that were segmented with other settings or from another file are segmented again instead of
    refused. ``workers`` is the number of processes on this machine, which share the cores; one that
    ends fails its mouse only. With a ``client`` (``distributed.Client``), each mouse
    is a task instead; its workers must reach ``folder`` and the source's files under the same paths. ``progress`` is
    called with each :class:`BatchEvent`; for mice in other processes only with the end of each mouse. True draws a bar,
    False none, None does on a terminal and in a notebook.

    Raises :class:`~mousecmr_data.errors.FileLayoutError` if ``folder`` holds masks of other settings (nothing is
    written then), and :class:`~mousecmr_data.errors.CacheError` if another run is writing to it.
    """
    check_not_empty(mice.mice)
    folder = Path(folder).resolve()
    settings = describe_settings(config, *load_predictor(config))
    with _lock_folder(folder, folder, PREDICT_LOCK):
        if not overwrite:
            _check_existing_settings(folder, settings)
        inputs = {name: _find_input(mice, name) for name in mice.mice}
        owners: dict[str, str] = {}
        for name in mice.mice:
            owners.setdefault(f"{make_file_name(_read_mouse_name(mice, name))}.h5", name)
        check_apart([folder / name for name in owners], inputs.values())
        work = partial(_predict_one, mice, config, settings, folder, overwrite, owners)
        with open_batch_bar(progress) as listen:
            listen(BatchEvent("found", total=len(mice.mice)))
            return tuple(
                run_batch(mice.mice, work, _make_failed_prediction, progress=listen, workers=workers, client=client)
            )


def _find_input(mice: MiceProtocol, name: str) -> Path:
    return Path(name) if isinstance(mice, HDF5Files) else mice.source.get_path(name)


def _read_mouse_name(mice: MiceProtocol, name: str) -> str:
    """Return the name inside a file, which is that of its output; a file that cannot be read fails later."""
    if isinstance(mice, HDF5Files):
        with suppress(MouseCMRError):
            return str(read_in_child(read_header, name, name, mice.axes).attrs.get(ATTR_MOUSE, Path(name).stem))
    return name


def describe_settings(config: PredictConfig, predictor: Predictor, weights_sha256: str) -> dict[str, str]:
    """Return everything that masks depend on, as it is written to each file."""
    return {
        "weights": predictor.origin.name,
        "weights_sha256": weights_sha256,
        "engine": predictor.engine.name,
        "region": config.region,
        "postprocessing": config.postprocessing,
        "release": __version__,
        **({"network": config.network} if config.network else {}),
    }


def _predict_one(
    mice: MiceProtocol,
    config: PredictConfig,
    settings: dict[str, str],
    folder: Path,
    overwrite: bool,
    owners: dict[str, str],
    name: str,
    progress: EventListener,
) -> PredictResult:
    start = time.perf_counter()
    ds = mice[name]
    mouse, synthetic = str(ds.attrs["mouse"]), bool(ds.attrs["synthetic"])
    path = folder / f"{make_file_name(mouse)}.h5"
    if (first := owners.get(path.name, name)) != name:
        raise ArgumentError(f"{first} and {name} are both called {mouse}.", "one mouse of each name in a folder")
    if path.exists() and ATTR_SETTINGS not in read_prediction_attrs(path):
        raise make_foreign_error(folder, [path.name])
    source = {"mouse": mouse, **{k: str(ds.attrs[k]) for k in ("source", "version", "sha256") if k in ds.attrs}}
    input_json = json.dumps(source)
    if path.exists() and not overwrite:
        stored = read_prediction_attrs(path)
        if stored.get(ATTR_INPUT) != input_json or not _are_compatible(stored.get(ATTR_SETTINGS), settings):
            text = f"{path} was made from another file or with other settings."
            raise FileLayoutError(text, input_json, OVERWRITE_HINT)
        with open_mouse_file(path) as existing:
            predicted = ds.assign({PREDICTED: (DIMS, existing[MASK].values)})
        region = json.loads(stored.get(ATTR_REGION, "{}"))
        return PredictResult(mouse, "as before", path, synthetic=synthetic, region=region, dice=_score_mouse(predicted))
    predictor = _load_predictor_again(config, settings)
    counter = _make_slice_counter(ds, name, progress)
    predicted = predictor.segment(
        ds, postprocessing=config.postprocessing, region=config.region, batch_size=config.batch_size, progress=counter
    )
    region = {str(k): to_json_value(v) for k, v in predicted[PREDICTED].attrs.items() if str(k).startswith("region")}
    attrs = {ATTR_SETTINGS: json.dumps(settings), ATTR_INPUT: input_json, ATTR_REGION: json.dumps(region)}
    writers.write_mouse_hdf5(predicted, path, attrs)
    seconds = time.perf_counter() - start
    return PredictResult(mouse, "done", path, None, seconds, synthetic, region, _score_mouse(predicted))


def _make_failed_prediction(name: str, error: MouseCMRError) -> PredictResult:
    return PredictResult(name, "failed", error=error)


def _make_slice_counter(ds: xr.Dataset, name: str, progress: EventListener) -> Callable[[int], None]:
    """Return a callback that adds up numbers of slices and reports the sum as events."""
    total, done = ds.sizes["frame"] * ds.sizes["slice"], 0

    def add(n: int) -> None:
        nonlocal done
        done += n
        progress(BatchEvent("slices", name, done, total))

    return add


def read_prediction_attrs(path: Path) -> dict[str, str]:
    """Return the attributes that state how a file was made; empty if there are none or the file is damaged."""
    try:
        with open_hdf5(path) as f:
            return {k: str(f.attrs[k]) for k in (ATTR_SETTINGS, ATTR_INPUT, ATTR_REGION) if k in f.attrs}
    except OSError as e:
        check_access(e, path)
        return {}


def _score_mouse(predicted: xr.Dataset) -> list[dict[str, Any]]:
    return [to_json_value(row) for row in score_frames(predicted).to_dict("records")]


def _are_compatible(stored: str | None, settings: dict[str, str]) -> bool:
    """Return whether masks made with ``stored`` settings can be used for ``settings``.

    Masks of whole fields can be used for "auto", because a window only approximates them.
    """
    if not stored:
        return False
    other = json.loads(stored)
    return bool(other == settings or (other.get("region") == "full" and {**other, "region": "auto"} == settings))


def _check_existing_settings(folder: Path, settings: dict[str, str]) -> None:
    """Raise :class:`FileLayoutError` if ``folder`` holds masks of other settings: one folder must hold one set."""
    for path in sorted(folder.glob("*.h5")):
        stored = read_prediction_attrs(path).get(ATTR_SETTINGS)
        if not _are_compatible(stored, settings):
            differ = {k: v for k, v in json.loads(stored or "{}").items() if settings.get(k) != v}
            text = f"{path} was made with other settings: {differ or 'the file does not state them'}."
            expected = {k: settings[k] for k in differ} if differ else settings
            raise FileLayoutError(text, str(expected), OVERWRITE_HINT)


# Segment: one folder per scan, and tables of all of them


def segment(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    weights: str = SegmentConfig.weights,
    network: str | None = SegmentConfig.network,
    spacing: tuple[float, float, float] | None = None,
    axes: str | None = None,
    frames: int | None = None,
    fill: float | None = None,
    frame_time_ms: float | None = None,
    postprocessing: PostprocessingRule = SegmentConfig.postprocessing,
    engine: str = SegmentConfig.engine,
    force: bool = SegmentConfig.force,
    region: RegionMode = SegmentConfig.region,
    device: str = SegmentConfig.device,
    batch_size: int = SegmentConfig.batch_size,
    pictures: bool = SegmentConfig.pictures,
    images: bool = SegmentConfig.images,
    dicom_seg: bool = SegmentConfig.dicom_seg,
    matlab: bool = SegmentConfig.matlab,
    keep_names: bool = SegmentConfig.keep_names,
    cache: str | Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    client: Client | None = None,
    progress: ProgressOption = None,
) -> BatchResult:
    """Segment scans like ``mousecmr segment``: write masks, volumes, flags and pictures to the folder ``output``.

    ``inputs`` is a file, folder or zip archive, or several. The parameters from ``weights`` to ``cache`` are the fields
    of :class:`~mousecmr_data.pipeline.config.SegmentConfig`, which explains them. ``progress`` is called with each
    :class:`BatchEvent`; True draws a bar, False none, None does on a terminal and in a notebook. For the others, the
    result and errors see :func:`segment_batch`.
    """
    config = SegmentConfig(
        weights=weights, network=network, spacing=spacing, axes=axes, frames=frames, fill=fill,
        frame_time_ms=frame_time_ms,
        postprocessing=postprocessing, engine=engine, force=force, region=region, device=device, batch_size=batch_size,
        pictures=pictures, dicom_seg=dicom_seg, keep_names=keep_names, matlab=matlab, cache=cache,
        images=images,
    )  # fmt: skip
    paths = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    with open_batch_bar(progress) as listen:
        return segment_batch(
            [Path(p) for p in paths], Path(output), config, overwrite=overwrite, workers=workers, client=client,
            progress=listen,
        )  # fmt: skip


@dataclass
class BatchResult:
    """The result of :func:`segment_batch`."""

    folder: Path
    mice: pd.DataFrame
    """One row per mouse: numbers, flags, ``status`` (a :data:`Status`) and ``error``."""
    errors: dict[str, MouseCMRError] = field(default_factory=dict)
    left_out: list[LeftOutFile] = field(default_factory=list)
    """Files that are masks or results of programs, and so were not segmented."""


def segment_batch(
    inputs: Sequence[Path],
    folder: Path,
    config: SegmentConfig | None = None,
    *,
    overwrite: bool = False,
    workers: int = 1,
    client: Client | None = None,
    progress: EventListener | None = None,
    scratch: Path | None = None,
    predictor: Predictor | None = None,
) -> BatchResult:
    """Segment the mice in ``inputs`` (files, folders, zip archives) and write the results to ``folder``.

    Writes one folder per mouse, and four tables and a manifest of all mice. A mouse is skipped if its folder was made
    from the same bytes with the same settings and weights; if its masks were corrected since, they are measured again.
    Only unedited files of earlier results are replaced; with ``overwrite`` edited and reviewed ones, too; files of
    others stay. Archives are unpacked in ``scratch`` (default: the system's
    folder for temporary files; a given one also holds the lock of ``folder``). ``predictor`` must have the weights that
    ``config`` names; None loads them. ``workers`` is the number of processes, which share the cores. With a ``client``
    (``distributed.Client``), each mouse is a task instead; its workers must reach the inputs, ``folder`` and the
    weights under the same paths, and archives are unpacked beside ``folder``. ``progress`` is called with each
    :class:`BatchEvent`.

    Raises :class:`~mousecmr_data.errors.OutputError` if the results would be, hold or lie in an input, or replace files
    that may not be replaced, and :class:`~mousecmr_data.errors.MissingDataError` if the weights are neither in the
    cache nor reachable (before anything is read or written), or if there is no mouse in ``inputs``. Errors of single
    mice are in :attr:`BatchResult.errors` and in the tables.
    """
    config, progress = config or SegmentConfig(), progress or ignore_event
    if not inputs:
        raise ArgumentError("There is nothing to segment.", "files, folders or zip archives")
    check_apart([folder / name for name in TABLE_FILES], inputs)
    started = datetime.now(UTC)
    progress(BatchEvent("loading"))
    start_reader()
    sha256 = config.compute_weights_sha256()
    if predictor is None:
        predictor, sha256 = load_predictor(config)
    origin = predictor.origin
    weights = {**vars(origin), "sha256": sha256, "engine": predictor.engine.name}
    settings = describe_settings(config, predictor, sha256)
    left_out: list[LeftOutFile] = []
    unpacked = scratch
    if client and not scratch:  # the workers may not reach this machine's temporary folder
        unpacked = next(parent for parent in folder.absolute().parents if parent.is_dir())
    with collect_inputs(inputs, unpacked, left_out) as (found, refused):
        if len(refused) == 1 and not found:
            raise refused[0].error
        if not found:
            first = refused[0]
            text = f"None of {len(refused)} inputs can be read. {first.name}: {first.error.found}"
            raise MissingDataError(text, first.error.expected)
        outputs = [folder / name for name in [s.name for s in found] + [r.name for r in refused]]
        check_apart(outputs, [*inputs, *(path for scan in found for path in scan.files)])
        check_replaceable(folder, TABLE_FILES, _list_tables(folder), overwrite=overwrite)
        progress(BatchEvent("found", total=len(found) + len(refused)))
        with _lock_folder(folder, scratch or get_cache_root(config.cache) / "segment", str(folder.resolve())):
            results = [_make_failed_result(folder, r.name, r.error, "", [r.path]) for r in refused]
            for result in results:
                progress(_make_end_event(result))
            scans = {scan.name: scan for scan in found}
            kept = predictor if client is None and workers <= 1 else None
            work = partial(_segment_one, scans, folder, config, settings, overwrite, kept)
            make_failed = partial(_make_failed_scan, scans, folder, unpacked)
            results += run_batch(list(scans), work, make_failed, progress=progress, workers=workers, client=client)
            rows = [_make_row(result) for result in results]
            manifest = {
                "started": started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "use": RESEARCH_ONLY,
                "versions": list_versions(*PACKAGES) | {"machine": describe_machine()},
                "weights": weights,
                "settings": config.to_dict() | {"weights": hide_home(config.weights)},
                "mice": [_summarize(row) for row in rows],
                "left_out": [{"path": str(file.path), "reason": file.reason} for file in left_out],
            }
            with write_folder(
                folder, record=MANIFEST_FILE, listed=_list_tables(folder), overwrite=overwrite, inside=True
            ) as tables:
                mice = _write_tables(folder, tables, rows)
                write_json(tables / MANIFEST_FILE, manifest)
    return BatchResult(folder, mice, {r.mouse: r.error for r in results if r.error}, left_out)


def _make_failed_scan(
    scans: dict[str, FoundScan], folder: Path, scratch: Path | None, name: str, error: MouseCMRError
) -> SegmentResult:
    return _make_failed_result(folder, name, rename_in_error(error, scratch), scans[name].kind, scans[name].files)


def _make_failed_result(
    folder: Path, name: str, error: MouseCMRError, kind: str, paths: Sequence[Path]
) -> SegmentResult:
    writers.mark_outdated(folder / name, error)
    row: dict[str, Any] = {}
    with suppress(OSError):  # a folder, or no file
        row["input"] = _describe_input(kind, paths)
    return SegmentResult(name, "failed", error=error, row=row)


def _make_row(result: SegmentResult) -> dict[str, Any]:
    row = {"mouse": result.mouse, **result.row, "status": result.status}
    return {**row, "error": hide_home(result.error.found)} if result.error else {**row, "seconds": result.seconds}


def _segment_one(
    scans: dict[str, FoundScan],
    folder: Path,
    config: SegmentConfig,
    settings: dict[str, str],
    overwrite: bool,
    predictor: Predictor | None,
    name: str,
    progress: EventListener,
) -> SegmentResult:
    scan, target = scans[name], folder / name
    source = _describe_input(scan.kind, scan.files)
    made_from = [source["sha256"], config.to_dict(), settings["weights_sha256"], __version__]
    key = hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()
    record = writers.read_record(target)
    has_edits = record is not None and not is_measured(target)
    is_corrected = has_edits or (target / writers.REVIEW_FILE).is_file()
    if record and record["key"] == key and not (overwrite and is_corrected):
        if has_edits:
            updated = update_result(target, scan=scan, config=config)
            row = {"input": source, **updated.mouse}
            return SegmentResult(name, "measured again", target, None, record.get("seconds"), row)
        if writers.OUTDATED_FILE in read_listed_files(target / writers.RECORD_FILE):
            (target / writers.OUTDATED_FILE).unlink(missing_ok=True)
        row = {"input": source, **record["mouse"]}
        return SegmentResult(name, "as before", target, None, record.get("seconds"), row)
    writers.check_result_folder(target, overwrite)
    progress(BatchEvent("reading", name))
    ds = read_in_child(read_scan, name, scan, **config.reading)
    in_this_process = predictor is not None
    predictor = predictor or _load_predictor_again(config, settings)
    result = analyze(ds, predictor, config, _make_slice_counter(ds, name, progress), name)
    result = writers.write_result(result, target, config, scan, key, overwrite)
    row = {"input": source, **result.mouse}
    seconds = round(result.seconds, 3)
    return SegmentResult(name, "done", target, None, seconds, row, result if in_this_process else None)


def _list_tables(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the tables that an earlier run wrote to ``folder``, by name."""
    listed = read_listed_files(folder / MANIFEST_FILE)
    if listed or not (folder / MANIFEST_FILE).is_file():
        return listed
    try:  # a manifest from before files were listed
        about = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        earlier = {"settings", "weights", "mice"} <= about.keys()
    except (*ABSENT, ValueError, AttributeError):
        earlier = False
    except OSError as e:
        raise make_read_error(folder / MANIFEST_FILE, e) from e
    if not earlier:
        raise make_foreign_error(folder, [MANIFEST_FILE])
    return {name: compute_sha256(folder / name) for name in CSV_FILES if (folder / name).is_file()}


def update_tables(folder: str | PathLike[str]) -> pd.DataFrame:
    """Write the tables of all mice in a folder of ``mousecmr segment`` again, after results in it were corrected.

    Returns the table of mice. Raises :class:`~mousecmr_data.errors.MissingDataError` if it is no such folder, and
    OutputError if a table was edited.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        earlier = [dict(row) for row in manifest["mice"]]
    except (*ABSENT, ValueError, KeyError, TypeError) as e:
        text = f"{folder} holds no results of several mice: it has no {MANIFEST_FILE}."
        raise MissingDataError(text, "the folder given to mousecmr segment -o") from e
    rows = []
    for row in earlier:
        if record := writers.read_record(folder / str(row["mouse"])):
            row |= record["mouse"]
        rows.append(row if record else {**row, "status": "failed", "error": row.get("error") or "no result"})
    with write_folder(folder, record=MANIFEST_FILE, listed=_list_tables(folder), inside=True) as tables:
        mice = _write_tables(folder, tables, rows)
        kept = {k: v for k, v in manifest.items() if k != FILES_KEY}
        write_json(tables / MANIFEST_FILE, {**kept, "mice": [_summarize(row) for row in rows]})
    return mice


def _summarize(row: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a mouse in the manifest."""
    columns = ("mouse", "status", "error", "input", "seconds", "readers", "review_minutes", "marks")
    return {k: row.get(k) for k in columns}


def _write_tables(results: Path, folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write the tables of all mice in ``results`` to ``folder``; return the one with a row per mouse."""
    mice = pd.DataFrame(rows).reindex(columns=["mouse", "status", "error", *MICE_COLUMNS, "seconds"])
    counts = ("frames", "slices", "slices_edited", "slices_excluded", "slices_confirmed")
    integers = [*counts, *(f"{phase}_frame{end}" for phase in ("ed", "es") for end in ("", "_auto"))]
    mice = mice.astype(dict.fromkeys(integers, "Int64"))
    frames, slices, flags = [], [], []
    for row in rows:
        if row["status"] != "failed":
            mouse_frames, mouse_slices = writers.read_tables(results / row["mouse"])
            frames.append(mouse_frames)
            slices.append(mouse_slices)
            record = writers.read_record(results / row["mouse"]) or {"flags": []}
            flags += [{"mouse": row["mouse"], **flag, "marks": row["marks"]} for flag in record["flags"]]
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    tables = [mice, *(pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (frames, slices))]
    tables.append(pd.DataFrame(flags, columns=columns).astype({"frame": "Int64", "slice": "Int64"}))
    sheets = dict(zip((Path(name).stem for name in CSV_FILES), tables, strict=True))
    for name, table in sheets.items():
        write_text(folder / f"{name}.csv", format_csv(table))
    write_workbook(folder / WORKBOOK_FILE, sheets)
    return mice


def _describe_input(kind: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the entry of the manifest for the files of a mouse."""
    size = sum(p.stat().st_size for p in paths)
    return {"format": kind, "files": len(paths), "bytes": size, "sha256": hash_files(paths)}
