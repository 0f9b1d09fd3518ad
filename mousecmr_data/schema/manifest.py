"""Read manifests: folders of small data files that describe a dataset, read into dataclasses.

``dataset.toml`` and ``files.csv`` are required; ``splits.toml``, ``weights.toml``, ``published.toml``,
``known_issues.toml`` and ``arrive.toml`` are optional. The manifest of the 130 mice ships with the package; you can
write your own and pass its folder as ``load(source=folder)``.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from mousecmr_data.errors import ArgumentError, ManifestError, UnknownNameError, find_similar
from mousecmr_data.schema import DEFAULT_DATASET, FORMULA_STARTS


@dataclass(frozen=True)
class FileEntry:
    """The file of one mouse. At least one of the two checksums is known, except for a phantom."""

    mouse: str
    path: str
    """Path below the base URL, with forward slashes."""
    git_blob_sha1: str | None = None
    """40 hex digits: SHA-1 of ``b"blob <size>\\0"`` and the content."""
    sha256: str | None = None
    size: int | None = None
    """Bytes."""


FILES_CSV_COLUMNS = tuple(f.name for f in fields(FileEntry))
_FILES_CSV = f"columns {','.join(FILES_CSV_COLUMNS)}"


def format_files_csv(entries: Iterable[FileEntry]) -> str:
    """Return the text of ``files.csv``; what is not known is left empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([FILES_CSV_COLUMNS, *map(astuple, entries)])
    return text.getvalue()


@dataclass(frozen=True)
class SplitScheme:
    """A named way of splitting the mice. ``mice`` is empty if the lists are not published."""

    name: str
    description: str
    caveat: str
    mice: Mapping[str, tuple[str, ...]]
    labelled_images_2d: Mapping[str, int]
    """Published number of labelled 2D images of each split."""


@dataclass(frozen=True)
class Group:
    """A cohort group and its number of mice; which mice belong to it is not published."""

    name: str
    n_mice: int
    source: str


@dataclass(frozen=True)
class Stack:
    """Array sizes of the dataset's mice; ranges are inclusive."""

    rows: int
    columns: int
    slices: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True)
class Constant:
    """A value with its unit and source."""

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
    scaling: str = "min-max"
    """How grey values are scaled slice by slice (:data:`mousecmr_data.inference.grid.SCALINGS`)."""
    context: int = 0
    """Number of neighbouring slices on each side that the network sees."""


@dataclass(frozen=True)
class PublishedMeasure:
    """One row of the published table: mean and SD of truth and model, bias, limits of agreement."""

    name: str
    unit: str
    truth: tuple[float, float]
    model: tuple[float, float]
    bias: float
    limits_of_agreement: tuple[float, float]
    p: float
    r: float
    note: str = ""
    """What is known to be wrong with the row."""


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
    n_mice: int = 0
    """Number of mice that the results are of; 0 if it is not known."""
    ranked_dice: tuple[float, ...] = ()
    """Mean Dice of the best, the median and the worst stack."""
    dice_and_errors: Mapping[str, float] = field(default_factory=dict)
    """Spearman's correlation of a mouse's mean Dice with the absolute error, by measure."""
    dice_anova: str = ""
    """The test of Dice between phases and structures, in words."""


@dataclass(frozen=True)
class KnownIssue:
    """A contradiction or gap in what was published."""

    id: str
    title: str
    text: str
    source: str


@dataclass(frozen=True)
class ArriveItem:
    """What was published for an item of the ARRIVE 2.0 guidelines: nothing if value and constants are empty."""

    item: str
    """Number and name in the guidelines."""
    field: str
    value: str = ""
    source: str = ""
    constants: tuple[str, ...] = ()
    """Names of the manifest's ``acquisition`` constants that hold the value."""


