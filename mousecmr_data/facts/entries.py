"""The entries of a manifest: files, splits, groups, constants, weights, published numbers, issues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FileEntry:
    """One mouse's file. At least one of the two checksums is known."""

    mouse: str
    path: str
    """Path below the base URL, with forward slashes."""
    git_blob_sha1: str | None = None
    """40 hex digits: SHA-1 of ``b"blob <size>\\0"`` and the content."""
    sha256: str | None = None
    size: int | None = None
    """Bytes."""


@dataclass(frozen=True)
class SplitScheme:
    """A named way of splitting the mice. ``mice`` is empty where the lists are not published."""

    name: str
    description: str
    caveat: str
    mice: Mapping[str, tuple[str, ...]]
    labelled_images_2d: Mapping[str, int]
    """Published number of labelled 2D images of each split."""


@dataclass(frozen=True)
class Group:
    """A cohort group and how many mice it has; which ones is not published."""

    name: str
    n_mice: int
    source: str


@dataclass(frozen=True)
class Stack:
    """The sizes a mouse of the dataset has; ranges are inclusive."""

    rows: int
    columns: int
    slices: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True)
class Constant:
    """A value with its unit and where it comes from."""

    value: Any
    unit: str
    source: str


@dataclass(frozen=True)
class Weights:
    """A weights file."""

    name: str
    path: str
    url: str
    sha256: str
    size: int
    licence: str
    channels: tuple[int, ...]
    classes: tuple[str, ...]
    trained_on: str
    limits: str


@dataclass(frozen=True)
class PublishedMeasure:
    """A row of the published table: mean and SD of truth and model, bias, limits of agreement."""

    name: str
    unit: str
    truth: tuple[float, float]
    model: tuple[float, float]
    bias: float
    limits_of_agreement: tuple[float, float]
    p: float
    r: float


@dataclass(frozen=True)
class PublishedDice:
    """A published Dice score."""

    structure: str
    phase: str
    mean: float
    sd: float


@dataclass(frozen=True)
class PublishedTime:
    """A published computing time in milliseconds."""

    what: str
    milliseconds: float
    sd: float | None = None


@dataclass(frozen=True)
class PublishedBound:
    """A result that was published as "at least"."""

    what: str
    """"mean Dice" or "smallest ICC"."""
    cohort: str
    """"internal", "external" or "every"."""
    at_least: float
    source: str


@dataclass(frozen=True)
class Published:
    """The published results."""

    source: str
    statistics: str
    measures: tuple[PublishedMeasure, ...]
    dice: tuple[PublishedDice, ...]
    times: tuple[PublishedTime, ...]
    bounds: tuple[PublishedBound, ...] = ()


@dataclass(frozen=True)
class KnownIssue:
    """A contradiction or gap in what was published."""

    id: str
    title: str
    text: str
    source: str


@dataclass(frozen=True)
class Reported:
    """What was published of an item of the ARRIVE 2.0 guidelines; nothing where neither is given."""

    item: str
    """Number and name in the guidelines."""
    field: str
    value: str = ""
    source: str = ""
    constants: tuple[str, ...] = ()
    """Names of the manifest's ``acquisition`` constants that are the value."""
