"""A manifest: what exists of a dataset, as a folder of small data files read into dataclasses.

``dataset.toml`` and ``files.csv`` are required; ``splits.toml``, ``weights.toml``,
``published.toml``, ``known_issues.toml`` and ``arrive.toml`` may be absent. The manifest of the 130 mice ships with
the package; a lab can write one of its own and pass the folder as ``load(source=folder)``.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from mousecmr_data.errors import ManifestError, UnknownNameError

# MERGED schema.manifest: The entries of a manifest: files, splits, groups, constants, weights, published numbers, issues.


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
class ArriveItem:
    """What was published of an item of the ARRIVE 2.0 guidelines; nothing where neither is given."""

    item: str
    """Number and name in the guidelines."""
    field: str
    value: str = ""
    source: str = ""
    constants: tuple[str, ...] = ()
    """Names of the manifest's ``acquisition`` constants that are the value."""


__all__ = [
    "DEFAULT_DATASET",
    "MANIFESTS_FOLDER",
    "ArriveItem",
    "Constant",
    "FileEntry",
    "Group",
    "KnownIssue",
    "Manifest",
    "Published",
    "PublishedBound",
    "PublishedDice",
    "PublishedMeasure",
    "PublishedTime",
    "SplitScheme",
    "Stack",
    "Weights",
    "load_manifest",
    "read_manifest",
]

_IN_PACKAGE, _IN_CHECKOUT = (Path(__file__).parents[n] / "manifests" for n in (1, 2))
MANIFESTS_FOLDER = _IN_PACKAGE if _IN_PACKAGE.is_dir() else _IN_CHECKOUT
"""The embedded manifests: a folder of the installed package (the build puts it there), or of the checkout."""

DEFAULT_DATASET = "mousecmr-130"

FILES_CSV_COLUMNS = "columns mouse,path,git_blob_sha1,sha256,size"

RESERVED_NAMES = ("weights", "layouts", "phantom")
"""Names that mean something else in the cache."""


@dataclass(frozen=True)
class Manifest:
    """Everything a manifest folder says."""

    name: str
    title: str
    version: str
    url: str
    """Template with ``{version}`` and ``{path}``; empty where there is nothing to download."""
    homepage: str
    licence: str
    synthetic: bool
    files: Mapping[str, FileEntry]
    """By mouse, in the manifest's order."""
    splits: Mapping[str, SplitScheme]
    groups: tuple[Group, ...]
    stack: Stack | None
    acquisition: Mapping[str, Constant]
    counts: Mapping[str, Constant]
    weights: Mapping[str, Weights]
    published: Published | None
    known_issues: tuple[KnownIssue, ...]
    paper: Mapping[str, Any] = field(default_factory=dict)
    released: str = ""
    """Day of this version, as YYYY-MM-DD; empty where it is not known."""
    arrive: tuple[ArriveItem, ...] = ()
    """What was published of the animals and the study, by the ARRIVE 2.0 guidelines."""

    def file_url(self, entry: FileEntry | Weights) -> str:
        """The pinned URL of a file."""
        template = entry.url if isinstance(entry, Weights) else self.url
        return template.format(version=self.version, path=entry.path)

    def split_scheme(self, name: str) -> SplitScheme:
        """The split scheme called ``name``, with its lists."""
        if name not in self.splits:
            raise UnknownNameError(
                f"There is no split scheme {name!r} in {self.name}.",
                f"one of {', '.join(map(repr, self.splits)) or 'none: this manifest has no splits.toml'}",
                "mousecmr info",
            )
        scheme = self.splits[name]
        if not scheme.mice:
            usable = [repr(s.name) for s in self.splits.values() if s.mice]
            raise UnknownNameError(
                f"The lists of the split scheme {name!r} are not published.",
                f"one of {', '.join(usable)}",
                f"load(split_scheme={usable[0]})" if usable else None,
            )
        return scheme