_IN_PACKAGE, _IN_CHECKOUT = (Path(__file__).parents[n] / "manifests" for n in (1, 2))
MANIFESTS_FOLDER = _IN_PACKAGE if _IN_PACKAGE.is_dir() else _IN_CHECKOUT
"""Folder of the embedded manifests: in the installed package (added by the build), or in the checkout."""

RESERVED_NAMES = ("weights", "layouts", "engines", "publish", "segment", "convert")
"""Dataset names that are not allowed: the cache has other folders of these names, beside those of the phantoms."""


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest folder."""

    name: str
    title: str
    version: str
    url: str
    """Template with ``{version}`` and ``{path}``; empty if there is nothing to download."""
    homepage: str
    licence: str
    synthetic: bool
    files: Mapping[str, FileEntry]
    """Keyed by mouse, in the manifest's order."""
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
    """Date of this version, as YYYY-MM-DD; empty if unknown."""
    arrive: tuple[ArriveItem, ...] = ()
    """What was published about the animals and the study, by the ARRIVE 2.0 guidelines."""
    source: str = field(default="", compare=False)
    """What ``load(source=...)`` and ``--source`` call it: usually its folder; empty for the default dataset."""

    def file_url(self, entry: FileEntry | Weights) -> str:
        """Return the pinned URL of a file; raises ManifestError if the template is not valid."""
        template = entry.url if isinstance(entry, Weights) else self.url
        try:
            return template.format(version=self.version, path=entry.path)
        except (LookupError, ValueError, AttributeError) as e:
            raise ManifestError(f"{self.name} has the url {template!r}.", "no fields but {version} and {path}") from e

    def split_scheme(self, name: str) -> SplitScheme:
        """Return the split scheme ``name``; raises UnknownNameError if it or its lists do not exist."""
        if name not in self.splits:
            raise UnknownNameError.from_name("split scheme", name, self.splits, "mousecmr info  lists them")
        scheme = self.splits[name]
        if not scheme.mice:
            usable = [repr(s.name) for s in self.splits.values() if s.mice]
            raise UnknownNameError(
                f"The lists of the split scheme {name!r} are not published.",
                f"one of {', '.join(usable)}",
                f"load(split_scheme={usable[0]})" if usable else None,
            )
        return scheme


def is_file_name(text: str) -> bool:
    """Return whether ``text`` is a plain name: no path, device or hidden file, and no formula of a spreadsheet."""
    plain = text.isprintable() and not set(text) & set("/\\:") and text == text.strip()
    return plain and bool(text) and not text.startswith((".", *FORMULA_STARTS)) and len(text.encode()) <= 250


def resolve_name(name: str, names: Collection[str]) -> str:
    """Return ``name`` if it is one of the mice ``names``; else raise UnknownNameError with a suggestion."""
    if isinstance(name, str) and name in names:
        return name
    valid = list(names)
    parts = re.split(r"[\s,;]+", str(name).strip(" ,;"))
    similar = find_similar(name, valid)
    if isinstance(name, str) and len(parts) > 1 and all(part in names for part in parts):
        step = f"one name each: {' '.join(parts)}  (Python: {parts})"
    elif similar:
        step = f"did you mean {similar!r}?"
    else:
        step = "mousecmr lock export  lists all names (Python: cohort.mice)"
    raise UnknownNameError(
        f"There is no mouse {name!r} here.",
        f"one of {len(valid)}: {valid[0]} ... {valid[-1]}" if valid else "a cohort that is not empty",
        step,
    )


def resolve_names(mice: Iterable[str] | str, names: Collection[str], *, allow_none: bool = False) -> list[str]:
    """Return the names ``mice``, or the one name, as a list; each must be one of ``names``.

    Raises UnknownNameError for one that is not, and ArgumentError for names that are given twice, what is not names,
    and an empty list, unless ``allow_none``.
    """
    if not isinstance(mice, Iterable):
        raise ArgumentError(f"{mice!r} is not a list of names of mice.", "names", f"{list(names)[:2]}, or None for all")
    chosen = [resolve_name(name, names) for name in ([mice] if isinstance(mice, str) else mice)]
    if not chosen and not allow_none:
        raise ArgumentError("The list of mice is empty.", "names, or None for all", f"mice={list(names)[:2]}")
    if twice := [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]:
        raise ArgumentError(f"{', '.join(twice)}: named more than once.", "each mouse once")
    return chosen


