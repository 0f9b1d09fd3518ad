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
from mousecmr_data.facts.entries import (
    Constant,
    FileEntry,
    Group,
    KnownIssue,
    Published,
    PublishedBound,
    PublishedDice,
    PublishedMeasure,
    PublishedTime,
    Reported,
    SplitScheme,
    Stack,
    Weights,
)

__all__ = [
    "DEFAULT",
    "ROOT",
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
    "Reported",
    "SplitScheme",
    "Stack",
    "Weights",
    "embedded",
    "read",
]

ROOT = Path(__file__).parents[1] / "manifests"
"""Where the embedded manifests lie: a link in a checkout, a folder in the wheel."""

DEFAULT = "mousecmr-130"

COLUMNS = "columns mouse,path,git_blob_sha1,sha256,size"

RESERVED = ("weights", "layouts", "phantom")
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
    arrive: tuple[Reported, ...] = ()
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


def embedded(name: str = DEFAULT) -> Manifest:
    """The manifest ``name`` that ships with the package (read once a process)."""
    return _read_cached(ROOT / name)


def read(folder: str | Path) -> Manifest:
    """Read a manifest folder; :class:`ManifestError` says what is wrong with it."""
    folder = Path(folder)
    dataset = _toml(folder / "dataset.toml", required=True)
    name = _text(dataset, "name", folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ManifestError(f"{folder}: the name {name!r} cannot be a folder name.", "letters, digits, . _ -")
    version = _text(dataset, "version", folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", version):
        raise ManifestError(f"{folder}: the version {version!r} cannot be a folder name.", "letters, digits, . _ -")
    if folder.parent != ROOT and (name in RESERVED or name.startswith("phantom")):
        raise ManifestError(f"{folder}: the name {name!r} is taken by this library.", "a name of your own")
    url = dataset.get("url", "")
    try:
        url.format(version=version, path="x")
    except (KeyError, ValueError, IndexError, AttributeError) as e:
        raise ManifestError(f"{folder}: the url {url!r} is no template.", "text with {version} and {path}") from e
    files = _files(folder / "files.csv")
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
            splits=_splits(_toml(folder / "splits.toml"), files, folder),
            groups=tuple(Group(**g) for g in dataset.get("groups", [])),
            stack=_stack(dataset.get("stack")),
            acquisition={k: Constant(**v) for k, v in dataset.get("acquisition", {}).items()},
            counts={k: Constant(**v) for k, v in dataset.get("counts", {}).items()},
            weights=_weights(_toml(folder / "weights.toml")),
            published=_published(_toml(folder / "published.toml")),
            known_issues=tuple(KnownIssue(**i) for i in _toml(folder / "known_issues.toml").get("issues", [])),
            paper=dataset.get("paper", {}),
            released=str(dataset.get("released", "")),
            arrive=tuple(
                Reported(**{**i, "constants": tuple(i.get("constants", ()))})
                for i in _toml(folder / "arrive.toml").get("items", [])
            ),
        )
    except (TypeError, KeyError, AttributeError) as e:  # a table with missing or unknown keys
        raise ManifestError(
            f"{folder}: a table has missing or unknown keys ({e}).",
            f"the keys of the embedded manifest in {ROOT / DEFAULT}",
        ) from e


@cache
def _read_cached(folder: Path) -> Manifest:
    return read(folder)


def _toml(path: Path, required: bool = False) -> dict[str, Any]:
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


def _text(table: Mapping[str, Any], key: str, folder: Path) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{folder / 'dataset.toml'} has no {key!r}.", f'a line {key} = "..."')
    return value


def _files(path: Path) -> dict[str, FileEntry]:
    if not path.is_file():
        raise ManifestError(f"There is no {path.name} in {path.parent}.", COLUMNS)
    entries: dict[str, FileEntry] = {}
    paths: set[str] = set()
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").removeprefix("\ufeff").splitlines()))
    except (UnicodeDecodeError, csv.Error) as e:
        raise ManifestError(f"{path} is no CSV file in UTF-8: {e}.", COLUMNS) from e
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
        if not (_hex(sha1, 40) and _hex(sha256, 64) and (sha1 or sha256)):
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


def _hex(text: str | None, digits: int) -> bool:
    return text is None or re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None


def _splits(tables: dict[str, Any], files: Mapping[str, FileEntry], folder: Path) -> dict[str, SplitScheme]:
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


def _stack(table: dict[str, Any] | None) -> Stack | None:
    if table is None:
        return None
    return Stack(table["rows"], table["columns"], tuple(table["slices"]), tuple(table["frames"]))


def _weights(tables: dict[str, Any]) -> dict[str, Weights]:
    entries = (
        Weights(**{**w, "channels": tuple(w["channels"]), "classes": tuple(w["classes"])})
        for w in tables.get("weights", [])
    )
    return {w.name: w for w in entries}


def _published(tables: dict[str, Any]) -> Published | None:
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
