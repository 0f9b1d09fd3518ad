"""The Python interface: sources composed into cohorts, and files fetched and verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mousecmr_data.errors import ManifestError, MissingDataError, UnknownNameError
from mousecmr_data.facts import manifest as manifests
from mousecmr_data.facts.manifest import Manifest
from mousecmr_data.phantom import COHORTS as PHANTOMS

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from mousecmr_data.cine.cohort import Cohort
    from mousecmr_data.cine.source import Source

Path_ = str | PathLike[str]


def load(
    split: str | None = None,
    *,
    mice: Iterable[str] | None = None,
    source: Path_ = manifests.DEFAULT,
    split_scheme: str = "upstream-notebook",
    phenotypes: Path_ | pd.DataFrame | pd.Series[str] | Mapping[str, str] | None = None,
    download: bool = True,
    cache: Path_ | None = None,
    jobs: int = 4,
    progress: bool | None = None,
) -> Cohort:
    """A cohort of mice, downloaded and verified where needed; no pixel is read.

    Parameters
    ----------
    split
        "train", "validation" or "test" of ``split_scheme``; None for every mouse.
    mice
        Names to keep, e.g. ``["Mouse4", "Mouse7"]``; with ``split``, they must belong to it.
    source
        "mousecmr-130" (the real dataset), a phantom by name ("phantom", "phantom-7T",
        "phantom-11.7T": synthetic, and marked so), or the path of a manifest folder of your own.
    split_scheme
        A named split; ``mousecmr info`` lists them. Splits are by mouse and disjoint.
    phenotypes
        Groups per mouse: a CSV file or DataFrame with the columns ``mouse`` and ``phenotype``, or a
        mapping. Mice that it does not name stay "not published".
    download
        Fetch what is missing. With False, missing files are an error.
    cache
        Folder of the cache. Default: ``MOUSECMR_CACHE``, else the system's cache folder.
    jobs, progress
        Parallel transfers; progress bars on or off (None: on in a terminal).

    Raises
    ------
    UnknownNameError, ManifestError
        A mouse, split, scheme or source that does not exist.
    MissingDataError, DownloadError
        Files that are not there and cannot be had.
    """
    from mousecmr_data.cine.cohort import Cohort, Member

    place = origin(source, cache)
    assigned = _assignment(place.manifest, split, split_scheme)
    names = _chosen(place.manifest, mice, split, assigned)
    groups = _groups(phenotypes, place.manifest)
    if source not in PHANTOMS:  # phantoms are made when a mouse is opened
        if download:
            fetch(names, source=source, cache=cache, jobs=jobs, progress=progress)
        else:
            _require(place, names)
    return Cohort(place, [Member(n, assigned.get(n), groups.get(n, place.phenotype(n))) for n in names])


def fetch(
    mice: Iterable[str] | None = None,
    *,
    source: Path_ = manifests.DEFAULT,
    cache: Path_ | None = None,
    jobs: int = 4,
    progress: bool | None = None,
) -> dict[str, Path]:
    """Download what is missing of ``mice`` (None: all), verified; returns the path of each file.

    For a phantom, the files are made instead. See ``docs/download.md`` for mirrors, resuming and
    working offline.
    """
    place = origin(source, cache)
    names = None if mice is None else [mice] if isinstance(mice, str) else list(mice)
    if source in PHANTOMS:
        from mousecmr_data.cine.cohort import known

        every = place.manifest.files
        chosen = list(every) if names is None else [known(n, every) for n in names]
        place.ready(chosen)
        return {name: place.file(name) for name in chosen}
    from mousecmr_data.files.fetch import fetch as fetch_files

    root = None if cache is None else Path(cache)
    return fetch_files(place.manifest, names, cache=root, jobs=jobs, progress=progress)


def open_mouse(
    path_or_name: Path_,
    *,
    source: Path_ = manifests.DEFAULT,
    cache: Path_ | None = None,
    voxel_size_mm: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """Open one mouse as a lazy dataset: a file of the dataset's layout, or a mouse of ``source`` by name.

    The dataset has ``image`` uint16 and ``mask`` uint8 (frame, slice, y, x), ``time`` in ms, ``z``,
    ``y``, ``x`` in mm, ``labelled`` and ``phase``; no pixel is read before it is used. For a file,
    ``voxel_size_mm`` (z, y, x) and ``frame_time_ms`` take precedence over the file's own attributes and
    over the article's constants; the attributes ``voxel_size_source`` and ``frame_time_source`` say which
    it was.
    """
    from mousecmr_data.cine import mouse

    path = Path(path_or_name)
    if path.suffix or path.exists() or len(path.parts) > 1:
        return mouse.open_file(path, voxel_size_mm=voxel_size_mm, frame_time_ms=frame_time_ms)
    if voxel_size_mm is not None or frame_time_ms is not None:
        raise UnknownNameError(
            f"Sizes were given for {str(path)!r}, which is no file.", "sizes belong to a file", "give its path"
        )
    return load(mice=[str(path_or_name)], source=source, cache=cache)[str(path_or_name)]


def resolve(source: Path_) -> Manifest:
    """The manifest of a source: of a phantom, the embedded one, or one read from a folder."""
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import manifest

        return manifest(str(source))
    if source == manifests.DEFAULT:
        return manifests.embedded()
    if Path(source).is_dir():
        return manifests.read(Path(source))
    raise UnknownNameError(
        f"There is no source {str(source)!r}.",
        f"{manifests.DEFAULT}, {', '.join(PHANTOMS)}, or a manifest folder",
        f"load(source={manifests.DEFAULT!r})",
    )


def origin(source: Path_ = manifests.DEFAULT, cache: Path_ | None = None) -> Source:
    """The source object behind a source's name."""
    root = None if cache is None else Path(cache)
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import PhantomSource

        return PhantomSource(str(source), root)
    from mousecmr_data.cine.filesource import FileSource

    return FileSource(resolve(source), root)


