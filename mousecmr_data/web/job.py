"""Run a job of the page: :func:`~mousecmr_data.pipeline.batch.segment_batch`, pictures for the viewer, and one zip."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from mousecmr_data._utils.atomic import PART, atomic_path
from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.pipeline.batch import FLAGS_FILE, LOADING_TEXT, BatchEvent, SegmentResult, segment_batch
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.web.sessions import RESULTS_FOLDER, VIEWS_FOLDER, ZIP_FILE, Session
from mousecmr_data.web.viewer import write_viewer

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor
    from mousecmr_data.web.kept import KeptRun

FIRST_GUESS = {PUBLISHED_WEIGHTS: 0.08, SMALL_WEIGHTS: 0.02}
"""Seconds per 2D slice on two processor cores, most of them in a window; measured on a shared machine, rounded up."""
DEFAULT_GUESS = 0.08
LOADING_SECONDS = {PUBLISHED_WEIGHTS: 12.0, SMALL_WEIGHTS: 5.0}
"""Seconds until the weights are loaded and the first slice is done, once after the start of the server."""
WRITING_SECONDS = 0.01
"""Seconds per slice for pictures and files."""
PACKING_SHARE = 0.98
"""Share of a job that is done when its results are packed."""
END_SECONDS = 3.0
"""Time in which a running job may end when the server is stopped."""
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
"""Called with the share that is done, 0 to 1, and a text; raises :class:`JobCancelled` to end the job."""
COMPRESSED_SUFFIXES = (".gz", ".webp", ".png", ".dcm")
"""Files that are stored in the zip as they are, because they are already compressed."""


class JobCancelled(BaseException):
    """The job was cancelled. Not an Exception, because it must end the whole batch."""


Outcome = TypeVar("Outcome")


class JobThread:
    """One thread that runs all jobs, one at a time.

    Gradio runs functions in ever new threads, and matplotlib keeps open fonts, and glibc memory, for each of them.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[Future[Any]], Any]]] = SimpleQueue()
        self._jobs: list[Future[Any]] = []
        """The jobs that wait, and the one that runs, whether or not it was cancelled."""
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="jobs", daemon=True).start()

    def add(self, action: Callable[[Future[Outcome]], Outcome], max_waiting: int) -> Future[Outcome]:
        """Return the future result of ``action``, which the thread calls with it; its ``cancel`` cancels the job.

        A cancelled job that waits is left out, one that runs should look at the future. Raises :class:`ArgumentError`
        if ``max_waiting`` jobs wait already.
        """
        future: Future[Outcome] = Future()
        with self._lock:
            if sum(not job.cancelled() for job in self._jobs) > max_waiting:
                text = f"{max_waiting} jobs are waiting already."
                raise ArgumentError(text, "fewer", "try again when one of them is done")
            self._jobs.append(future)
        self._calls.put((future, action))
        return future

    def count_before(self, job: Future[Any]) -> int:
        """Return how many jobs are to be done before ``job``."""
        with self._lock:
            first = self._jobs[: self._jobs.index(job)] if job in self._jobs else []
            return sum(k == 0 or not other.cancelled() for k, other in enumerate(first))

    def close(self) -> None:
        """Cancel all jobs, and give the running one a moment to end in order."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        end = time.monotonic() + END_SECONDS
        while self._jobs and time.monotonic() < end:
            time.sleep(0.05)

    def _run(self) -> None:
        while True:
            future, action = self._calls.get()
            try:
                if not future.cancelled():
                    future.set_result(action(future))
            except (JobCancelled, InvalidStateError):  # it was cancelled
                pass
            except BaseException as e:
                with suppress(InvalidStateError):
                    future.set_exception(e)
            finally:
                with self._lock:
                    self._jobs.remove(future)
                del future, action


@dataclass
class JobOutcome:
    """The results that the page shows."""

    mice: list[dict[str, Any]]
    """One row per mouse, as in mice.csv."""
    flags: pd.DataFrame
    """The table in flags.csv."""
    errors: dict[str, MouseCMRError]
    token: str = ""
    """Of the links to the results."""
    views: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    zip_bytes: int | None = None
    """None: there is no zip yet."""


def run_job(
    session: Session,
    config: SegmentConfig,
    load: Callable[[], Predictor],
    estimator: TimeEstimator,
    report: ProgressReport,
    kept: KeptRun | None = None,
) -> JobOutcome:
    """Segment the uploads of ``session`` with the predictor that ``load`` returns, and make pictures.

    Results of an earlier job are removed first. The results are packed into a zip, or written to the folder of
    ``kept``. Raises :class:`~mousecmr_data.errors.MissingDataError` if the weights are not available; what ``report``
    raises ends the job between two of its steps. Then nothing stays but the mice in the folder of ``kept``.
    """
    try:
        with session.hold_results():
            try:
                return _run_locked(session, config, load, estimator, report, kept)
            except BaseException:
                session.remove_results()
                raise
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
    kept: KeptRun | None,
) -> JobOutcome:
    start = time.perf_counter()
    report(0.0, LOADING_TEXT)
    session.remove_results()
    inputs = session.uploads.list_inputs()
    predictor = load()
    loaded = time.perf_counter()
    about: list[dict[str, Any]] = []
    views: dict[str, Path] = {}
    total, finished, slices = 1, 0, 0

    def handle_event(event: BatchEvent) -> None:
        nonlocal total, finished, slices
        text = f"{event.name}: {event.kind}"
        finished += event.kind in ("done", "failed")
        share = finished / total
        if event.kind == "found":
            total = max(1, event.total)
            text = f"{total} {'mouse' if total == 1 else 'mice'} found"
        elif event.kind == "loading":
            text = LOADING_TEXT
        elif event.kind == "slices":
            seconds = (time.perf_counter() - loaded) / max(1, slices + event.done) * (event.total - event.done)
            text = f"{event.name}: {event.done} of {event.total} slices"
            text += f", {format_duration(seconds)} left" if total == 1 else f" (mouse {finished + 1} of {total})"
            if event.done >= event.total:
                text = f"{event.name}: all slices done; measuring, checking and drawing"
            share = (finished + 0.8 * event.done / max(1, event.total)) / total
        report(min(share, PACKING_SHARE), text)
        if isinstance(event.result, SegmentResult) and (analysis := event.result.analysis):
            slices += analysis.ds.sizes["frame"] * analysis.ds.sizes["slice"]
            viewer = write_viewer(analysis, session.folder / VIEWS_FOLDER, f"m{len(about)}")
            views.update(viewer.files)
            about.append(viewer.about)

    results = kept.folder if kept else session.folder / RESULTS_FOLDER
    batch = segment_batch(inputs, results, config, progress=handle_event, scratch=session.folder, predictor=predictor)
    estimator.learn(config.weights, slices, time.perf_counter() - loaded)
    if not kept:
        pack_results(results, session.folder / ZIP_FILE, lambda: report(PACKING_SHARE, "Packing the results"))
        session.download = session.folder / ZIP_FILE
    session.views = views
    report(1.0, "Done")  # after the results were set: who cancels the job later removes them
    table = batch.mice.astype(object).where(batch.mice.notna(), None)
    return JobOutcome(
        [{str(k): v for k, v in row.items()} for row in table.to_dict("records")],
        pd.read_csv(results / FLAGS_FILE, dtype={"frame": "Int64", "slice": "Int64"}),
        batch.errors,
        kept.token if kept else session.token,
        about,
        time.perf_counter() - start,
        session.download.stat().st_size if session.download else None,
    )


def pack_results(folder: Path, target: Path, check: Callable[[], None] = lambda: None) -> Path:
    """Write all files of ``folder`` to the zip ``target``, below one folder; ``check`` may raise to end this."""
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as z:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            check()
            name = path.relative_to(folder)
            if any(part.startswith(PART) for part in name.parts):  # what a killed program left
                continue
            method = zipfile.ZIP_STORED if path.suffix in COMPRESSED_SUFFIXES else zipfile.ZIP_DEFLATED
            z.write(path, Path("mousecmr-results") / name, method, compresslevel=3)
    return target