def load_manifest(name: str = DEFAULT_DATASET) -> Manifest:
    """Return the manifest ``name`` that ships with the package (read once per process)."""
    return _read_cached(MANIFESTS_FOLDER / name)


def get_constant(name: str) -> Any:
    """Return the value of an ``acquisition`` constant of the default dataset."""
    return load_manifest().acquisition[name].value


def read_manifest(folder: str | Path) -> Manifest:
    """Read a manifest folder; raises :class:`ManifestError` with the reason if it is not valid."""
    folder = Path(folder)
    if not (folder / "dataset.toml").is_file():
        raise ManifestError(
            f"There is no dataset.toml in {folder}.",
            "a manifest folder: dataset.toml and files.csv",
            "mousecmr manifest create FOLDER_OF_MICE  (makes one)",
        )
    dataset = _read_toml(folder / "dataset.toml")
    name, version = _get_folder_name(dataset, "name", folder), _get_folder_name(dataset, "version", folder)
    if folder.parent != MANIFESTS_FOLDER and (name in RESERVED_NAMES or name.startswith("phantom")):
        raise ManifestError(f"{folder}: the name {name!r} is reserved by this library.", "another name")
    url = dataset.get("url", "")
    try:
        url.format(version=version, path="x")
    except (KeyError, ValueError, IndexError, AttributeError) as e:
        raise ManifestError(f"{folder}: the url {url!r} is not a template.", "text with {version} and {path}") from e
    files = _parse_files(folder / "files.csv")
    try:
        if (stack := dataset.get("stack")) is not None:
            stack = Stack(stack["rows"], stack["columns"], tuple(stack["slices"]), tuple(stack["frames"]))
        return Manifest(
            name=name,
            title=dataset.get("title", name),
            version=version,
            url=url,
            homepage=dataset.get("homepage", ""),
            licence=dataset.get("licence", "not stated"),
            synthetic=bool(dataset.get("synthetic", False)),
            files=files,
            splits=_parse_splits(folder / "splits.toml", files),
            groups=tuple(Group(**g) for g in dataset.get("groups", [])),
            stack=stack,
            acquisition={k: Constant(**v) for k, v in dataset.get("acquisition", {}).items()},
            counts={k: Constant(**v) for k, v in dataset.get("counts", {}).items()},
            weights={
                w["name"]: Weights(**{**w, "channels": tuple(w["channels"]), "classes": tuple(w["classes"])})
                for w in _read_toml(folder / "weights.toml").get("weights", [])
            },
            published=_parse_published(_read_toml(folder / "published.toml")),
            known_issues=tuple(KnownIssue(**i) for i in _read_toml(folder / "known_issues.toml").get("issues", [])),
            paper=dataset.get("paper", {}),
            released=str(dataset.get("released", "")),
            arrive=tuple(
                ArriveItem(**{**i, "constants": tuple(i.get("constants", ()))})
                for i in _read_toml(folder / "arrive.toml").get("items", [])
            ),
            source="" if folder == MANIFESTS_FOLDER / DEFAULT_DATASET else str(folder),
        )
    except (TypeError, KeyError, AttributeError) as e:  # a table with missing or unknown keys
        raise ManifestError(
            f"{folder}: a table has missing or unknown keys ({e}).",
            f"the keys of the embedded manifest in {MANIFESTS_FOLDER / DEFAULT_DATASET}",
        ) from e


_read_cached = cache(read_manifest)


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ManifestError(f"{path} is not valid TOML: {e}.") from e


