"""Unpack zip archives into a new folder, without trusting anything that they state about themselves."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from mousecmr_data._utils.atomic import DISK_FULL, get_free_bytes, make_disk_full_error
from mousecmr_data._utils.reading import MAX_IMAGE_RATIO, check_access, check_input, check_size
from mousecmr_data._utils.text import format_bytes, is_reserved, make_file_name
from mousecmr_data.errors import FileLayoutError, MouseCMRError

ARCHIVE_SUFFIXES = (".zip", ".pvdatasets")
"""Endings of zip archives; the second is ParaVision's, of exported studies."""
MAX_BYTES = 2 * 1024**3
"""Largest unpacked size of an archive, nested archives included."""
MAX_FILES = 20_000
MAX_DEPTH = 3
"""Levels of archives inside archives."""
BLOCK = 1024**2
GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
"""How compressed files begin, whatever their names are."""
UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff]|[. ]$')
"""Characters in a name that not every system can write."""
_UNIX_TYPE = 16


def unpack_archive(archive: Path, into: Path, failed: dict[Path, MouseCMRError] | None = None) -> Path:
    """Unpack ``archive`` and the archives in it into the new folder ``into``, and return ``into``.

    These are rejected, with an error that names them: paths that leave the folder, links and other special files,
    encryption, more than ``MAX_FILES`` files, ``MAX_BYTES`` bytes (counted while they are written, not as stated) or
    ``MAX_DEPTH`` levels, and files that grow too much (:func:`mousecmr_data._utils.reading.check_size`). Names
    that some system cannot write are changed. Raises :class:`FileLayoutError`; the caller then removes ``into``, which
    may hold files. With ``failed``, the errors of inner archives are put there instead, by their paths.
    """
    _Unpacker(failed).unpack(archive, into, 1)
    return into


class _Unpacker:
    """Counts files and bytes over an archive and all archives in it."""

    def __init__(self, failed: dict[Path, MouseCMRError] | None) -> None:
        self.files, self.bytes, self.failed = 0, 0, failed

    def unpack(self, archive: Path, into: Path, depth: int) -> None:
        name = archive.name
        check_input(archive, "a .zip archive")
        if depth > MAX_DEPTH:
            raise FileLayoutError(f"{name} is an archive inside {MAX_DEPTH} others.", "one archive of image files")
        try:
            into.mkdir(parents=True)
            with zipfile.ZipFile(archive) as z:
                members = [m for m in z.infolist() if not m.is_dir()]
                for m in members:
                    _check_member(name, m)
                self._check_limits(name, into, sum(m.file_size for m in members), len(members))
                for m in members:
                    self._extract(name, z, m, into)
        except MouseCMRError:
            raise
        except Exception as e:  # decoders can raise almost anything
            if isinstance(e, OSError) and e.errno in DISK_FULL:
                raise make_disk_full_error(into) from e
            check_access(e, archive)
            raise _make_damaged_error(name, e) from e
        for inner in sorted(p for p in into.rglob("*") if p.suffix.lower() in ARCHIVE_SUFFIXES and p.is_file()):
            target = inner.with_suffix("")
            while target.exists():  # a folder of this name lies beside the archive
                target = target.with_name(f"{target.name}_")
            try:
                self.unpack(inner, target, depth + 1)
            except MouseCMRError as e:
                if self.failed is None:
                    raise
                shutil.rmtree(target, ignore_errors=True)  # a part of a scan must not be taken for all of it
                self.failed[inner] = e
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
        parts = (make_file_name(p) if UNSAFE.search(p) or is_reserved(p) else p for p in _split_path(member))
        target = into.joinpath(*parts)
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
    if not parts or ".." in parts or re.match(r"[/\\]|[A-Za-z]:", m.filename):
        raise FileLayoutError(f"{name}: the path {m.filename!r} leads out of the archive.", "paths inside it")
    if stat.S_IFMT(m.external_attr >> _UNIX_TYPE) not in (0, stat.S_IFREG):
        raise FileLayoutError(f"{name}: {m.filename!r} is a link or a special file.", "plain files")
    if m.flag_bits & 0x1:
        raise FileLayoutError(f"{name} is encrypted.", "an archive without a password", "unpack it, give the folder")
    check_size(f"{name}: {m.filename!r}", m.file_size, m.compress_size, MAX_IMAGE_RATIO)


def _split_path(m: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(m.filename.replace("\\", "/")).parts


def _make_damaged_error(name: str, error: Exception) -> FileLayoutError:
    return FileLayoutError(f"{name} is damaged or not a zip archive: {error}", "a .zip archive")
