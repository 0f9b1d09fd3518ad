"""What an evaluation found, as data: read from and written to a documented JSON file.

The file says which versions, policies and masks (by checksum) made its numbers, so that two of them can be
compared, and parts of one split merged. docs/evaluation.md describes each key. NaN (missing) is ``null``.
"""

from __future__ import annotations

import html
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data._utils.json import write_json
from mousecmr_data._version import __version__
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
    """One structure of one labelled frame."""

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
    """Everything of one mouse."""

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
    """Something that kept a mouse from being scored, or throws doubt on its score."""

    mouse: str
    kind: str
    """missing, unreadable, labels, shape, orientation, unlabelled, ignored."""
    text: str


@dataclass(frozen=True)
class Evaluation:
    """Predictions scored against a split. Made by :func:`mousecmr_data.evaluation.score`."""

    name: str
    """Of the predictions."""
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
    def by_name(self) -> dict[str, MouseScore]:
        """The mice by name."""
        return {m.mouse: m for m in self.mice}

    def to_dict(self) -> dict[str, Any]:
        """The content of the result file."""
        body = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "synthetic": self.synthetic, **asdict(self)}
        return _to_json_value(body)  # type: ignore[no-any-return]

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the result file, whole or not at all."""
        return write_json(path, self.to_dict())

    def _repr_html_(self) -> str:
        """Mean Dice by structure and phase, for notebooks."""
        scores = pd.DataFrame([asdict(f) for m in self.mice for f in m.frames])
        means = scores.pivot_table(index="structure", columns="phase", values="dice").round(3)
        return f"<p>{html.escape(repr(self))}, mean Dice:</p>{means.to_html()}"

    def __repr__(self) -> str:
        kind = "SYNTHETIC " if self.synthetic else ""
        return f"<Evaluation of {self.name}: {len(self.mice)} {kind}mice, {len(self.problems)} problems>"


def read_result(path: str | PathLike[str]) -> Evaluation:
    """Read a result file; :class:`FileLayoutError` says what is wrong with it."""
    if not Path(path).is_file():
        raise MissingDataError(f"There is no result file {path}.", None, "mousecmr evaluate PREDICTIONS -o RESULT.json")
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        if (table["schema"], table["schema_version"]) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(f"schema {table['schema']} {table['schema_version']}")
        return Evaluation(
            table["name"],
            table["truth"],
            table["policies"],
            table["versions"],
            table["created"],
            tuple(_parse_mouse(m) for m in table["mice"]),
            tuple(Problem(**p) for p in table["problems"]),
        )
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise FileLayoutError(
            f"{path} is no result file: {type(e).__name__}: {e}",
            f"{SCHEMA} {SCHEMA_VERSION}",
            "mousecmr evaluate PREDICTIONS -o RESULT.json  makes one",
        ) from e


def merge_results(parts: Sequence[Evaluation]) -> Evaluation:
    """Results of different mice as one. They must agree in policies and in the truth's source and version.

    A mouse may be in several, if its scores are the same. Problems of a mouse that another part has scored are
    dropped.
    """
    if not parts:
        raise MissingDataError("There is no result to merge.", "one or more")
    first = parts[0]
    mice: dict[str, MouseScore] = {}
    for part in parts:
        for key in ("source", "version", "split_scheme"):
            if part.truth.get(key) != first.truth.get(key):
                raise FileLayoutError(
                    f"The results are of different {key}: {first.truth.get(key)!r} and {part.truth.get(key)!r}.",
                    "parts of one evaluation",
                )
        if differ := find_differing_policies(first.policies, part.policies):
            raise FileLayoutError(f"The results differ in the policy {differ[0]}.", "one policy")
        for m in part.mice:
            if _to_json_value(asdict(mice.setdefault(m.mouse, m))) != _to_json_value(asdict(m)):
                raise FileLayoutError(f"{m.mouse} is in two results with different scores.", "one score a mouse")
    splits = list(dict.fromkeys(str(p.truth.get("split")) for p in parts))
    names = list(dict.fromkeys(p.name for p in parts))
    left = dict.fromkeys(p for part in parts for p in part.problems if p.mouse not in mice or p.kind == "orientation")
    return replace(
        first,
        name=" + ".join(names),
        truth={**first.truth, "split": " + ".join(splits)},
        created=max(p.created for p in parts),
        mice=tuple(mice.values()),
        problems=tuple(left),
    )


def find_differing_policies(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of the policies in which two results differ."""
    return [k for k in ("phases", "postprocessing", "empty", "definitions") if a.get(k) != b.get(k)]


def list_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = {name: metadata.version(name) for name in ("numpy", "scipy", "pandas", "xarray")}
    return {"mousecmr-data": __version__, "python": platform.python_version(), **packages}


def _parse_mouse(table: dict[str, Any]) -> MouseScore:
    def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
        return {k: math.nan if v is None else float(v) for k, v in values.items()}

    exact = ("frame", "phase", "structure")
    frames = tuple(
        FrameScore(**{**{k: f[k] for k in exact}, **numbers({k: v for k, v in f.items() if k not in exact})})
        for f in table["frames"]
    )
    curve = table["curve"]
    if curve is not None:
        curve = {k: math.nan if v is None else tuple(v) if isinstance(v, list) else v for k, v in curve.items()}
    return MouseScore(
        **{
            **table,
            "voxel_size_mm": tuple(table["voxel_size_mm"]),
            "frames": frames,
            "truth": numbers(table["truth"]),
            "predicted": numbers(table["predicted"]),
            "curve": curve,
        }
    )


def _to_json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_value(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
