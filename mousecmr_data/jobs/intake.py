"""What a job is given, files, folders and archives, becomes a list of mice to read."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats import archive, discover
from mousecmr_data.formats.discover import Found


@dataclass(frozen=True)
class Refused:
    """An input that could not even be looked into."""

    name: str
    error: MouseCMRError


@contextmanager
def gathered(inputs: Sequence[Path], scratch: Path | None = None) -> Iterator[tuple[list[Found], list[Refused]]]:
    """The mice in ``inputs`` (files, folders, zip archives; archives in folders too), and what was refused.

    Archives are unpacked into a folder below ``scratch`` (default: the system's place for temporary files),
    which is removed at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="mousecmr-", dir=scratch) as place:
        found: list[Found] = []
        refused: list[Refused] = []
        for k, path in enumerate(inputs):
            try:
                found += _of(path, Path(place) / str(k))
            except MouseCMRError as e:
                refused.append(Refused(discover.clean(path.name), in_users_names(e, scratch)))
        names = discover.unique([f.name for f in found] + [r.name for r in refused])
        found = [replace(f, name=n) for f, n in zip(found, names, strict=False)]
        yield found, [replace(r, name=n) for r, n in zip(refused, names[len(found) :], strict=True)]


def without_folder(text: str, folder: Path | None = None) -> str:
    """``text`` with a user's own names in place of where archives were unpacked, or uploads lie, below ``folder``
    (default: the system's place for temporary files)."""
    inner = r"[\\/](?:in[\\/]\w+|mousecmr-\w+[\\/]\d+)(?:[\\/]|\b)"
    return re.sub(re.escape(str(folder or tempfile.gettempdir())) + inner, "", text)


def in_users_names(error: MouseCMRError, folder: Path | None = None) -> MouseCMRError:
    """``error`` with all its sentences as :func:`without_folder` says them."""
    rest = (text and without_folder(text, folder) for text in (error.expected, error.next_step))
    return type(error)(without_folder(error.found, folder), *rest)


def _of(path: Path, scratch: Path) -> list[Found]:
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return _renamed(discover.find(archive.unpack(path, scratch)), scratch.name, path)
    if not path.is_dir():
        return discover.find(path)
    found: list[Found] = []
    inner = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".zip" and p.is_file() and not p.is_symlink()]
    for k, one in enumerate(inner):
        place = scratch / str(k)
        found += _renamed(discover.find(archive.unpack(one, place)), place.name, one)
    try:
        return discover.find(path) + found
    except MouseCMRError:
        if found:
            return found
        raise


def _renamed(found: list[Found], scratch: str, path: Path) -> list[Found]:
    """A mouse alone in an archive is named as the archive; of several, each as its way in it."""
    return [replace(f, name=discover.clean(path.name)) if f.name == discover.clean(scratch) else f for f in found]
