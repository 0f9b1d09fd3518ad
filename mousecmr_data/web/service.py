"""Actions of the page: each method takes the values of the page's fields and returns the HTML to show.

No traceback reaches the page: errors of the library are shown with their own message, any other error is logged here
and shown as a number.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mousecmr_data._utils.environment import is_offline
from mousecmr_data._utils.text import hide_home
from mousecmr_data.dataset.model import order_spacing
from mousecmr_data.download.cache import make_fetch_command
from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.formats.discover import hide_temporary_paths
from mousecmr_data.formats.masks import LeftOutFile, describe_left_out
from mousecmr_data.inference.predictor import Predictor, has_weights, list_models, list_own_models, load_model
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.schema import PHANTOMS, PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.html import (
    make_hint,
    render_error,
    render_finished,
    render_inspected,
    render_kept,
    render_missing_weights,
    render_refusal,
)
from mousecmr_data.web.job import JobCancelled, JobOutcome, JobThread, ProgressReport, TimeEstimator, run_job
from mousecmr_data.web.kept import KeptResults, KeptRun
from mousecmr_data.web.sessions import Session, SessionStore, inspect_inputs

log = logging.getLogger("mousecmr_data.web")
JobResult = Future[tuple[str, JobOutcome | None]]
"""Status to show, and outcome or None."""


def list_offered_weights(cache: Path | None = None) -> tuple[str, ...]:
    """Return the weights that a visitor may choose, the user's own too: names only, never paths on this computer."""
    return PUBLISHED_WEIGHTS, SMALL_WEIGHTS, *list_own_models(cache)


def parse_form(
    weights: object,
    spacing: object,
    axes: object,
    frame_time: object,
    frames: object = "",
    fill: object = "",
    *,
    cache: Path | None = None,
) -> SegmentConfig:
    """Return the settings in the page's fields; an empty field means the value in the file.

    Raises :class:`ArgumentError`, which names the field.
    """
    if weights not in (offered := list_offered_weights(cache)):
        raise ArgumentError(f"There are no weights {str(weights)[:60]!r} on this page.", " or ".join(offered))
    sizes = _parse_numbers(spacing)
    if sizes and len(sizes) != 3:
        raise ArgumentError(f"The voxel size is {str(spacing)[:60]!r}.", "three numbers in mm, e.g. 1.0 0.1 0.1")
    times = _parse_numbers(frame_time)
    if len(times) > 1:
        raise ArgumentError(f"The frame time is {str(frame_time)[:60]!r}.", "one number in ms, e.g. 5")
    letters = str(axes or "").strip().lower() or None
    if letters and not re.fullmatch("[xyzt]{2,4}", letters):
        raise ArgumentError(f"The axes are {letters[:60]!r}.", "one letter per axis: x, y, z, t, e.g. xyzt")
    size = order_spacing(sizes) if sizes else None
    return SegmentConfig(
        weights=str(weights),
        spacing=size,
        axes=letters,
        frame_time_ms=times[0] if times else None,
        frames=_parse_frames(str(frames or "").strip()),
        fill=_parse_fill(str(fill or "").strip()),
        cache=cache,
    )


def _parse_frames(text: str) -> int | None:
    if text and not (re.fullmatch(r"[0-9]{1,6}", text) and int(text) > 1):
        raise ArgumentError(f"The frames of each slice are {text[:60]!r}.", "a whole number above 1, e.g. 20")
    return int(text) if text else None