def load_manifest(name: str = DEFAULT_DATASET) -> Manifest:
    """The manifest ``name`` that ships with the package (read once a process)."""
    return _read_cached(MANIFESTS_FOLDER / name)


def read_manifest(folder: str | Path) -> Manifest:
    """Read a manifest folder; :class:`ManifestError` says what is wrong with it."""
    folder = Path(folder)
    dataset = _read_toml(folder / "dataset.toml", required=True)
    name = _require_text(dataset, "name", folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ManifestError(f"{folder}: the name {name!r} cannot be a folder name.", "letters, digits, . _ -")
    version = _require_text(dataset, "version", folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", version):
        raise ManifestError(f"{folder}: the version {version!r} cannot be a folder name.", "letters, digits, . _ -")
    if folder.parent != MANIFESTS_FOLDER and (name in RESERVED_NAMES or name.startswith("phantom")):
        raise ManifestError(f"{folder}: the name {name!r} is taken by this library.", "a name of your own")
    url = dataset.get("url", "")
    try:
        url.format(version=version, path="x")
    except (KeyError, ValueError, IndexError, AttributeError) as e:
        raise ManifestError(f"{folder}: the url {url!r} is no template.", "text with {version} and {path}") from e
    files = _parse_files(folder / "files.csv")
    try:
        return Manifest(
            name=name,
            title=dataset.get("title", name),
            version=version,
            url=url,
            homepage=dataset.get("homepage", ""),
            licence=dataset.get("licence", "not stated"),
            synthetic=bool(dataset.get("synthetic", False)),
            files=files,
            splits=_parse_splits(_read_toml(folder / "splits.toml"), files, folder),
            groups=tuple(Group(**g) for g in dataset.get("groups", [])),
            stack=_parse_stack(dataset.get("stack")),
            acquisition={k: Constant(**v) for k, v in dataset.get("acquisition", {}).items()},
            counts={k: Constant(**v) for k, v in dataset.get("counts", {}).items()},
            weights=_parse_weights(_read_toml(folder / "weights.toml")),
            published=_parse_published(_read_toml(folder / "published.toml")),
            known_issues=tuple(KnownIssue(**i) for i in _read_toml(folder / "known_issues.toml").get("issues", [])),
            paper=dataset.get("paper", {}),
            released=str(dataset.get("released", "")),
            arrive=tuple(
                ArriveItem(**{**i, "constants": tuple(i.get("constants", ()))})
                for i in _read_toml(folder / "arrive.toml").get("items", [])
            ),
        )
    except (TypeError, KeyError, AttributeError) as e:  # a table with missing or unknown keys
        raise ManifestError(
            f"{folder}: a table has missing or unknown keys ({e}).",
            f"the keys of the embedded manifest in {MANIFESTS_FOLDER / DEFAULT_DATASET}",
        ) from e


@cache
def _read_cached(folder: Path) -> Manifest:
    return read_manifest(folder)


def _read_toml(path: Path, required: bool = False) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise ManifestError(
                f"There is no {path.name} in {path.parent}.",
                "a manifest folder: dataset.toml and files.csv",
                "mousecmr info  (the embedded manifest's place and content)",
            )
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ManifestError(f"{path} is not valid TOML: {e}.") from e


def _require_text(table: Mapping[str, Any], key: str, folder: Path) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{folder / 'dataset.toml'} has no {key!r}.", f'a line {key} = "..."')
    return value


def _parse_files(path: Path) -> dict[str, FileEntry]:
    if not path.is_file():
        raise ManifestError(f"There is no {path.name} in {path.parent}.", FILES_CSV_COLUMNS)
    entries: dict[str, FileEntry] = {}
    paths: set[str] = set()
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").removeprefix("\ufeff").splitlines()))
    except (UnicodeDecodeError, csv.Error) as e:
        raise ManifestError(f"{path} is no CSV file in UTF-8: {e}.", FILES_CSV_COLUMNS) from e
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        mouse, relative = row.get("mouse") or "", row.get("path") or ""
        sha1, sha256, size = (row.get(k) or None for k in ("git_blob_sha1", "sha256", "size"))
        parts = PurePosixPath(relative).parts
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.+-]*", mouse) or mouse.endswith((".json", ".zarr")):
            raise ManifestError(f"{where}: mouse {mouse!r}.", "a name of letters, digits and . _ - +")
        if not relative or mouse in entries or relative in paths:
            raise ManifestError(f"{where}: mouse {mouse!r}, path {relative!r}.", "unique names and paths")
        paths.add(relative)
        hidden = any(part.startswith(".") for part in parts) or relative.endswith(".json")
        if hidden or not parts or relative.startswith("/") or "\\" in relative:
            raise ManifestError(f"{where}: the path {relative!r} leaves the dataset.", "a relative path")
        if not (_is_hex(sha1, 40) and _is_hex(sha256, 64) and (sha1 or sha256)):
            raise ManifestError(
                f"{where}: git_blob_sha1 {sha1!r}, sha256 {sha256!r}.",
                "40 and 64 lower-case hex digits, at least one of the two",
            )
        if size is not None and not (size.isascii() and size.isdigit()):
            raise ManifestError(f"{where}: size {size!r}.", "a number of bytes")
        entries[mouse] = FileEntry(mouse, relative, sha1, sha256, int(size) if size else None)
    if not entries:
        raise ManifestError(f"{path} lists no file.", "a row a mouse")
    return entries


def _is_hex(text: str | None, digits: int) -> bool:
    return text is None or re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None


def _parse_splits(tables: dict[str, Any], files: Mapping[str, FileEntry], folder: Path) -> dict[str, SplitScheme]:
    schemes = {}
    for name, table in tables.items():
        known = {"description", "caveat", "labelled_images_2d"}
        strange = [k for k, v in table.items() if k not in known and not isinstance(v, list)]
        if strange:
            raise ManifestError(f"{folder / 'splits.toml'}: {strange[0]!r} of {name!r} is no list.", "lists of mice")
        mice = {k: tuple(v) for k, v in table.items() if isinstance(v, list)}
        seen: dict[str, str] = {}
        for split, members in mice.items():
            for mouse in members:
                if mouse in seen:
                    raise ManifestError(
                        f"{folder / 'splits.toml'}: in {name!r}, {mouse} is in {seen[mouse]!r} and {split!r}.",
                        "disjoint splits",
                    )
                if mouse not in files:
                    raise ManifestError(
                        f"{folder / 'splits.toml'}: {mouse} of {name!r} is not in files.csv.", "listed mice"
                    )
                seen[mouse] = split
        schemes[name] = SplitScheme(
            name,
            table.get("description", ""),
            table.get("caveat", ""),
            mice,
            table.get("labelled_images_2d", {}),
        )
    return schemes


def _parse_stack(table: dict[str, Any] | None) -> Stack | None:
    if table is None:
        return None
    return Stack(table["rows"], table["columns"], tuple(table["slices"]), tuple(table["frames"]))


def _parse_weights(tables: dict[str, Any]) -> dict[str, Weights]:
    entries = (
        Weights(**{**w, "channels": tuple(w["channels"]), "classes": tuple(w["classes"])})
        for w in tables.get("weights", [])
    )
    return {w.name: w for w in entries}


def _parse_published(tables: dict[str, Any]) -> Published | None:
    if not tables:
        return None
    pairs = ("truth", "model", "limits_of_agreement")
    return Published(
        tables["source"],
        tables["statistics"],
        tuple(PublishedMeasure(**{**m, **{k: tuple(m[k]) for k in pairs}}) for m in tables.get("measures", [])),
        tuple(PublishedDice(**d) for d in tables.get("dice", [])),
        tuple(PublishedTime(**t) for t in tables.get("times", [])),
        tuple(PublishedBound(**b) for b in tables.get("bounds", [])),
    )
