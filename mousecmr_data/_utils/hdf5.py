"""Open HDF5 files, and read items of those from others: only what lies in the file itself, and only up to a size.

HDF5 can point out of a file: external links, virtual datasets, external storage. Such a file could show any file that
this process may read (a server's password file, say), and a virtual dataset of itself crashes the HDF5 library.
"""

from __future__ import annotations

from os import PathLike
from typing import Literal, TypeAlias

import h5py

from mousecmr_data._utils.reading import check_size
from mousecmr_data.errors import FileLayoutError

MAX_LINKS = 16

Item: TypeAlias = h5py.Group | h5py.Dataset


def open_hdf5(path: str | PathLike[str], mode: Literal["r", "w"] = "r") -> h5py.File:
    """Open a file without HDF5's own lock, which many network disks do not have.

    Files are written under temporary names (:mod:`mousecmr_data._utils.atomic`), so that nobody else opens them.
    """
    for locking in (False, True):
        try:
            return h5py.File(path, mode, locking=locking)
        except OSError as e:
            if "lock" not in str(e) or "flag values" not in str(e):
                raise  # else this process has it open already, in another way
    return h5py.File(path, mode, locking="best-effort")


def get_item(group: h5py.Group, name: str) -> Item | None:
    """Return the item ``name`` (a path with /) of ``group``; None if there is none.

    Raises :class:`FileLayoutError` if it lies outside the file or is too large.
    """
    item = _follow(group, name, 0)
    if isinstance(item, h5py.Dataset):
        check_dataset(item)
    return item


def check_dataset(data: h5py.Dataset) -> None:
    """Raise :class:`FileLayoutError` if the values of ``data`` lie outside its file, or are too many to read."""
    if data.is_virtual or data.external:
        kind = "a virtual dataset" if data.is_virtual else "stored in other files"
        raise FileLayoutError(
            f"{data.file.filename}: {data.name} is {kind}.",
            "values in the file itself",
            "copy the values into a plain file, in Python: new['Images'] = old['Images'][()]",
        )
    check_size(f"{data.file.filename}: {data.name}", data.nbytes or 0, data.file.id.get_filesize())


def _follow(group: h5py.Group, name: str, links: int) -> Item | None:
    if links > MAX_LINKS:
        raise FileLayoutError(f"{group.file.filename}: the links of {name} do not end.", "a plain item")
    item: Item = group.file["/"] if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        if not isinstance(item, h5py.Group) or not item.id.links.exists(part.encode()):  # `in` would follow links
            return None
        link = item.get(part, getlink=True)
        if isinstance(link, h5py.SoftLink):
            target = _follow(item, link.path, links + 1)
            if target is None:
                return None
            item = target
        elif isinstance(link, h5py.HardLink):
            item = item[part]
        else:
            raise FileLayoutError(
                f"{group.file.filename}: {part} is a link to another file.", "values in the file itself"
            )
    return item
