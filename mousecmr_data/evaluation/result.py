"""The result of an evaluation as data, read from and written to a documented JSON file.

The file names the versions, the policies and (by checksum) the masks that its numbers come from, so that two results
can be compared and parts of one split merged. docs/evaluation.md describes each key. NaN (missing) is ``null``.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data._utils.atomic import to_json_value, write_json
from mousecmr_data._utils.environment import list_versions
from mousecmr_data._utils.outputs import write_file
from mousecmr_data._utils.reading import check_access
from mousecmr_data._utils.text import RESEARCH_ONLY, SYNTHETIC_DATA
from mousecmr_data.errors import FileLayoutError, MissingDataError

SCHEMA = "mousecmr-evaluation"
SCHEMA_VERSION = 1

MEASURES: dict[str, tuple[str, str]] = {
    "edv_ul": ("EDV", "µL"),
    "esv_ul": ("ESV", "µL"),
    "sv_ul": ("SV", "µL"),
    "ef_percent": ("EF", "%"),
    "mass_ed_mg": ("mass at ED", "mg"),
    "mass_es_mg": ("mass at ES", "mg"),
}
"""Measures of a mouse (fields of ``metrics.volumes.Measures``): the published table's name, and the unit."""


@dataclass(frozen=True)
class FrameScore:
    """Scores of one structure in one labelled frame."""

    frame: int
    phase: str
    structure: str
    dice: float
    hd95_mm: float
    assd_mm: float
    truth_ul: float
    predicted_ul: float


@dataclass(frozen=True)
class MouseScore:
    """All scores of one mouse."""

    mouse: str
    phenotype: str
    split: str
    synthetic: bool
    voxel_size_mm: tuple[float, float, float]
    voxel_size_source: str
    truth_sha256: str
    prediction_sha256: str
    frames: tuple[FrameScore, ...]
    truth: Mapping[str, float]
    """The :data:`MEASURES` of the experts' masks."""
    predicted: Mapping[str, float]
    curve: Mapping[str, Any] | None
    """The fields of ``metrics.volumes.VolumeCurve``; None where not every frame was predicted."""
    about: Mapping[str, str]
    doubt: str | None
    """What looks wrong with how the masks were written, in words."""


@dataclass(frozen=True)
class Problem:
    """A reason why a mouse was not scored, or why its score is in doubt."""

    mouse: str
    kind: str
    """missing, unreadable, labels, shape, orientation, unlabelled, ignored."""
    text: str


