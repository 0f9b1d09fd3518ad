"""The Python interface: sources composed into cohorts, and files fetched and verified."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.errors import MissingDataError, UnknownNameError
from mousecmr_data.phantom import COHORTS as PHANTOMS
from mousecmr_data.schema.manifest import DEFAULT_DATASET, Manifest, load_manifest, read_manifest

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from mousecmr_data.dataset.cohort import Cohort
    from mousecmr_data.dataset.source import Source

PathLike: TypeAlias = str | os.PathLike[str]

SPLIT_SCHEME = "upstream-notebook"
"""The default split; a manifest of one's own without it has its first one as the default."""


def load(
    split: str | None = None,
    *,
    mice: Iterable[str] | None = None,
    source: PathLike = DEFAULT_DATASET,
    split_scheme: str = SPLIT_SCHEME,
    phenotypes: PathLike | pd.DataFrame | Mapping[str, str | None] | None = None,
    download: bool = True,
    cache: PathLike | None = None,
    layout_cache: bool = True,
    chunks: Mapping[str, int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    workers: int = 4,
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
        "phantom-11.7T": synthetic, and marked so), the path of a manifest folder of your own, or a Zarr
        store written by ``mousecmr convert``: a folder, a .zip file, or a URL (https://, s3://, hf://).
    split_scheme
        A named split; ``mousecmr info`` lists them. Splits are by mouse and disjoint.
    phenotypes
        Groups per mouse: a CSV file or DataFrame with the columns ``mouse`` and ``phenotype``, or a
        mapping. Mice that it does not name stay "not published".
    download
        Fetch what is missing. With False, missing files are an error.
    cache
        Folder of the cache. Default: ``MOUSECMR_CACHE``, else the system's cache folder.
    layout_cache
        Keep images that were read in a layout that reads many times faster (see docs/arrays.md), beside
        the files. With False, the files are read each time.
    chunks
        Give dask arrays, in chunks such as ``{"frame": 4}``; ``{}`` is a chunk a frame, as they are stored.
    storage_options
        For a URL: options of its fsspec file system, such as credentials.
    jobs, progress
        Parallel transfers; progress bars on or off (None: on in a terminal).

    Raises
    ------
    UnknownNameError, ManifestError
        A mouse, split, scheme or source that does not exist.
    MissingDataError, DownloadError
        Files that are not there and cannot be had.
    """
    from mousecmr_data.dataset.cohort import Cohort, CohortMember, assign_splits, read_phenotypes, select_mice
    from mousecmr_data.dataset.layout_cache import CACHE_NAME, LayoutCache
    from mousecmr_data.dataset.source import FileOpener, FileSource, Opener, ZarrSource
    from mousecmr_data.download.cache import get_cache_root

    place = resolve_source(source, cache, storage_options)
    usable = [name for name, scheme in place.manifest.splits.items() if scheme.mice]
    if split_scheme == SPLIT_SCHEME and split_scheme not in usable and usable:
        split_scheme = usable[0]  # of a manifest or store of one's own
    assigned = assign_splits(place.manifest, split, split_scheme)
    names = select_mice(place.manifest, mice, split, assigned)
    groups = read_phenotypes(phenotypes, place.manifest)
    if isinstance(place, FileSource):  # phantoms are made when a mouse is opened; a store has them all
        if download:
            fetch(names, source=source, cache=cache, workers=workers, progress=progress)
        else:
            _check_present(place, names)
    opener: Opener = place if isinstance(place, ZarrSource) else FileOpener(place, None)
    if layout_cache and isinstance(opener, FileOpener):
        folder = (
            get_cache_root(None if cache is None else Path(cache))
            / "layouts"
            / CACHE_NAME
            / place.name
            / place.version[:12]
        )
        opener = FileOpener(place, LayoutCache(folder))
    members = [CohortMember(n, assigned.get(n), groups.get(n, place.get_phenotype(n))) for n in names]
    return Cohort(place, members, opener, split_scheme if assigned else "", chunks)


def fetch(
    mice: Iterable[str] | None = None,
    *,
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    workers: int = 4,
    progress: bool | None = None,
) -> dict[str, Path]:
    """Download what is missing of ``mice`` (None: all), verified; returns the path of each file.

    For a phantom, the files are made instead. See ``docs/download.md`` for mirrors, resuming and
    working offline.
    """
    place = resolve_source(source, cache)
    names = None if mice is None else [mice] if isinstance(mice, str) else list(mice)
    if source in PHANTOMS:
        from mousecmr_data.dataset.cohort import resolve_name

        every = place.manifest.files
        chosen = list(every) if names is None else [resolve_name(n, every) for n in names]
        place.prepare(chosen)
        return {name: place.get_path(name) for name in chosen}
    from mousecmr_data.download.fetch import fetch_paths as fetch_files

    _files_only(place, source)
    root = None if cache is None else Path(cache)
    return fetch_files(place.manifest, names, cache=root, workers=workers, progress=progress)


@dataclass(frozen=True)
class VerifiedFile:
    """What :func:`verify` found of one file."""

    mouse: str | None
    """None for a file that the manifest does not name."""
    path: Path
    bytes: str
    """"ok", "missing", "corrupt", ...; of a phantom, which has no checksums, "made here"."""
    detail: str
    problems: tuple[str, ...]
    """Problems of the content, a sentence each."""

    @property
    def has_problem(self) -> bool:
        """Whether something has to be done. A file that nobody knows harms nobody."""
        return bool(self.problems) or self.bytes not in ("ok", "made here", "unknown")


def verify(
    mice: Iterable[str] | None = None,
    *,
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    repair: bool = False,
    content: bool = True,
    workers: int = 4,
    progress: ProgressCallback | None = None,
) -> tuple[VerifiedFile, ...]:
    """Hash the files of ``mice`` (None: all) again and audit their content; trusts no earlier check.

    ``repair`` fetches what is missing or damaged, and only that. ``content`` also reads each file whole:
    shapes, types, labels, frame numbers, the ED/ES rule. ``progress`` is called with 1 after each file.
    """
    from mousecmr_data.dataset.validation import validate_file

    place = resolve_source(source, cache)
    if source in PHANTOMS:
        from mousecmr_data.download.cache import select_entries

        names = list(select_entries(place.manifest, mice))
        made = [n for n in names if place.get_path(n).exists()]
        if repair:  # there is nothing to hold a made file against but its content
            for bad in [n for n in made if validate_file(place.get_path(n), place.manifest.stack)]:
                place.get_path(bad).unlink()
            place.prepare(made)
        found = [VerifiedFile(n, place.get_path(n), place.get_statuses([n])[n], "", ()) for n in made]
    else:
        from mousecmr_data.download.verify import verify_files

        _files_only(place, source)
        root = None if cache is None else Path(cache)
        results = verify_files(place.manifest, mice, cache=root, repair=repair, workers=workers)
        found = [VerifiedFile(r.mouse, r.path, str(r.verdict), r.detail, ()) for r in results]
    checked = []
    for one in found:
        sound = content and one.mouse and not one.has_problem
        checked.append(replace(one, problems=validate_file(one.path, place.manifest.stack)) if sound else one)
        if progress:
            progress(1)
    return tuple(checked)


def open_mouse(
    path_or_name: PathLike,
    *,
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """Open one mouse as a lazy dataset: a file of the dataset's layout, or a mouse of ``source`` by name.

    The dataset has ``image`` uint16 and ``mask`` uint8 (frame, slice, y, x), ``time`` in ms, ``z``,
    ``y``, ``x`` in mm, ``labelled`` and ``phase``; no pixel is read before it is used. For a file,
    ``spacing`` (z, y, x) and ``frame_time_ms`` take precedence over the file's own attributes and
    over the article's constants; the attributes ``voxel_size_source`` and ``frame_time_source`` say which
    it was.
    """
    from mousecmr_data.dataset.hdf5 import open_mouse_file

    path = Path(path_or_name)
    if path.suffix or path.is_file() or len(path.parts) > 1:
        return open_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms)
    if spacing is not None or frame_time_ms is not None:
        raise UnknownNameError(
            f"Sizes were given for {str(path)!r}, which is no file.", "sizes belong to a file", "give its path"
        )
    return load(mice=[str(path_or_name)], source=source, cache=cache)[str(path_or_name)]


def resolve_manifest(source: PathLike) -> Manifest:
    """The manifest of a source: of a phantom, the embedded one, or one read from a folder."""
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import make_manifest

        return make_manifest(str(source))
    if source == DEFAULT_DATASET:
        return load_manifest()
    if _is_store(source):
        from mousecmr_data.dataset.source import ZarrSource

        return ZarrSource(os.fspath(source)).manifest
    if Path(source).is_dir():
        return read_manifest(Path(source))
    raise UnknownNameError(
        f"There is no source {str(source)!r}.",
        f"{DEFAULT_DATASET}, {', '.join(PHANTOMS)}, a manifest folder, or a store (.zarr, .zip, URL)",
        f"load(source={DEFAULT_DATASET!r})",
    )


def resolve_source(
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """The source object behind a source's name."""
    root = None if cache is None else Path(cache)
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import PhantomSource

        return PhantomSource(str(source), root)
    if _is_store(source):
        from mousecmr_data.dataset.source import ZarrSource
        from mousecmr_data.dataset.zarr_store import StorageOptions

        return ZarrSource(os.fspath(source), StorageOptions(storage_options or {}))
    from mousecmr_data.dataset.source import FileSource

    return FileSource(resolve_manifest(source), root)


def _is_store(source: PathLike) -> bool:
    text = os.fspath(source)
    return "://" in text or text.endswith((".zarr", ".zip")) or (Path(text) / "zarr.json").is_file()


def _files_only(place: Source, source: PathLike) -> None:
    from mousecmr_data.dataset.source import ZarrSource

    if isinstance(place, ZarrSource):
        raise UnknownNameError(
            f"{source!s} is a Zarr store: it has no files to fetch or verify.",
            "a dataset of files",
            f"load(source={str(source)!r})",
        )


def _check_present(source: Source, mice: Sequence[str]) -> None:
    missing = [m for m in mice if not source.get_path(m).exists()]
    if missing:
        some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise MissingDataError(
            f"{len(missing)} of {len(mice)} files are missing in {source.get_path(missing[0]).parent}: {some}.",
            "files that were fetched",
            "mousecmr fetch  (or load(download=True))",
        )