def _assignment(manifest: Manifest, split: str | None, scheme_name: str) -> dict[str, str]:
    """Which split each mouse is in; checked to be disjoint."""
    if split is None and not any(s.mice for s in manifest.splits.values()):
        return {}  # a manifest of one's own without splits
    scheme = manifest.split_scheme(scheme_name)
    if split is not None and split not in scheme.mice:
        raise UnknownNameError(
            f"There is no split {split!r} in the scheme {scheme_name!r}.",
            f"one of {', '.join(map(repr, scheme.mice))}, or None for every mouse",
            f"load(split={next(iter(scheme.mice))!r})",
        )
    assigned: dict[str, str] = {}
    for name, members in scheme.mice.items():
        if overlap := assigned.keys() & set(members):
            raise ManifestError(f"{sorted(overlap)[0]} is in two splits of {scheme_name!r}.", "disjoint splits")
        assigned |= dict.fromkeys(members, name)
    return assigned


def _chosen(
    manifest: Manifest, mice: Iterable[str] | None, split: str | None, assigned: Mapping[str, str]
) -> list[str]:
    from mousecmr_data.cine.cohort import known

    if mice is None:
        return [m for m in manifest.files if split is None or assigned.get(m) == split]
    names = [known(m, manifest.files) for m in ([mice] if isinstance(mice, str) else mice)]
    if split is not None and (strangers := [m for m in names if assigned.get(m) != split]):
        raise UnknownNameError(
            f"{strangers[0]} is in the split {assigned.get(strangers[0], 'none')!r}, not in {split!r}.",
            "mice of the split asked for",
            "leave out split=... or mice=...",
        )
    return list(dict.fromkeys(names))


def _groups(table: Any, manifest: Manifest) -> dict[str, str]:
    """Phenotypes by mouse from a CSV file, a DataFrame, a Series or a mapping."""
    import pandas as pd

    if table is None:
        return {}
    wanted = "columns mouse and phenotype, a row a mouse"
    if isinstance(table, str | PathLike):
        if not Path(table).is_file():
            raise MissingDataError(f"There is no file {table}.", f"a CSV file with the {wanted}")
        try:
            table = pd.read_csv(table, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as e:
            raise ManifestError(f"{table} is not a CSV file: {e}", f"a CSV file with the {wanted}") from e
    if isinstance(table, pd.DataFrame):
        if "mouse" not in table.columns and table.index.name == "mouse":
            table = table.reset_index()
        if not {"mouse", "phenotype"} <= set(table.columns):
            raise ManifestError(f"The phenotypes have the columns {list(table.columns)}.", wanted)
        pairs = list(zip(table["mouse"], table["phenotype"], strict=True))
    else:
        pairs = list(table.items())
    groups: dict[str, str] = {}
    for mouse, group in pairs:
        if mouse not in manifest.files:
            raise UnknownNameError(f"The phenotypes name {mouse!r}.", f"mice of {manifest.name}")
        if groups.setdefault(mouse, str(group)) != str(group):
            raise ManifestError(f"The phenotypes give {mouse} twice: {groups[mouse]!r}, {group!r}.", wanted)
    return {m: g for m, g in groups.items() if g and g != "nan"}


def _require(source: Source, mice: Sequence[str]) -> None:
    missing = [m for m in mice if not source.file(m).exists()]
    if missing:
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise MissingDataError(
            f"{len(missing)} of {len(mice)} files are missing in {source.file(missing[0]).parent}: {some}.",
            "files that were fetched",
            "mousecmr fetch  (or load(download=True))",
        )