def _get_folder_name(table: Mapping[str, Any], key: str, folder: Path) -> str:
    """Return the text ``table[key]``, which the cache uses as the name of a folder."""
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{folder / 'dataset.toml'} has no {key!r}.", f'a line {key} = "..."')
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ManifestError(f"{folder}: the {key} {value!r} cannot be a folder name.", "letters, digits, . _ -")
    return value


def _parse_files(path: Path) -> dict[str, FileEntry]:
    if not path.is_file():
        raise ManifestError(f"There is no {path.name} in {path.parent}.", _FILES_CSV)
    entries: dict[str, FileEntry] = {}
    paths: set[str] = set()
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").removeprefix("\ufeff").splitlines()))
    except (UnicodeDecodeError, csv.Error) as e:
        raise ManifestError(f"{path} is not a CSV file in UTF-8: {e}.", _FILES_CSV) from e
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        mouse, relative = row.get("mouse") or "", row.get("path") or ""
        sha1, sha256, size = (row.get(k) or None for k in ("git_blob_sha1", "sha256", "size"))
        parts = PurePosixPath(relative).parts
        if not is_file_name(mouse) or mouse.endswith((".json", ".zarr")):
            raise ManifestError(f"{where}: mouse {mouse!r}.", "a name that can be a file's, such as Mouse1")
        if not relative or mouse in entries or relative in paths:
            raise ManifestError(f"{where}: mouse {mouse!r}, path {relative!r}.", "unique names and paths")
        paths.add(relative)
        hidden = any(part.startswith(".") for part in parts) or relative.endswith(".json")
        if hidden or not parts or relative.startswith(("/", *FORMULA_STARTS)) or "\\" in relative:
            raise ManifestError(
                f"{where}: the path {relative!r} leaves the dataset, or begins like a formula.", "a relative path"
            )
        if not (_is_hex(sha1, 40) and _is_hex(sha256, 64) and (sha1 or sha256)):
            raise ManifestError(
                f"{where}: git_blob_sha1 {sha1!r}, sha256 {sha256!r}.",
                "40 and 64 lower-case hex digits, at least one of the two",
            )
        if size is not None and not (size.isascii() and size.isdigit()):
            raise ManifestError(f"{where}: size {size!r}.", "a number of bytes")
        entries[mouse] = FileEntry(mouse, relative, sha1, sha256, int(size) if size else None)
    if not entries:
        raise ManifestError(f"{path} lists no files.", "one row per mouse")
    return entries


def _is_hex(text: str | None, digits: int) -> bool:
    return text is None or re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None


def _parse_splits(path: Path, files: Mapping[str, FileEntry]) -> dict[str, SplitScheme]:
    schemes = {}
    for name, table in _read_toml(path).items():
        mice = {k: tuple(v) for k, v in table.items() if isinstance(v, list)}
        if strange := [k for k in table if k not in {*mice, "description", "caveat", "labelled_images_2d"}]:
            raise ManifestError(f"{path}: {strange[0]!r} of {name!r} is not a list.", "lists of mice")
        split_of: dict[str, str] = {}
        for split, members in mice.items():
            for mouse in members:
                if mouse in split_of:
                    raise ManifestError(
                        f"{path}: in {name!r}, {mouse} is in {split_of[mouse]!r} and {split!r}.", "disjoint splits"
                    )
                if mouse not in files:
                    raise ManifestError(f"{path}: {mouse} of {name!r} is not in files.csv.", "listed mice")
                split_of[mouse] = split
        description, caveat = table.get("description", ""), table.get("caveat", "")
        schemes[name] = SplitScheme(name, description, caveat, mice, table.get("labelled_images_2d", {}))
    return schemes


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
        int(tables.get("n_mice", 0)),
        tuple(tables.get("ranked_dice", ())),
        tables.get("dice_and_errors", {}),
        tables.get("dice_anova", ""),
    )
