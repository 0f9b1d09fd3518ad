"""What a job is given, files, folders and archives, becomes a list of mice to read."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.archive import unpack_archive
from mousecmr_data.formats.discover import FoundScan, clean_name, find_scans, make_unique


@dataclass(frozen=True)
class Refused:
    """An input, or an archive in one, that could not even be looked into."""

    name: str
    error: MouseCMRError
    path: Path


@contextmanager
def gathered(inputs: Sequence[Path], scratch: Path | None = None) -> Iterator[tuple[list[FoundScan], list[Refused]]]:
    """The mice in ``inputs`` (files, folders, zip archives; archives in folders too), and what was refused.

    Archives are unpacked into a folder below ``scratch`` (default: the system's place for temporary files),
    which is removed at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="mousecmr-", dir=scratch) as place:
        every = [one for k, path in enumerate(inputs) for one in _of(path, Path(place) / str(k))]
        named = [replace(one, name=n) for one, n in zip(every, make_unique(o.name for o in every), strict=True)]
        refused = [replace(r, error=in_users_names(r.error, scratch)) for r in named if isinstance(r, Refused)]
        yield [f for f in named if isinstance(f, FoundScan)], refused


def without_folder(text: str, folder: Path | None = None) -> str:
    """``text`` with a user's own names in place of where archives were unpacked, or uploads lie, below ``folder``
    (default: the system's place for temporary files)."""
    inner = r"[\\/](?:in[\\/]\w+|mousecmr-\w+[\\/]\d+(?:[\\/]\d+)?)(?:[\\/]|\b)"
    return re.sub(re.escape(str(folder or tempfile.gettempdir())) + inner, "", text)


def in_users_names(error: MouseCMRError, folder: Path | None = None) -> MouseCMRError:
    """``error`` with all its sentences as :func:`without_folder` says them."""
    rest = (text and without_folder(text, folder) for text in (error.expected, error.next_step))
    return type(error)(without_folder(error.found, folder), *rest)


def _of(path: Path, scratch: Path) -> Iterator[FoundScan | Refused]:
    if not path.is_dir():
        yield from _tried(path, scratch)
        return
    inner = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".zip" and p.is_file() and not p.is_symlink()]
    outside = list(_tried(path, scratch))
    if not inner or isinstance(outside[0], FoundScan):
        yield from outside
    for k, one in enumerate(inner):
        yield from _tried(one, scratch / str(k))


def _tried(path: Path, scratch: Path) -> Iterator[FoundScan | Refused]:
    """The mice in a file, in a folder outside its archives, or in an archive, which keeps its name where it is
    unpacked: a mouse alone in it is called so."""
    try:
        packed = path.suffix.lower() == ".zip" and not path.is_dir()
        yield from find_scans(unpack_archive(path, scratch / path.name) if packed else path)
    except MouseCMRError as e:
        yield Refused(clean_name(path.name), e, path)
