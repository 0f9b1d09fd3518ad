"""Predictions of many mice against their truth: what fits is scored, what does not is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import xarray as xr

from mousecmr_data._utils.parallel import map_in_processes
from mousecmr_data.errors import (
    LabelError,
    MissingDataError,
    MouseCMRError,
    PredictionError,
    UnlabelledError,
)
from mousecmr_data.evaluate.policies import Policies
from mousecmr_data.evaluate.predictions import Predictions, predictions_of
from mousecmr_data.evaluate.result import Evaluation, MouseScore, Problem, versions
from mousecmr_data.evaluate.scoring import score_mouse

SHOWN = 12
"""Problems that an error lists; the result file has them all."""


def score(
    predictions: Any,
    mice: Iterable[xr.Dataset],
    policies: Policies | None = None,
    *,
    strict: bool = True,
    name: str | None = None,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score ``predictions`` of ``mice``.

    Parameters
    ----------
    predictions
        A path (folder of NIfTI or HDF5 files named for their mice, one file, a Zarr store), or a mapping of mice to
        arrays (frame, slice, y, x) of 0, 1, 2 or to datasets with the variable ``predicted``.
    mice
        The truth: a cohort (``mousecmr_data.load(split="test")``), or datasets of the cine model.
    policies
        How: ED/ES rule, post-processing, empty masks. The defaults score what was given.
    strict
        With True, anything that does not fit is an error that names every mouse and its problem. With False, what
        can be scored is, and the problems stand in the result.
    jobs
        Processes; of use where predictions are files.
    progress
        Called with 1 after each mouse.

    Raises :class:`~mousecmr_data.errors.PredictionError`.
    """
    found = predictions_of(predictions, name)
    policies = policies or Policies()
    truth = _Truth.of(mice)
    if not truth.names:
        raise UnlabelledError("There is no mouse to score.", "a cohort of at least one mouse")
    alone = len(truth.names) == 1
    work = partial(_one, truth, found, policies, alone)
    outcomes = map_in_processes(work, truth.names, jobs, (lambda _: progress(1)) if progress else None)
    scores = [s for m in truth.names if (s := outcomes[m][0])]
    problems = [p for m in truth.names for p in outcomes[m][1]]
    strangers = _strangers(found, truth.names) if not alone else []
    if (strict and problems) or not scores:
        raise PredictionError(
            f"{len(problems)} of {len(truth.names)} mice have a problem in {name or found.name}:\n{_listed(problems)}",
            "a prediction for every mouse, in the frames and the axes of its images",
            "strict=False, or mousecmr evaluate --go-on, scores what can be scored and names the rest",
        )
    return Evaluation(
        name=name or found.name,
        truth=truth.about,
        policies=policies.table(),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mice=tuple(scores),
        problems=tuple(problems + strangers),
    )


@dataclass(frozen=True)
class _Truth:
    """The mice by name, opened one at a time; pickles."""

    mice: Any
    """A cohort, or a mapping of names to datasets."""
    names: list[str]
    about: Mapping[str, Any]

    @classmethod
    def of(cls, mice: Iterable[xr.Dataset]) -> _Truth:
        if hasattr(mice, "source"):  # a cohort
            return cls(mice, list(mice.mice), about_cohort(mice))  # type: ignore[attr-defined]
        by_name: dict[str, xr.Dataset] = {}
        for ds in mice.values() if isinstance(mice, Mapping) else mice:
            if by_name.setdefault(str(ds.attrs.get("mouse", "mouse")), ds) is not ds:
                raise PredictionError(f"Two mice are called {ds.attrs.get('mouse', 'mouse')!r}.", "a name of its own")
        first = next(iter(by_name.values())).attrs if by_name else {}
        about = {"source": str(first.get("source", "")), "version": str(first.get("version", "")), "split": "none"}
        return cls(by_name, list(by_name), {**about, "split_scheme": "", "caveat": "", "mice": len(by_name)})


def about_cohort(mice: Any) -> dict[str, Any]:
    """Where a cohort comes from, for a result's ``truth``."""
    scheme = mice.source.manifest.splits.get(mice.split_scheme)
    return {
        "source": mice.source.name,
        "version": mice.source.version,
        "split": " + ".join(sorted(set(mice.splits.values()))),
        "split_scheme": mice.split_scheme,
        "caveat": scheme.caveat if scheme else "",
        "mice": len(mice.mice),
    }


def _one(
    truth: _Truth, found: Predictions, policies: Policies, alone: bool, mouse: str
) -> tuple[MouseScore | None, list[Problem]]:
    """The score of one mouse, or what is wrong; both where the score is in doubt."""
    ds = truth.mice[mouse]
    try:
        key = found.find(mouse, alone)
        if key is None:
            return None, [Problem(mouse, "missing", f"no prediction in {found.name}")]
        scored = score_mouse(ds, found.read(key), policies)
    except UnlabelledError as e:
        return None, [Problem(mouse, "unlabelled", e.found)]
    except LabelError as e:
        return None, [Problem(mouse, "labels", e.found)]
    except PredictionError as e:
        return None, [Problem(mouse, "shape", " ".join(p for p in (e.found, e.next_step) if p))]
    except MissingDataError:
        raise  # a folder without predictions, a truth that is not there: of all mice, not of one
    except MouseCMRError as e:
        return None, [Problem(mouse, "unreadable", e.found)]
    return scored, [Problem(mouse, "orientation", scored.doubt)] if scored.doubt else []


def _strangers(found: Predictions, names: list[str]) -> list[Problem]:
    """Predictions that belong to no mouse of the truth: named, and left alone."""
    keys = [found.find(m, False) for m in names]
    used = {m for m, k in zip(names, keys, strict=True) if k is not None}
    total = len(list(found.names()))
    if getattr(found, "index", None) is not None:
        files = [p for k in keys if k is not None for p in (k.values() if isinstance(k, dict) else [k])]
        left = [s for s, p in found.index.items() if p not in files]  # type: ignore[attr-defined]
    else:
        left = [n for n in found.names() if n not in used]
    return [Problem(n, "ignored", f"not among the {len(names)} mice scored ({total} are there)") for n in left]


def _listed(problems: list[Problem]) -> str:
    lines = [f"  {p.mouse} ({p.kind}): {p.text.replace(f'{p.mouse}: ', '', 1)}" for p in problems[:SHOWN]]
    more = len(problems) - SHOWN
    return "\n".join(lines + ([f"  … and {more} more"] if more > 0 else []))
