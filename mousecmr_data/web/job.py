"""Run a job of the page: :func:`~mousecmr_data.pipeline.batch.segment_batch`, pictures for the viewer, and one zip."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pandas as pd

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.batch import FLAGS_FILE, LOADING_TEXT, BatchEvent, SegmentResult, segment_batch
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.web.sessions import Session
from mousecmr_data.web.viewer import write_viewer

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor

FIRST_GUESS = {PUBLISHED_WEIGHTS: 0.08, SMALL_WEIGHTS: 0.02}
"""Seconds per 2D slice on two processor cores, most of them in a window; measured on a shared machine, rounded up."""
DEFAULT_GUESS = 0.08
LOADING_SECONDS = {PUBLISHED_WEIGHTS: 12.0, SMALL_WEIGHTS: 5.0}
"""Seconds until the weights are loaded and the first slice is done, once after the start of the server."""
WRITING_SECONDS = 0.01
"""Seconds per slice for pictures and files."""
NEWEST_SHARE = 0.5
"""Weight of the newest job in the running mean."""


class TimeEstimator:
    """Estimates how long a job takes: from a first guess, then from the seconds per slice of earlier jobs."""

    def __init__(self) -> None:
        self._measured: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, weights: str, slices: int, seconds: float) -> None:
        """Add a job of ``slices`` 2D slices that took ``seconds``, without the loading of weights."""
        if slices > 0:
            with self._lock:
                old = self._measured.get(weights, seconds / slices)
                self._measured[weights] = (1 - NEWEST_SHARE) * old + NEWEST_SHARE * seconds / slices

    def estimate(self, weights: str, slices: int) -> tuple[float, bool]:
        """Return the seconds for ``slices``, and whether they are based on earlier jobs."""
        if weights in self._measured:
            return self._measured[weights] * slices, True
        loading = LOADING_SECONDS.get(weights, LOADING_SECONDS[SMALL_WEIGHTS])
        return (FIRST_GUESS.get(weights, DEFAULT_GUESS) + WRITING_SECONDS) * slices + loading, False


def format_duration(seconds: float) -> str:
    """Return a rounded duration: 8 s, 40 s, 3 min."""
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{10 * round(seconds / 10)} s"
    return f"{max(2, round(seconds / 60))} min"


ProgressReport = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and a text."""
RESULTS_FOLDER, VIEWS_FOLDER, ZIP_FILE = "out", "view", "results.zip"
COMPRESSED_SUFFIXES = (".gz", ".webp", ".png", ".dcm")
"""Files that are stored in the zip as they are, because they are already compressed."""


class SessionClosed(BaseException):
    """The page was closed while its job ran. Not an Exception, because it must end the whole batch."""


class JobThread:
    """One thread that runs all jobs, one at a time.

    Gradio runs functions in ever new threads, and matplotlib keeps open fonts, and glibc memory, for each of them.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[str], Context, Callable[[], str]]] = SimpleQueue()
        threading.Thread(target=self._run, name="jobs", daemon=True).start()

    def run(self, action: Callable[[], str]) -> str:
        """Run ``action`` in the thread, in the context of the caller; return its result or raise its error."""
        future: Future[str] = Future()
        self._calls.put((future, copy_context(), action))
        return future.result()

    def _run(self) -> None:
        while True:
            future, context, action = self._calls.get()
            try:
                future.set_result(context.run(action))
            except BaseException as e:
                future.set_exception(e)


@dataclass
class JobOutcome:
    """The results that the page shows."""

    mice: list[dict[str, Any]]
    """One row per mouse, as in mice.csv."""
    flags: pd.DataFrame
    """The table in flags.csv."""
    errors: dict[str, MouseCMRError]
    views: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    zip_bytes: int = 0


def run_job(
    session: Session,
    config: SegmentConfig,
    load: Callable[[], Predictor],
    estimator: TimeEstimator,
    report: ProgressReport,
) -> JobOutcome:
    """Segment the uploads of ``session`` with the predictor that ``load`` returns, and make pictures and a zip.

    Results of an earlier job are removed first. Raises :class:`~mousecmr_data.errors.MissingDataError` if the weights
    are not available, and :class:`SessionClosed` as soon as the page is closed; the folder of the session is then
    removed.
    """
    try:
        with session.hold_folder():
            if session.closed:
                raise SessionClosed
            return _run_locked(session, config, load, estimator, report)
    finally:
        _release_memory()


def _release_memory() -> None:
    """Give free memory back to the system: glibc keeps it, in ever smaller pieces, and more with each job."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # other C libraries do not need this
        ctypes.CDLL(None).malloc_trim(0)


def _run_locked(
    session: Session,
    config: SegmentConfig,
    load: Callable[[], Predictor],
    estimator: TimeEstimator,
    report: ProgressReport,
) -> JobOutcome:
    start = time.perf_counter()
    session.remove_results()
    report(0.0, LOADING_TEXT)
    predictor = load()
    loaded = time.perf_counter()
    views: list[dict[str, Any]] = []
    total, finished, slices = 1, 0, 0

    def handle_event(event: BatchEvent) -> None:
        nonlocal total, finished, slices
        if session.closed:
            raise SessionClosed
        if event.kind == "found":
            total = max(1, event.total)
        elif event.kind == "reading":
            report(finished / total, f"{event.name}: reading")
        elif event.kind == "slices":
            seconds = (time.perf_counter() - loaded) / max(1, slices + event.done) * (event.total - event.done)
            text = f"{event.name}: {event.done} of {event.total} slices"
            text += f", {format_duration(seconds)} left" if total == 1 else f" (mouse {finished + 1} of {total})"
            if event.done >= event.total:
                text = f"{event.name}: all slices done; measuring, checking and drawing"
            report((finished + 0.8 * event.done / max(1, event.total)) / total, text)
        elif event.kind in ("done", "failed"):
            finished += 1
            if isinstance(event.result, SegmentResult) and (analysis := event.result.analysis):
                slices += analysis.ds.sizes["frame"] * analysis.ds.sizes["slice"]
                viewer = write_viewer(analysis, session.folder / VIEWS_FOLDER, f"m{len(views)}")
                session.views |= viewer.files
                views.append(viewer.about)

    results = session.folder / RESULTS_FOLDER
    batch = segment_batch(
        session.list_inputs(), results, config, progress=handle_event, scratch=session.folder, predictor=predictor
    )
    report(0.98, "Packing the results")
    session.download = pack_results(results, session.folder / ZIP_FILE)
    seconds = time.perf_counter() - start
    estimator.learn(config.weights, slices, time.perf_counter() - loaded)
    if session.closed:
        raise SessionClosed
    table = batch.mice.astype(object).where(batch.mice.notna(), None)
    return JobOutcome(
        [{str(k): v for k, v in row.items()} for row in table.to_dict("records")],
        pd.read_csv(results / FLAGS_FILE, dtype={"frame": "Int64", "slice": "Int64"}),
        batch.errors,
        views,
        seconds,
        session.download.stat().st_size,
    )


def pack_results(folder: Path, target: Path) -> Path:
    """Write all files of ``folder`` to the zip ``target``, below one folder."""
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as z:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            method = zipfile.ZIP_STORED if path.suffix in COMPRESSED_SUFFIXES else zipfile.ZIP_DEFLATED
            z.write(path, Path("mousecmr-results") / path.relative_to(folder), method, compresslevel=3)
    return target
