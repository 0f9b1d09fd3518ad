"""What happens when something is pressed: each function takes what the page sends and gives what it shows.

No traceback reaches the page: an error of the library is said in its own words, anything else is logged here and
named by a number.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.formats.discover import hide_temporary_paths
from mousecmr_data.inference.predictor import Predictor, load_model
from mousecmr_data.pipeline.config import PUBLISHED_WEIGHTS, SegmentConfig
from mousecmr_data.web.config import SMALL_WEIGHTS, ServerConfig
from mousecmr_data.web.html import make_hint, render_error, render_finished, render_inspected, render_refusal
from mousecmr_data.web.job import JobOutcome, ProgressReport, SessionClosed, TimeEstimator, run_job
from mousecmr_data.web.sessions import Session, SessionStore, inspect_inputs

# MERGED web.service: What was typed into the page's fields, as settings of a job.


OFFERED_WEIGHTS = (PUBLISHED_WEIGHTS, SMALL_WEIGHTS)
"""Weights a visitor may choose: names only, never paths on this computer."""


def parse_form(weights: object, spacing: object, axes: object, frame_time: object) -> SegmentConfig:
    """The job; empty fields mean the files' own values. Raises :class:`ArgumentError`, naming the field."""
    if weights not in OFFERED_WEIGHTS:
        raise ArgumentError(f"There are no weights {str(weights)[:60]!r} on this page.", " or ".join(OFFERED_WEIGHTS))
    sizes = _parse_numbers(spacing)
    if sizes and len(sizes) != 3:
        raise ArgumentError(f"The voxel size is {str(spacing)[:60]!r}.", "three numbers in mm, e.g. 1.0 0.1 0.1")
    times = _parse_numbers(frame_time)
    if len(times) > 1:
        raise ArgumentError(f"The frame time is {str(frame_time)[:60]!r}.", "one number in ms, e.g. 5")
    letters = str(axes or "").strip().lower() or None
    if letters and not re.fullmatch("[xyzt]{2,4}", letters):
        raise ArgumentError(f"The axes are {letters[:60]!r}.", "a letter an axis: x, y, z, t, e.g. xyzt")
    size = (sizes[0], sizes[1], sizes[2]) if sizes else None
    return SegmentConfig(weights=str(weights), spacing=size, axes=letters, frame_time_ms=times[0] if times else None)


def _parse_numbers(text: object) -> list[float]:
    """The positive numbers in a field, between spaces, × or commas."""
    parts = re.split(r"[\s×,;]+", str(text if text is not None else "").strip())
    try:
        found = [float(p) for p in parts if p]
    except ValueError:
        found = [-1.0]
    if not all(0 < v < float("inf") for v in found):
        raise ArgumentError(f"{str(text)[:60]!r} is not a number.", "positive numbers with a decimal point")
    return found


log = logging.getLogger("mousecmr_data.web")


@dataclass
class PageService:
    """Holds what all visitors share: the rooms, the loaded weights, and the pace of this machine."""

    config: ServerConfig
    sessions: SessionStore
    predictors: dict[str, Predictor] = field(default_factory=dict)
    """Loaded before, by the name of their weights."""
    estimator: TimeEstimator = field(default_factory=TimeEstimator)

    _loading: threading.Lock = field(default_factory=threading.Lock)

    def get_predictor(self, config: SegmentConfig) -> Predictor:
        """Return the predictor for ``config``; raises :class:`MissingDataError` where the weights cannot be had."""
        with self._loading:
            if config.weights not in self.predictors:
                self.predictors[config.weights] = load_model(
                    config.weights, device=config.device, engine=config.engine, cache=self.config.cache
                )
            return self.predictors[config.weights]

    def inspect(self, session: Session, *fields: object) -> str:
        """Read what lies in the room, and say it."""

        def looked() -> str:
            config = parse_form(*fields)
            with session.get_lock():
                if session.closed:
                    return ""
                session.seen = inspect_inputs(session.list_inputs(), config, session.folder)
            return self.describe_inspected(session, str(config.weights))

        return hide_temporary_paths(_run_safely(looked), session.folder)

    def describe_inspected(self, session: Session, weights: str) -> str:
        """What was seen before, with the expected time for ``weights``."""
        images = sum(m.images for m in session.seen)
        return render_inspected(session.seen, *self.estimator.estimate(weights, images), weights)

    def load_example(self, session: Session, *fields: object) -> str:
        """Put a synthetic mouse into the room, in place of what is there, and look at it."""

        def brought() -> str:
            from mousecmr_data.phantom.source import PhantomSource

            source, mouse = PhantomSource("phantom", self.config.cache), self.config.example_mouse
            source.prepare([mouse])
            with session.get_lock():
                session.remove_files()
                target = session.get_upload_path(0, f"SYNTHETIC_{mouse}.h5")
                target.parent.mkdir(parents=True)
                session.reserve_bytes(source.get_path(mouse).stat().st_size, self.config.upload_bytes, new=True)
                shutil.copyfile(source.get_path(mouse), target)
            return self.inspect(session, *fields)

        return _run_safely(brought)

    def remove_files(self, session: Session) -> None:
        """Remove the room's files."""
        with session.get_lock():
            session.remove_files()

    def segment(self, session: Session, report: ProgressReport, *fields: object) -> tuple[str, JobOutcome | None]:
        """Do the job; what to say, and the outcome where there is one."""
        found: list[JobOutcome] = []

        def done() -> str:
            config = parse_form(*fields)
            if not session.list_inputs():
                return render_refusal("There is nothing to segment yet.", "drop files above, or load the example")
            try:
                found.append(run_job(session, config, partial(self.get_predictor, config), self.estimator, report))
            except SessionClosed:
                return ""
            except MouseCMRError as e:
                return render_error(e, hint=make_hint(e, config.weights))
            return render_finished(found[0])

        return hide_temporary_paths(_run_safely(done), session.folder), found[0] if found else None


def _run_safely(do: Callable[[], Any]) -> str:
    """What ``do`` says, or its error in words."""
    try:
        return str(do())
    except MouseCMRError as e:
        return render_error(e)
    except Exception:
        number = secrets.token_hex(3)
        log.exception("page error %s", number)
        return render_refusal(
            f"Something went wrong that this page does not know (number {number}).",
            "look for this number where mousecmr serve runs; try the same files with mousecmr segment",
        )
