"""A page's job: the same ``pipeline.batch.segment_batch`` as on the command line, then pictures for the viewer and one zip."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.batch import FLAGS_FILE, LOADING_TEXT, BatchEvent, SegmentResult, segment_batch
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.web.sessions import Session
from mousecmr_data.web.viewer import write_viewer

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor


# MERGED web.job: How long a job will take: a first guess, then what the jobs before it took.


FIRST_GUESS = {"mousecmr-9.4T-unet3plus": 0.08, "phantom-small": 0.02}
"""Seconds a 2D slice on two processor cores, most in a window; measured on a shared machine, rounded up."""
DEFAULT_GUESS = 0.08
LOADING_SECONDS = {"mousecmr-9.4T-unet3plus": 12.0, "phantom-small": 5.0}
"""Seconds until the weights are loaded and the first slice is done, once after the start."""
WRITING_SECONDS = 0.01
"""Seconds a slice for pictures and files."""
NEWEST_SHARE = 0.5
"""The newest job's share in the mean."""


class TimeEstimator:
    """Seconds a slice by weights; learns from every job."""

    def __init__(self) -> None:
        self._learnt: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, weights: str, slices: int, seconds: float) -> None:
        """A job of ``slices`` 2D slices took ``seconds``, without the loading of weights."""
        if slices <= 0:
            return
        with self._lock:
            before = self._learnt.get(weights, seconds / slices)
            self._learnt[weights] = (1 - NEWEST_SHARE) * before + NEWEST_SHARE * seconds / slices

    def estimate(self, weights: str, slices: int) -> tuple[float, bool]:
        """Seconds for ``slices``, and whether that is more than a guess."""
        if weights in self._learnt:
            return self._learnt[weights] * slices, True
        return (FIRST_GUESS.get(weights, DEFAULT_GUESS) + WRITING_SECONDS) * slices + LOADING_SECONDS.get(
            weights, LOADING_SECONDS["phantom-small"]
        ), False


def format_duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 40 s, 3 min."""
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{10 * round(seconds / 10)} s"
    return f"{max(2, round(seconds / 60))} min"


ProgressReport = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is going on."""
RESULTS_FOLDER, VIEWS_FOLDER, ZIP_FILE = "out", "view", "results.zip"
COMPRESSED_SUFFIXES = (".gz", ".webp", ".png", ".dcm")
"""Files that are compressed already: a second time only costs time."""


class SessionClosed(BaseException):
    """The page was closed while its job ran. Not an Exception: a failing mouse must not swallow it."""


@dataclass
class JobOutcome:
    """What the page shows."""

    mice: list[dict[str, Any]]
    """A row a mouse, as in mice.csv."""
    flags: pd.DataFrame
    """As flags.csv."""
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
    """Segment what is in ``session`` with the predictor that ``load`` returns, show and pack it. What an earlier job left is removed first.

    Raises :class:`MissingDataError` where the weights cannot be had, and :class:`PageLeft` as soon as the page is
    closed; the room is then removed.
    """
    with session.get_lock():
        try:
            if session.closed:
                raise SessionClosed
            return _run_locked(session, config, load, estimator, report)
        finally:
            if session.closed:
                session.remove_folder()


def _run_locked(
    session: Session,
    config: SegmentConfig,
    load: Callable[[], Predictor],
    estimator: TimeEstimator,
    report: ProgressReport,
) -> JobOutcome:
    start = time.perf_counter()
    _remove_old_results(session)
    report(0.0, LOADING_TEXT)
    predictor = load()
    loaded = time.perf_counter()
    views: list[dict[str, Any]] = []
    total, finished, slices = 1, 0, 0

    def follow(event: BatchEvent) -> None:
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
            rest = f", {format_duration(seconds)} left" if total == 1 else f" (mouse {finished + 1} of {total})"
            if event.done >= event.total:
                text, rest = f"{event.name}: all slices done, now measured, checked and drawn", ""
            report((finished + 0.8 * event.done / max(1, event.total)) / total, text + rest)
        elif event.kind in ("done", "failed"):
            finished += 1
            if isinstance(event.result, SegmentResult) and (analysis := event.result.analysis):
                slices += analysis.ds.sizes["frame"] * analysis.ds.sizes["slice"]
                made = write_viewer(analysis, session.folder / VIEWS_FOLDER, f"m{len(views)}")
                session.views |= made.files
                views.append(made.about)

    done = segment_batch(
        session.list_inputs(),
        session.folder / RESULTS_FOLDER,
        config,
        progress=follow,
        scratch=session.folder,
        predictor=predictor,
    )
    report(0.98, "Packing the results")
    session.download = _pack_results(session.folder / RESULTS_FOLDER, session.folder / ZIP_FILE)
    seconds = time.perf_counter() - start
    estimator.learn(config.weights, slices, time.perf_counter() - loaded)
    if session.closed:
        raise SessionClosed
    table = done.mice.astype(object).where(done.mice.notna(), None)
    return JobOutcome(
        [{str(k): v for k, v in row.items()} for row in table.to_dict("records")],
        pd.read_csv(session.folder / RESULTS_FOLDER / FLAGS_FILE, dtype={"frame": "Int64", "slice": "Int64"}),
        done.errors,
        views,
        seconds,
        session.download.stat().st_size,
    )


def _remove_old_results(session: Session) -> None:
    """Remove what an earlier job made; the uploads stay."""
    session.views, session.download = {}, None
    for inside in session.folder.iterdir():
        if inside.is_file():
            inside.unlink()
        elif inside != session.uploads:
            shutil.rmtree(inside)


def _pack_results(folder: Path, target: Path) -> Path:
    """All of ``folder`` in one zip, in a folder of its own inside it."""
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as z:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            way = zipfile.ZIP_STORED if path.suffix in COMPRESSED_SUFFIXES else zipfile.ZIP_DEFLATED
            z.write(path, Path("mousecmr-results") / path.relative_to(folder), way, compresslevel=3)
    return target
