"""The Python interface: load cohorts, open mice, fetch and verify files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mousecmr_data._utils.checksums import is_intact
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data._utils.text import SYNTHETIC_DATA, join_names
from mousecmr_data.errors import ArgumentError, MissingDataError, MouseCMRError, UnknownNameError, find_similar
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOM, PHANTOMS, SMALL_PHANTOM, SPLIT_SCHEME
from mousecmr_data.schema.labels import LabelMap, parse_label_map
from mousecmr_data.schema.manifest import Manifest, load_manifest, read_manifest, resolve_names
from mousecmr_data.schema.variables import DIMS, MASK_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from mousecmr_data.dataset.cohort import Cohort
    from mousecmr_data.dataset.source import Source
    from mousecmr_data.dataset.zarr_store import ZarrSource
    from mousecmr_data.download.fetch import FetchResult

PathLike: TypeAlias = str | os.PathLike[str]


def load(
    split: str | None = None,
    *,
    mice: Iterable[str] | None = None,
    source: PathLike = DEFAULT_DATASET,
    size: Literal["full", "small"] = "full",
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
    """Load a cohort of mice; missing files are downloaded and verified, and no pixel is read.

    Parameters
    ----------
    split
        "train", "validation" or "test" of ``split_scheme``; None for all mice.
    mice
        Names to keep, e.g. ``["Mouse4", "Mouse7"]``; with ``split``, they must belong to it.
    source
        "mousecmr-130" (the real dataset), a phantom by name ("phantom", "phantom-7T", "phantom-11.7T": synthetic, and
        marked so), the path of your own manifest folder, or a Zarr store written by ``mousecmr convert``: a folder, a
        .zip file, or a URL (``https://``, ``s3://``, ``hf://``).
    size
        "small": the mice of ``source="phantom"`` in 64 × 64 pixels of 0.4 mm and few frames, made in seconds, for
        teaching and tests. The same as ``source="phantom-64"``.
    split_scheme
        A named split scheme; ``mousecmr info`` lists them. Splits are by mouse and disjoint.
    phenotypes
        Groups per mouse: a CSV file or DataFrame with the columns ``mouse`` and ``phenotype``, or a mapping. Mice that
        it does not name stay "not published".
    download
        Download missing files. With False, missing files are an error.
    cache
        Cache folder. Default: ``MOUSECMR_CACHE``, else the system's cache folder.
    layout_cache
        Store the images that were read in a layout that reads many times faster (see docs/arrays.md), beside the
        files. With False, the files are read each time.
    chunks
        Return dask arrays, in chunks such as ``{"frame": 4}``; ``{}`` is one chunk per frame, as they are stored.
    storage_options
        For a URL: options of its fsspec file system, such as credentials.
    workers
        Number of parallel transfers.
    progress
        Progress bars on or off. None: on in a terminal and in a notebook.

    Raises
    ------
    UnknownNameError, ManifestError
        A mouse, split, scheme or source that does not exist.
    ArgumentError
        A mouse that is not in ``split``.
    MissingDataError, DownloadError
        Files that are missing and cannot be downloaded.
    """
    from mousecmr_data.dataset.cohort import Cohort, CohortMember, assign_splits, read_phenotypes, select_mice
    from mousecmr_data.dataset.layout_cache import CACHE_NAME, FileOpener, LayoutCache
    from mousecmr_data.dataset.samples import read_frame_tables
    from mousecmr_data.dataset.source import FileSource, Opener
    from mousecmr_data.dataset.zarr_store import ZarrSource
    from mousecmr_data.download.cache import get_cache_root

    if size != "full":
        if size != "small" or source not in (PHANTOM, SMALL_PHANTOM):
            raise ArgumentError(
                f"There is no size {size!r} of {str(source)!r}.",
                "'full', or 'small' of the phantom",
                "load(source='phantom', size='small')",
            )
        source = SMALL_PHANTOM
    resolved = resolve_source(source, cache, storage_options)
    if chunks is not None:
        _check_chunks(chunks)
    schemes = [name for name, scheme in resolved.manifest.splits.items() if scheme.mice]
    if split_scheme == SPLIT_SCHEME and split_scheme not in schemes and schemes:
        split_scheme = schemes[0]  # of a custom manifest or store
    assigned = assign_splits(resolved.manifest, split, split_scheme)
    names = select_mice(resolved.manifest, mice, split, assigned)
    groups = read_phenotypes(phenotypes, resolved.manifest)
    new: tuple[str, ...] = ()
    if isinstance(resolved, FileSource):  # phantoms are made when a mouse is opened; a store is complete
        if download:
            new = _fetch_files(resolved, names, source, cache, workers, progress).downloaded
        else:
            _check_files_exist(resolved, names, cache)
    opener: Opener
    if isinstance(resolved, ZarrSource):
        opener = resolved
    else:
        layouts = None
        if layout_cache:
            root = get_cache_root(None if cache is None else Path(cache))
            layouts = LayoutCache(root / "layouts" / CACHE_NAME / resolved.name / resolved.version[:12])
        opener = FileOpener(resolved, layouts)
        if new and layouts:  # their headers, once: tables of thousands of mice then open no file
            with suppress(MouseCMRError, OSError):  # an error when the mouse is opened
                read_frame_tables(new, opener, headers_only=True)
    members = [CohortMember(n, assigned.get(n), groups.get(n, resolved.get_phenotype(n))) for n in names]
    return Cohort(resolved, members, opener, split_scheme if assigned else "", chunks)


def fetch(
    mice: Iterable[str] | None = None,
    *,
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    workers: int = 4,
    progress: bool | None = None,
) -> dict[str, Path]:
    """Download and verify the missing files of ``mice`` (None: all), and return the path of each file.

    For a phantom, the files are made instead, in up to ``workers`` processes. ``progress``: bars always or never; None:
    on a terminal and in a notebook. See ``docs/download.md`` for mirrors, resuming and working offline.
    """
    resolved = resolve_source(source, cache)
    names = None if mice is None else resolve_names(mice, resolved.manifest.files)
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import PhantomSource, make_files

        names = names or list(resolved.manifest.files)
        phantom = PhantomSource(str(source), None if cache is None else Path(cache))
        make_files(phantom, names, min(workers, os.cpu_count() or 1), progress)
        return {name: resolved.get_path(name) for name in names}
    return _fetch_files(resolved, names, source, cache, workers, progress).paths


def _fetch_files(
    resolved: Source,
    names: list[str] | None,
    source: PathLike,
    cache: PathLike | None,
    workers: int,
    progress: bool | None,
) -> FetchResult:
    from mousecmr_data.download.fetch import fetch_files

    _require_files(resolved, source)
    root = None if cache is None else Path(cache)
    return fetch_files(resolved.manifest, names, cache=root, workers=workers, progress=progress)


@dataclass(frozen=True)
class VerifiedFile:
    """The result of :func:`verify` for one file, one mouse of a store, or one derived file or folder."""

    mouse: str | None
    """None for a file that the manifest does not name, and for derived files."""
    path: Path
    bytes: str
    """"ok", "missing", "corrupt", ...; for a phantom, which was not downloaded, "made here"."""
    detail: str
    problems: tuple[str, ...]
    """Problems of the content, one sentence each."""
    kind: Literal["file", "store", "derived"] = "file"

    @property
    def has_problem(self) -> bool:
        """Return whether the file needs a repair. Files that the manifest does not name, and outdated derived files,
        have no problem."""
        return bool(self.problems) or self.bytes not in ("ok", "made here", "unknown", "outdated")


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
    """Hash the files of ``mice`` (None: all) again and validate their content, regardless of earlier checks.

    Also checks the files that were derived from them (layout cache, frame files; without ``mice``, also compiled
    networks, converted weights and tables). ``source`` may be a store: all of its arrays are then read, which checks
    their checksums.

    ``repair`` fetches missing and damaged files, and no others, and removes damaged derived files: they are made again
    when they are needed. ``content`` also reads each file completely: shapes, types, labels, frame numbers, the ED/ES
    rule. ``progress`` is called with 1 after each file, derived ones excepted.
    """
    from mousecmr_data.dataset.validation import OUTDATED, check_derived_files, remove_derived_file, validate_file
    from mousecmr_data.dataset.zarr_store import ZarrSource
    from mousecmr_data.download.cache import get_cache_root, get_dataset_folder

    resolved = resolve_source(source, cache)
    names = None if mice is None else resolve_names(mice, resolved.manifest.files)
    if isinstance(resolved, ZarrSource):
        return _verify_store(resolved, names, progress)
    if source in PHANTOMS:
        from mousecmr_data.download.cache import select_entries

        entries = select_entries(resolved.manifest, names)
        paths = {n: path for n in entries if (path := resolved.get_path(n)).exists()}
        if repair:
            for path in paths.values():
                if not is_intact(path) or validate_file(path, resolved.manifest.stack):
                    path.unlink()
            resolved.prepare(paths)
        statuses = {n: "made here" if is_intact(path) else "corrupt" for n, path in paths.items()}
        files = [VerifiedFile(n, path, statuses[n], "", ()) for n, path in paths.items()]
    else:
        from mousecmr_data.download.verify import verify_files

        root = None if cache is None else Path(cache)
        results = verify_files(resolved.manifest, names, cache=root, repair=repair, workers=workers)
        files = [VerifiedFile(r.mouse, r.path, str(r.verdict), r.detail, ()) for r in results]
    for number, file in enumerate(files):
        if content and file.mouse and not file.has_problem:
            files[number] = replace(file, problems=validate_file(file.path, resolved.manifest.stack))
        if progress:
            progress(1)
    root = get_cache_root(None if cache is None else Path(cache))
    for path, damage in check_derived_files(root, get_dataset_folder(resolved.manifest, root), names):
        if damage and repair:
            remove_derived_file(path)
            files.append(VerifiedFile(None, path, "ok", f"removed, as it can be made again: {damage}", (), "derived"))
        else:
            verdict = "outdated" if damage == OUTDATED else "corrupt" if damage else "ok"
            files.append(VerifiedFile(None, path, verdict, damage, (), "derived"))
    return tuple(files)


def _verify_store(
    store: ZarrSource, mice: Iterable[str] | None, progress: ProgressCallback | None
) -> tuple[VerifiedFile, ...]:
    """Read every array of ``mice`` (None: all): a damaged one is an error when it is read."""
    from mousecmr_data.download.cache import select_entries

    files = []
    for mouse in select_entries(store.manifest, mice):
        verdict, detail = "ok", ""
        try:
            store.open_mouse(mouse, {}).load()
        except MouseCMRError as e:
            verdict, detail = "corrupt", f"{e.found} Next: {e.next_step}"
        files.append(VerifiedFile(mouse, store.get_path(mouse), verdict, detail, (), "store"))
        if progress:
            progress(1)
    return tuple(files)


def open_mouse(
    path_or_name: PathLike,
    *,
    source: PathLike = DEFAULT_DATASET,
    cache: PathLike | None = None,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: str | LabelMap | None = None,
    axes: str | None = None,
) -> xr.Dataset:
    """Open one mouse as a lazy dataset: a file in the dataset's layout, or a mouse of ``source`` by name.

    The dataset has ``image`` uint16 and ``mask`` uint8 (frame, slice, y, x), ``time`` in ms, ``z``, ``y``, ``x`` in mm,
    ``labelled`` and ``phase``; no pixel is read before it is used. For a file, ``spacing`` (z, y, x) and
    ``frame_time_ms`` take precedence over the file's own attributes and over the article's constants; the attributes
    ``voxel_size_source`` and ``frame_time_source`` name the origin of the values. ``labels`` says what the numbers in a
    file's masks mean, if not 1 myocardium and 2 blood pool: ``{"lv": 3, "myo": 2}``, ``"lv=3,myo=2"``, or a preset,
    "acdc", "mms" or "ukbb"; other numbers are background. ``axes`` says what the axes of a file's arrays are, if they
    are not those of the layout, one letter each: x column, y row, z slice, t frame; ``"tzyx"`` for arrays of numpy.

    A file of masks alone (NIfTI, NRRD, MetaImage, Analyze, DICOM SEG) becomes a dataset without ``image``; see
    :func:`mousecmr_data.formats.nifti.read_nifti_masks`.
    """
    from mousecmr_data.dataset.hdf5 import open_mouse_file

    path = Path(path_or_name)
    label_map = parse_label_map(labels) if isinstance(labels, str) else labels
    if path.name.lower().endswith(MASK_SUFFIXES):
        from mousecmr_data.formats.nifti import read_nifti_masks

        return read_nifti_masks(path, spacing=spacing, frame_time_ms=frame_time_ms, labels=label_map, axes=axes)
    if path.suffix or path.is_file() or len(path.parts) > 1:
        return open_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms, labels=label_map, axes=axes)
    if any(value is not None for value in (spacing, frame_time_ms, labels, axes)):
        raise ArgumentError(
            f"A voxel size, frame time, label map or axes were given for {str(path)!r}, which is not a file.",
            "these only with the path of a file",
            f"leave them out for {str(path)!r}",
        )
    return load(mice=[str(path)], source=source, cache=cache)[str(path)]


@dataclass(frozen=True, repr=False)
class SourceInfo:
    """What :func:`info` returns; its text is what ``mousecmr info`` prints, without the tables."""

    manifest: Manifest
    folder: str
    """Where the files are, or will be."""
    on_disk: Mapping[str, int]
    """Number of mice by the state of their file: "verified", "missing", "made here", ..."""
    splits: Sequence[Mapping[str, Any]]
    """Of each scheme: ``scheme``, ``caveat``, and by split the number of ``mice`` and ``labelled_images_2d``."""

    def to_dict(self) -> dict[str, Any]:
        """Return all values, ready for JSON."""
        manifest = self.manifest
        return {
            **{k: getattr(manifest, k) for k in ("name", "title", "version", "licence", "synthetic")},
            "mice": len(manifest.files),
            "folder": self.folder,
            "on_disk": dict(self.on_disk),
            "splits": list(self.splits),
            "groups": [asdict(g) for g in manifest.groups],
            "acquisition": {k: asdict(c) for k, c in manifest.acquisition.items()},
            "weights": [asdict(w) for w in manifest.weights.values()],
            "paper": dict(manifest.paper),
        }

    def list_facts(self) -> dict[str, object]:
        """Return the facts of one line each, by name."""
        manifest = self.manifest
        return {
            "mice": len(manifest.files),
            "version": manifest.version[:12],
            "licence": manifest.licence,
            "paper": f"https://doi.org/{manifest.paper['doi']}" if manifest.paper else "none",
            "on this disk": ", ".join(f"{n} {state}" for state, n in self.on_disk.items()),
            "folder": self.folder,
        }

    def __repr__(self) -> str:
        lines = [SYNTHETIC_DATA] * self.manifest.synthetic + [self.manifest.title]
        lines += [f"  {name:13} {text}" for name, text in self.list_facts().items()]
        for scheme in self.splits:
            counts = ", ".join(f"{split} {v['mice']}" for split, v in scheme["splits"].items() if v["mice"] is not None)
            lines.append(f"  {'split scheme':13} {scheme['scheme']}: {counts or 'not published'}")
        lines += [f"  {'group':13} {group.name}: {group.n_mice} mice" for group in self.manifest.groups]
        return "\n".join(lines)


def info(source: PathLike = DEFAULT_DATASET, *, cache: PathLike | None = None) -> SourceInfo:
    """Return what ``source`` is, its splits and groups, and what of it is on this disk; downloads and opens nothing.

    ``source`` is that of :func:`load`. ``info().manifest.known_issues`` lists contradictions and gaps of what was
    published.
    """
    files = resolve_source(source, cache)
    manifest = files.manifest
    states = list(files.get_statuses(manifest.files).values())
    splits = []
    for name, scheme in manifest.splits.items():
        counts = {
            k: {
                "mice": len(scheme.mice[k]) if scheme.mice else None,
                "labelled_images_2d": scheme.labelled_images_2d.get(k),
            }
            for k in scheme.mice or scheme.labelled_images_2d
        }
        splits.append({"scheme": name, "caveat": scheme.caveat, "splits": counts})
    on_disk = {state: states.count(state) for state in sorted(set(states))}
    return SourceInfo(manifest, str(files.get_path(next(iter(manifest.files))).parent), on_disk, splits)


def resolve_manifest(source: PathLike) -> Manifest:
    """Return the manifest of a source: a phantom's, the embedded one, a store's, or one read from a folder."""
    _check_is_path(source)
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import make_manifest

        return make_manifest(str(source))
    if source == DEFAULT_DATASET:
        return load_manifest()
    if is_store(source):
        from mousecmr_data.dataset.zarr_store import ZarrSource

        return ZarrSource(os.fspath(source)).manifest
    if Path(source).is_dir():
        return read_manifest(Path(source))
    raise _make_source_error(source)


def _make_source_error(source: object) -> UnknownNameError:
    names = (DEFAULT_DATASET, *PHANTOMS)
    similar = find_similar(source, names)
    return UnknownNameError(
        f"There is no source {source!r}.",
        f"{', '.join(names)}, a manifest folder, or a store (.zarr, .zip, URL)",
        f"did you mean {similar!r}?" if similar else f"source={PHANTOMS[0]!r} makes synthetic mice, without a download",
    )


def _check_is_path(source: object) -> None:
    if not isinstance(source, str | os.PathLike):
        raise _make_source_error(source)


def resolve_source(
    source: PathLike = DEFAULT_DATASET, cache: PathLike | None = None, storage_options: Mapping[str, Any] | None = None
) -> Source:
    """Return the source object for a source's name, folder or URL."""
    _check_is_path(source)
    root = None if cache is None else Path(cache)
    if source in PHANTOMS:
        from mousecmr_data.phantom.source import PhantomSource

        return PhantomSource(str(source), root)
    if is_store(source):
        from mousecmr_data.dataset.zarr_store import StorageOptions, ZarrSource

        return ZarrSource(os.fspath(source), StorageOptions(storage_options or {}))
    from mousecmr_data.dataset.source import FileSource

    return FileSource(resolve_manifest(source), root)


def is_store(source: PathLike) -> bool:
    """Return whether a source is a Zarr store, by its address."""
    text = os.fspath(source)
    return "://" in text or text.endswith((".zarr", ".zip")) or (Path(text) / "zarr.json").is_file()


def _check_chunks(chunks: object) -> None:
    if not isinstance(chunks, Mapping):
        raise ArgumentError(f"chunks={chunks!r}.", "the length of a chunk by axis", "chunks={'frame': 4}")
    for axis in chunks:
        if axis not in DIMS:
            raise ArgumentError.from_name("axis to divide into chunks", axis, DIMS, "chunks={'frame': 4}")


def _require_files(resolved: Source, source: PathLike) -> None:
    from mousecmr_data.dataset.zarr_store import ZarrSource

    if isinstance(resolved, ZarrSource):
        raise ArgumentError(
            f"{source!s} is a Zarr store: it has no files to fetch.",
            "a dataset of files",
            f"load(source={str(source)!r})",
        )


def _check_files_exist(source: Source, mice: Sequence[str], cache: PathLike | None) -> None:
    from mousecmr_data.download.cache import make_fetch_command

    if missing := [m for m in mice if not source.get_path(m).exists()]:
        folder = source.get_path(missing[0]).parent
        raise MissingDataError(
            f"{len(missing)} of {len(mice)} files are missing in {folder}: {join_names(missing, 5)}.",
            "files that were fetched",
            make_fetch_command(source.manifest, None if cache is None else Path(cache), missing),
        )
