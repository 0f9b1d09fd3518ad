"""Create a custom manifest: describe a folder of HDF5 files once, then load, split and verify it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mousecmr_data._utils.atomic import atomic_folder, make_exists_error
from mousecmr_data._utils.checksums import compute_checksums
from mousecmr_data._utils.outputs import check_apart
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.dataset.hdf5 import read_header
from mousecmr_data.errors import ArgumentError, ManifestError, MissingDataError, UnitsError
from mousecmr_data.schema.manifest import FileEntry, Manifest, format_files_csv, read_manifest
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_SYNTHETIC, ATTR_VOXEL_SIZE, HDF5_SUFFIXES


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a dataset that its files do not contain."""

    name: str
    version: str = "1"
    title: str = ""
    licence: str = "not stated"
    synthetic: bool = False
    """True also where a file says that it is synthetic."""
    voxel_size_mm: Sequence[float] | None = None
    """(z, y, x); required where the files do not contain it: no value is assumed."""
    frame_time_ms: float | None = None
    field_strength_t: float | None = None


def create_manifest(
    files: str | Path,
    folder: str | Path,
    info: DatasetInfo,
    *,
    splits: Mapping[str, Sequence[str]] | None = None,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Write a manifest of all HDF5 files below ``files`` to the new folder ``folder``, atomically, and return it.

    A mouse is named after its file. Each file's header and checksums are read. ``splits`` maps splits to mice.
    Raises :class:`~mousecmr_data.errors.UnitsError` where a voxel size is neither given nor in the file, and
    :class:`~mousecmr_data.errors.OutputError` where ``folder`` exists, or lies in or holds ``files``.
    """
    root, target = Path(files).absolute(), Path(folder).absolute()
    check_apart([target], [root])
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in HDF5_SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise MissingDataError(f"There is no HDF5 file below {root}.", "files of the dataset's layout (.h5)")
    if target.exists():
        raise make_exists_error(target)
    entries = []
    for path in paths:
        attrs = read_header(path).attrs
        if attrs.get(ATTR_SYNTHETIC):
            info = replace(info, synthetic=True)
        for what, attribute, value, option in (
            ("voxel size", ATTR_VOXEL_SIZE, info.voxel_size_mm, "--spacing 1.0 0.1 0.1"),
            ("frame time", ATTR_FRAME_TIME, info.frame_time_ms, "--frame-time 5.0"),
        ):
            if attribute not in attrs and value is None:
                expected = f"the attribute {attribute!r}, or the {what} of all files"
                raise UnitsError(f"{path.name} does not say its {what}.", expected, option)
        sums = compute_checksums(path)
        relative = path.relative_to(root).as_posix()
        entries.append(FileEntry(path.stem, relative, sums.git_blob_sha1, sums.sha256, sums.size))
        if progress:
            progress(1)
    if duplicates := [name for name, n in Counter(entry.mouse for entry in entries).items() if n > 1]:
        raise ManifestError(f"Several files are called {min(duplicates)}.", "a different name for each mouse")
    with atomic_folder(target) as partial:
        (partial / "dataset.toml").write_text(_format_dataset_toml(root, info), encoding="utf-8")
        (partial / "files.csv").write_text(format_files_csv(entries), encoding="utf-8", newline="")
        if splits:
            lists = "\n".join(f"{_quote(k)} = {json.dumps(list(v))}" for k, v in splits.items())
            (partial / "splits.toml").write_text(f'[own]\ndescription = "given by the user"\n{lists}\n', "utf-8")
        read_manifest(partial)  # raises if it is not valid, before it is published
    return read_manifest(target)


def derive_name(folder: Path) -> str:
    """Return a valid manifest name made from a folder's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._")
    if not name:
        raise ArgumentError(f"No name can be made from {folder}.", "a name", "--name my-mice")
    return name


def _format_dataset_toml(root: Path, info: DatasetInfo) -> str:
    lines = [
        "# Written by mousecmr manifest create.",
        f"name = {_quote(info.name)}",
        f"title = {_quote(info.title or info.name)}",
        f"version = {_quote(info.version)}",
        f"url = {_quote(root.as_uri() + '/{path}')}",
        f"licence = {_quote(info.licence)}",
        f"synthetic = {str(info.synthetic).lower()}",
    ]
    constants: list[tuple[str, object, str]] = []
    if info.voxel_size_mm is not None:
        z, y, x = (float(v) for v in info.voxel_size_mm)
        constants += [("slice_thickness", z, "mm"), ("pixel_spacing", [y, x], "mm")]
    if info.frame_time_ms is not None:
        constants.append(("frame_time", float(info.frame_time_ms), "ms"))
    if info.field_strength_t is not None:
        constants.append(("field_strength", float(info.field_strength_t), "T"))
    if constants:
        lines += ["", "[acquisition]"]
    lines += [f'{k} = {{ value = {v}, unit = "{u}", source = "given by the user" }}' for k, v, u in constants]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
