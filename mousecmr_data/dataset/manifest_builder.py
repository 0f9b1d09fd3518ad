"""A manifest of one's own: a folder of HDF5 files written down, so that it can be loaded, split and verified."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mousecmr_data._utils.atomic import atomic_folder, make_exists_error
from mousecmr_data._utils.checksums import compute_checksums
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.dataset.hdf5 import read_header
from mousecmr_data.errors import ArgumentError, ManifestError, MissingDataError, UnitsError
from mousecmr_data.schema.manifest import Manifest, read_manifest
from mousecmr_data.schema.variables import ATTR_FRAME_TIME, ATTR_VOXEL_SIZE

SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class DatasetInfo:
    """What the files cannot say of themselves."""

    name: str
    version: str = "1"
    title: str = ""
    licence: str = "not stated"
    synthetic: bool = False
    voxel_size_mm: Sequence[float] | None = None
    """(z, y, x); needed where the files do not have it themselves: nothing is assumed."""
    frame_time_ms: float | None = None
    field_strength_t: float | None = None


def create_manifest(
    files: str | Path,
    folder: str | Path,
    about: DatasetInfo,
    *,
    splits: Mapping[str, Sequence[str]] | None = None,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Write a manifest of all HDF5 files below ``files`` to the new folder ``folder``, whole or not at all.

    A mouse is called as its file. Each file's outline and checksums are read. ``splits`` are mice by split.
    Raises :class:`~mousecmr_data.errors.UnitsError` where a voxel size is neither given nor in the file.
    """
    root, target = Path(files).absolute(), Path(folder).absolute()
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise MissingDataError(f"There is no HDF5 file below {root}.", f"files of the dataset's layout ({SUFFIXES[0]})")
    if target.exists():
        raise make_exists_error(target)
    rows = []
    for path in paths:
        _check_sizes_known(path, about)
        sums = compute_checksums(path)
        relative = path.relative_to(root).as_posix()
        rows.append([path.stem, relative, sums.git_blob_sha1, sums.sha256, str(sums.size)])
        if progress:
            progress(1)
    names = [row[0] for row in rows]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ManifestError(f"Several files are called {twice[0]}.", "a name of its own for each mouse")
    with atomic_folder(target) as partial:
        (partial / "dataset.toml").write_text(_format_dataset_toml(root, about), encoding="utf-8")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([["mouse", "path", "git_blob_sha1", "sha256", "size"], *rows])
        (partial / "files.csv").write_text(text.getvalue(), encoding="utf-8")
        if splits:
            lists = "\n".join(f"{_quote(k)} = {json.dumps(list(v))}" for k, v in splits.items())
            (partial / "splits.toml").write_text(f'[own]\ndescription = "given by the user"\n{lists}\n', "utf-8")
        read_manifest(partial)  # says what is wrong with it, before it is there
    return read_manifest(target)


def derive_name(folder: Path) -> str:
    """A manifest's name made from a folder's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._")
    if not name:
        raise ArgumentError(f"No name can be made from {folder}.", "a name", "--name my-mice")
    return name


def _check_sizes_known(path: Path, about: DatasetInfo) -> None:
    own = read_header(path).attrs
    wanted = {
        "voxel size": (ATTR_VOXEL_SIZE, about.voxel_size_mm, "--spacing 1.0 0.1 0.1"),
        "frame time": (ATTR_FRAME_TIME, about.frame_time_ms, "--frame-time 5.0"),
    }
    for what, (attribute, given, option) in wanted.items():
        if attribute not in own and given is None:
            raise UnitsError(
                f"{path.name} does not say its {what}.",
                f"the attribute {attribute!r}, or the {what} of all files",
                option,
            )


def _format_dataset_toml(root: Path, about: DatasetInfo) -> str:
    lines = [
        "# Written by mousecmr manifest create.",
        f"name = {_quote(about.name)}",
        f"title = {_quote(about.title or about.name)}",
        f"version = {_quote(about.version)}",
        f"url = {_quote(root.as_uri() + '/{path}')}",
        f"licence = {_quote(about.licence)}",
        f"synthetic = {str(about.synthetic).lower()}",
    ]
    constants: dict[str, tuple[object, str]] = {}
    if about.voxel_size_mm is not None:
        z, y, x = (float(v) for v in about.voxel_size_mm)
        constants |= {"slice_thickness": (z, "mm"), "pixel_spacing": ([y, x], "mm")}
    if about.frame_time_ms is not None:
        constants["frame_time"] = (float(about.frame_time_ms), "ms")
    if about.field_strength_t is not None:
        constants["field_strength"] = (float(about.field_strength_t), "T")
    if constants:
        lines += ["", "[acquisition]"]
    for key, (value, unit) in constants.items():
        lines.append(f'{key} = {{ value = {value}, unit = "{unit}", source = "given by the user" }}')
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
