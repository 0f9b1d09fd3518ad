"""Tables that many processes add to: one line per change, appended, so that the thousandth costs as much as the first.

A line is the CRC-32C of what follows (8 hex digits), a space, and a JSON array of a name and its value; null removes
the name. A later line replaces an earlier one. A line that was cut off (a kill, a full disk) or damaged is left out:
only its own name is lost. The file is written anew, atomically, when most of its lines were replaced or one is damaged.
This process keeps what it has read and reads only lines that were added since.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c

from mousecmr_data._utils.atomic import translate_os_error, write_bytes
from mousecmr_data._utils.checksums import report_damage
from mousecmr_data._utils.locks import hold_lock

SPARE_LINES = 1000
"""Lines that may be out of date beside as many as there are names, before the file is written anew."""


@dataclass
class _Content:
    """What was read of a file so far."""

    inode: int = 0
    mtime_ns: int = 0
    size: int = 0
    """Bytes read: whole lines only."""
    lines: int = 0
    is_intact: bool = True
    table: dict[str, Any] = field(default_factory=dict)


_contents: dict[Path, _Content] = {}
_reading = threading.Lock()


def read_journal(path: Path) -> Mapping[str, Any]:
    """Return the values in a journal by name, as a view that later reads may extend; damage is reported.

    Raises FileNotFoundError and other OSError.
    """
    return MappingProxyType(_read(path, False).table)


def is_journal_intact(path: Path) -> bool:
    """Read a journal, also what this process read before, and return whether each line has its checksum."""
    return _read(path, True).is_intact


def update_journal(path: Path, changes: Mapping[str, Any], earlier: Callable[[], Mapping[str, Any]] = dict) -> None:
    """Append ``changes`` (None removes a name), safe between processes; the folder must exist.

    ``earlier`` returns what a new journal begins with: the content of a file of an older format.
    Raises OSError if the folder cannot be written, and what :func:`~mousecmr_data._utils.locks.hold_lock` raises.
    """
    with hold_lock(path.parent, path.name):
        try:
            content = _read(path, False)
            known, lines = content.table, content.lines if content.is_intact else -1
        except FileNotFoundError:
            known, lines = dict(earlier()), -1
        if 0 <= lines <= 2 * len(known) + SPARE_LINES:
            _append(path, "".join(_format_line(name, value) for name, value in changes.items()).encode())
        else:
            table = {name: value for name, value in {**known, **changes}.items() if value is not None}
            write_bytes(path, "".join(_format_line(name, value) for name, value in table.items()).encode())


def _format_line(name: str, value: Any) -> str:
    text = json.dumps([name, value], separators=(",", ":"))
    return f"{google_crc32c.value(text.encode()):08x} {text}\n"


def _append(path: Path, data: bytes) -> None:
    try:
        with path.open("ab+", buffering=0) as f:
            if f.seek(0, os.SEEK_END):
                f.seek(-1, os.SEEK_END)
                data = data if f.read(1) == b"\n" else b"\n" + data  # after a line that was cut off
            if f.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError as e:
        raise translate_os_error(e, path) from e


def _read(path: Path, again: bool) -> _Content:
    with _reading, path.open("rb") as f:
        about = os.fstat(f.fileno())
        content = _contents.get(path, _Content())
        is_same = about.st_ino == content.inode and about.st_size >= content.size
        if is_same and about.st_size == content.size:
            is_same = about.st_mtime_ns == content.mtime_ns
        if again or not is_same:
            content = _Content()
        f.seek(content.size)
        for line in f:
            if not line.endswith(b"\n"):
                break  # being written, or cut off
            content.size += len(line)
            if not line.strip():
                continue
            content.lines += 1
            try:
                if line[:9] != b"%08x " % google_crc32c.value(line[9:-1]):
                    raise ValueError("another checksum")
                name, value = json.loads(line[9:])
            except ValueError:
                content.is_intact = False
                report_damage(path)
                continue
            if value is None:
                content.table.pop(name, None)
            else:
                content.table[name] = value
        content.inode, content.mtime_ns = about.st_ino, about.st_mtime_ns
        _contents[path] = content
        return content