def _parse_fill(text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ArgumentError(f"The fill value is {text[:60]!r}.", "one number with a decimal point, e.g. 0")
    return value


def _parse_numbers(text: object) -> list[float]:
    """Return the positive numbers in a field, separated by spaces, ×, x or commas, with or without mm or ms."""
    words = re.sub(r"(?<=[\d.\s])(mm|ms)\b", " ", str(text if text is not None else "").lower())
    parts = re.split(r"[\s×x*,;]+", words.strip())
    try:
        numbers = [float(p) for p in parts if p]
    except ValueError:
        numbers = [-1.0]
    if not all(0 < v < float("inf") for v in numbers):
        raise ArgumentError(f"{str(text)[:60]!r} is not a number.", "positive numbers with a decimal point")
    return numbers


@dataclass
class PageService:
    """The state that all visitors share, and the actions of the page. ``fields`` are those of :func:`parse_form`."""

    config: ServerConfig
    sessions: SessionStore
    predictors: dict[str, Predictor] = field(default_factory=dict)
    """Loaded predictors, by the name of their weights."""
    estimator: TimeEstimator = field(default_factory=TimeEstimator)
    jobs: JobThread = field(default_factory=JobThread)
    kept: KeptResults | None = None
    """Where the results of each job stay; None: they are deleted with the page."""
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def get_predictor(self, config: SegmentConfig) -> Predictor:
        """Return the predictor for ``config``.

        Raises :class:`~mousecmr_data.errors.MissingDataError` if the weights are not available.
        """
        with self._loading:
            if config.weights not in self.predictors:
                self.predictors[config.weights] = load_model(
                    config.weights,
                    device=config.device,
                    engine=config.engine,
                    cache=self.config.cache,
                    network=config.network,
                )
            return self.predictors[config.weights]

    def parse(self, weights: object, *fields: object) -> SegmentConfig:
        """Return the settings in the page's fields (:func:`parse_form`), also for the owner's weights file."""
        own = self.config.own_weights
        if own is None or weights != own.name:
            return parse_form(weights, *fields, cache=self.config.cache)
        config = parse_form(SMALL_WEIGHTS, *fields, cache=self.config.cache)
        return replace(config, weights=str(own), network=self.config.network)

    def inspect(self, session: Session, weights: object, *fields: object) -> str:
        """Read the uploads and return a description."""

        def inspect_uploads() -> str:
            config = self.parse(weights, *fields)
            with session.hold_folder():
                while not session.closed:
                    uploads, left_out = session.uploads, list[LeftOutFile]()
                    inspected = inspect_inputs(uploads.list_inputs(), config, session.folder, left_out)
                    if session.uploads is uploads:  # else they were removed meanwhile
                        session.inspected, session.left_out = inspected, left_out
                        break
            return "" if session.closed else self.describe_inspected(session, str(weights))

        return hide_temporary_paths(_run_safely(inspect_uploads), session.folder)

    def describe_inspected(self, session: Session, weights: str) -> str:
        """Return a description of the uploads as last inspected, with the expected time for ``weights``."""
        images = sum(m.images for m in session.inspected)
        own = self.config.own_weights
        estimate = self.estimator.estimate(str(own) if own and weights == own.name else weights, images)
        return render_inspected(session.inspected, *estimate, weights, describe_left_out(session.left_out))

    def describe_weights(self, weights: object) -> str:
        """Return what to do if ``weights`` are not on this computer; else an empty text."""
        card = list_models().get(str(weights))
        if card is None or has_weights(str(weights), self.config.cache):
            return ""
        command = make_fetch_command(load_manifest(), self.config.cache, [str(weights)])
        return render_missing_weights(card.weights.name, card.weights.size, command, is_offline())

    def describe_kept(self, owner: str) -> str:
        """Return the list of kept results; empty if none are kept."""
        if self.kept is None:
            return ""
        runs = [(run, self.kept.is_running(run)) for run in self.kept.list_runs()]
        return render_kept(runs, owner, hide_home(str(self.kept.folder)) if self.config.local else "")

    def cancel_kept(self, token: object, owner: str) -> None:
        """Cancel the job that a link names, if this browser started it; its page may be closed."""
        run = self.kept.find_by_token(str(token)) if self.kept else None
        if run and run.job and run.owner == owner:
            run.job.cancel()

    def load_example(self, session: Session, *fields: object) -> str:
        """Replace the uploads by a synthetic mouse and return its description; a running job is cancelled."""

        def copy_example() -> str:
            from mousecmr_data.phantom.source import PhantomSource

            source, mouse = PhantomSource(PHANTOMS[0], self.config.cache), self.config.example_mouse
            source.prepare([mouse])
            session.remove_files()
            with session.hold_folder():
                target = session.uploads.get_path(0, f"SYNTHETIC_{mouse}.h5")
                target.parent.mkdir(parents=True)
                size = source.get_path(mouse).stat().st_size
                session.uploads.reserve_bytes(size, self.config.upload_bytes, new=True)
                shutil.copyfile(source.get_path(mouse), target)
            return self.inspect(session, *fields)

        return _run_safely(copy_example)

    def segment(self, session: Session, report: ProgressReport, *fields: object) -> JobResult:
        """Start a job that segments the uploads; return its future status to show, and its outcome or None.

        ``cancel`` of what is returned ends the job before its next step.
        """
        failed: JobResult = Future()
        try:
            config = self.parse(*fields)
            if not session.uploads.list_inputs():
                next_step = "drop files above, or load the example"
                failed.set_result((render_refusal("There is nothing to segment yet.", next_step), None))
                return failed
            run = self.kept.start(session.owner) if self.kept else None
            job = self.jobs.add(partial(self._run_job, session, config, run, report), self.config.max_queue)
        except (MouseCMRError, OSError) as e:
            failed.set_result((_run_safely(partial(_raise, e)), None))
            return failed
        session.job = job
        held = ExitStack()
        held.enter_context(session.hold_folder())
        job.add_done_callback(lambda _: held.close())
        if run and self.kept:
            run.job = job
            job.add_done_callback(lambda _: KeptResults.remove_if_empty(run))
        return job

    def _run_job(
        self, session: Session, config: SegmentConfig, run: KeptRun | None, report: ProgressReport, job: JobResult
    ) -> tuple[str, JobOutcome | None]:
        outcome: JobOutcome | None = None

        def report_or_end(share: float, text: str) -> None:
            if job.cancelled():
                raise JobCancelled
            if run:
                run.progress = text
            report(share, text)

        def segment_uploads() -> str:
            nonlocal outcome
            try:
                with self.kept.hold(run) if self.kept and run else nullcontext():
                    load = partial(self.get_predictor, config)
                    outcome = run_job(session, config, load, self.estimator, report_or_end, run)
            except MouseCMRError as e:
                return render_error(e, hint=make_hint(e, config.weights))
            return render_finished(outcome, asks=run is None)

        status = hide_temporary_paths(_run_safely(segment_uploads), session.folder)
        return status.replace(f"{run.folder}{os.sep}", "") if run else status, outcome


def _raise(error: Exception) -> str:
    raise error


def _run_safely(action: Callable[[], str]) -> str:
    """Return the result of ``action``, or its error as HTML."""
    try:
        return action()
    except MouseCMRError as e:
        return render_error(e)
    except Exception:
        number = secrets.token_hex(3)
        log.exception("page error %s", number)
        return render_refusal(
            f"An unexpected error occurred (number {number}).",
            "look for this number in the output of mousecmr serve; try the same files with mousecmr segment",
        )