@dataclass(frozen=True)
class Evaluation:
    """Predictions scored against a split. Made by :func:`mousecmr_data.evaluate`."""

    name: str
    """Name of the predictions."""
    truth: Mapping[str, Any]
    """source, version, split, split_scheme, caveat."""
    policies: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    mice: tuple[MouseScore, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether any mouse is synthetic."""
        return any(m.synthetic for m in self.mice)

    @property
    def notices(self) -> tuple[str, ...]:
        """What must stand beside the scores: synthetic mice, and masks by weights that began with synthetic mice."""
        weights = dict.fromkeys(
            m.about["notice"] for m in self.mice if m.about.get("notice", RESEARCH_ONLY) != RESEARCH_ONLY
        )
        return ((SYNTHETIC_DATA,) * self.synthetic) + tuple(weights)

    @property
    def by_name(self) -> dict[str, MouseScore]:
        """The mice by name."""
        return {m.mouse: m for m in self.mice}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the result file."""
        header = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "synthetic": self.synthetic}
        header["notices"] = list(self.notices)
        return to_json_value({**header, **asdict(self)})  # type: ignore[no-any-return]

    def write(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the result file, whole or not at all, and return its path.

        Raises OutputError if ``path`` exists, unless this library wrote it and nobody edited it, or with ``overwrite``.
        """
        with write_file(path, overwrite=overwrite) as partial:
            write_json(partial, self.to_dict())
        return Path(path)

    def _repr_html_(self) -> str:
        """Return mean Dice by structure and phase, for notebooks."""
        scores = pd.DataFrame([asdict(f) for m in self.mice for f in m.frames])
        means = scores.pivot_table(index="structure", columns="phase", values="dice").round(3)
        return f"<p>{html.escape(repr(self))}, mean Dice:</p>{means.to_html()}"

    def __repr__(self) -> str:
        kind = "SYNTHETIC " if self.synthetic else ""
        return f"<Evaluation of {self.name}: {len(self.mice)} {kind}mice, {len(self.problems)} problems>"


def read_result(path: str | PathLike[str]) -> Evaluation:
    """Read a result file.

    Raises MissingDataError where there is no such file, FileLayoutError with the reason where it is not valid.
    """
    if not Path(path).is_file():
        raise MissingDataError(f"There is no result file {path}.", None, "mousecmr evaluate PREDICTIONS -o RESULT.json")
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        if (table["schema"], table["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(f"schema {table['schema']} {table['schema_version']}")
        mice = tuple(parse_mouse(m) for m in table["mice"])
        problems = tuple(Problem(**p) for p in table["problems"])
        return Evaluation(
            table["name"], table["truth"], table["policies"], table["versions"], table["created"], mice, problems
        )
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as e:
        check_access(e, Path(path))
        raise FileLayoutError(
            f"{path} is not a valid result file: {type(e).__name__}: {e}",
            f"{SCHEMA} {SCHEMA_VERSION}",
            "make one with: mousecmr evaluate PREDICTIONS -o RESULT.json",
        ) from e


def merge_results(parts: Sequence[Evaluation]) -> Evaluation:
    """Merge results of different mice. They must agree in policies and in the truth's source and version.

    A mouse may be in several results if its scores are the same. Problems of a mouse that another part has scored
    are dropped.
    """
    if not parts:
        raise MissingDataError("There is no result to merge.", "one or more")
    first = parts[0]
    mice: dict[str, MouseScore] = {}
    for part in parts:
        for key in ("source", "version", "split_scheme"):
            if part.truth.get(key) != first.truth.get(key):
                raise FileLayoutError(
                    f"The results have a different {key}: {first.truth.get(key)!r} and {part.truth.get(key)!r}.",
                    "parts of one evaluation",
                )
        if differences := find_differing_policies(first.policies, part.policies):
            raise FileLayoutError(f"The results differ in the policy {differences[0]}.", "one policy")
        for m in part.mice:
            if to_json_value(asdict(mice.setdefault(m.mouse, m))) != to_json_value(asdict(m)):
                raise FileLayoutError(f"{m.mouse} is in two results with different scores.", "one score per mouse")
    remaining = (p for part in parts for p in part.problems if p.mouse not in mice or p.kind == "orientation")
    return replace(
        first,
        name=" + ".join(dict.fromkeys(p.name for p in parts)),
        truth={**first.truth, "split": " + ".join(dict.fromkeys(str(p.truth.get("split")) for p in parts))},
        created=max(p.created for p in parts),
        mice=tuple(mice.values()),
        problems=tuple(dict.fromkeys(remaining)),
    )


def find_differing_policies(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the names of the policies in which two results differ."""
    return [k for k in ("phases", "postprocessing", "empty", "definitions") if a.get(k) != b.get(k)]


def get_timestamp() -> str:
    """Return the current time (UTC, to the second) as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_evaluation(
    name: str,
    truth: Mapping[str, Any],
    policies: Mapping[str, Any],
    mice: Iterable[MouseScore],
    problems: Iterable[Problem],
) -> Evaluation:
    """Make an evaluation with the current time and the versions of the packages that compute the numbers."""
    versions = list_versions("numpy", "scipy", "pandas", "xarray")
    return Evaluation(name, truth, policies, versions, get_timestamp(), tuple(mice), tuple(problems))


def parse_mouse(table: dict[str, Any]) -> MouseScore:
    """Return the scores of a mouse from its entry in a result file; raises KeyError, TypeError or ValueError."""

    def parse_numbers(values: Mapping[str, Any], keep: Sequence[str] = ()) -> dict[str, Any]:
        return {k: v if k in keep else math.nan if v is None else float(v) for k, v in values.items()}

    curve = table["curve"]
    if curve is not None:
        curve = {k: math.nan if v is None else tuple(v) if isinstance(v, list) else v for k, v in curve.items()}
    parsed = {
        "voxel_size_mm": tuple(table["voxel_size_mm"]),
        "frames": tuple(FrameScore(**parse_numbers(f, ("frame", "phase", "structure"))) for f in table["frames"]),
        "truth": parse_numbers(table["truth"]),
        "predicted": parse_numbers(table["predicted"]),
        "curve": curve,
    }
    return MouseScore(**{**table, **parsed})
