"""Unpack zip archives into a new folder, without trusting anything that they state about themselves."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mousecmr_data._utils.atomic import get_free_bytes, make_disk_full_error, translate_os_error
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.errors import FileLayoutError, MissingDataError, MouseCMRError

MAX_BYTES = 2 * 1024**3
"""Largest unpacked size of an archive, nested archives included."""
MAX_FILES = 20_000
MAX_DEPTH = 3
"""Levels of archives inside archives."""
MAX_RATIO = 100
"""Unpacked / packed size above which a file counts as a zip bomb (images shrink to about 0.7)..."""
RATIO_FROM = 50 * 1024**2
"""... if it is larger than this."""
BLOCK = 1024**2
_UNIX_TYPE = 16


def unpack_archive(archive: Path, into: Path) -> Path:
    """Unpack ``archive`` and the archives in it into the new folder ``into``, and return ``into``.

    These are rejected, with an error that names them: paths that leave the folder, links and other special files,
    encryption, more than ``MAX_FILES`` files, ``MAX_BYTES`` bytes (counted while they are written, not as stated) or
    ``MAX_DEPTH`` levels, and files that grow more than ``MAX_RATIO`` times. Raises :class:`FileLayoutError`; the caller
    then removes ``into`` with the files written until then.
    """
    _Unpacker().unpack(archive, into, 1)
    return into


class _Unpacker:
    """Counts files and bytes over an archive and all archives in it."""

    def __init__(self) -> None:
        self.files, self.bytes = 0, 0

    def unpack(self, archive: Path, into: Path, depth: int) -> None:
        name = archive.name
        if not archive.is_file():
            raise MissingDataError(f"There is no file {archive}.", "a .zip archive")
        if depth > MAX_DEPTH:
            raise FileLayoutError(f"{name} is an archive inside {MAX_DEPTH} others.", "one archive of image files")
        into.mkdir(parents=True)
        try:
            with zipfile.ZipFile(archive) as z:
                members = [m for m in z.infolist() if not m.is_dir()]
                for m in members:
                    _check_member(name, m)
                self._check_limits(name, into, sum(m.file_size for m in members), len(members))
                for m in members:
                    self._extract(name, z, m, into)
        except MouseCMRError:
            raise
        except OSError as e:
            translated = translate_os_error(e, into)
            raise (_make_damaged_error(name, e) if translated is e else translated) from e
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as e:
            raise _make_damaged_error(name, e) from e
        for inner in sorted(p for p in into.rglob("*") if p.suffix.lower() == ".zip"):
            self.unpack(inner, inner.with_suffix(""), depth + 1)
            inner.unlink()

    def _check_limits(self, name: str, into: Path, size: int, files: int) -> None:
        self.files += files
        if self.files > MAX_FILES:
            raise FileLayoutError(f"{name} holds {self.files:,} files.", f"at most {MAX_FILES:,}", "leave out the rest")
        if self.bytes + size > MAX_BYTES:
            raise FileLayoutError(
                f"{name} would be {format_bytes(self.bytes + size)} unpacked.",
                f"at most {format_bytes(MAX_BYTES)}",
                "split it; or unpack it yourself, if you trust it, and give the folder",
            )
        if size > get_free_bytes(into):
            raise make_disk_full_error(into, size)

    def _extract(self, name: str, z: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
        target = into.joinpath(*_split_path(member))
        if target.exists():
            raise FileLayoutError(f"{name} holds {member.filename!r} twice.", "each file once")
        target.parent.mkdir(parents=True, exist_ok=True)
        with z.open(member) as source, target.open("xb") as out:
            while block := source.read(BLOCK):
                self.bytes += len(block)
                if self.bytes > MAX_BYTES:
                    raise FileLayoutError(f"{name} holds more than it states.", f"at most {format_bytes(MAX_BYTES)}")
                out.write(block)


def _check_member(name: str, m: zipfile.ZipInfo) -> None:
    parts = _split_path(m)
    if m.filename.startswith(("/", "\\")) or ".." in parts or not parts or ":" in parts[0] or "\0" in m.filename:
        raise FileLayoutError(f"{name}: the path {m.filename!r} leads out of the archive.", "paths inside it")
    if stat.S_IFMT(m.external_attr >> _UNIX_TYPE) not in (0, stat.S_IFREG):
        raise FileLayoutError(f"{name}: {m.filename!r} is a link or a special file.", "plain files")
    if m.flag_bits & 0x1:
        raise FileLayoutError(f"{name} is encrypted.", "an archive without a password", "unpack it, give the folder")
    if m.file_size > RATIO_FROM and m.file_size > MAX_RATIO * max(1, m.compress_size):
        raise FileLayoutError(
            f"{name}: {m.filename!r} would grow from {format_bytes(m.compress_size)} to {format_bytes(m.file_size)}.",
            f"at most {MAX_RATIO} times",
            "give the file itself, if you trust it",
        )


def _split_path(m: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(m.filename.replace("\\", "/")).parts


def _make_damaged_error(name: str, error: Exception) -> FileLayoutError:
    return FileLayoutError(f"{name} is damaged or not a zip archive: {error}", "a .zip archive")
