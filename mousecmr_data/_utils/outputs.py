"""May this be written? No output replaces a file that this library did not write, or that somebody edited since.

A folder with results has a record, a JSON file that lists them with their SHA-256. Only listed files are replaced
without being asked, and only if they still have that checksum. ``overwrite`` also replaces edited ones, and a single
file that was named by its path, whoever wrote it. Every other file stays, and no input is ever replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import PART, temporary_folder, write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.reading import ABSENT, make_read_error
from mousecmr_data._utils.system import fsync_file, fsync_folder, lock_folder, move
from mousecmr_data._utils.text import join_names
from mousecmr_data.errors import OutputError

RECORD_FILE = ".mousecmr-files.json"
"""Record of a folder whose results have no record of their own."""
FILES_KEY = "files"
BEING_WRITTEN = ""
"""Checksum of a file while it is replaced: what a killed run left may be replaced, whatever it is."""
OVERWRITE_HINT = "give another path, or --overwrite (overwrite=True) to replace it"


def check_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise :class:`OutputError` if an output is an input, contains one, or lies in an input folder."""
    resolved = {path.resolve(): path for path in inputs}
    parents = {parent: path for real, path in resolved.items() for parent in real.parents}
    for output in outputs:
        real = output.resolve()
        inside = next((resolved[parent] for parent in real.parents if parent in resolved), None)
        for relation, found in (("is", resolved.get(real)), ("contains", parents.get(real)), ("lies in", inside)):
            if found is not None:
                raise OutputError(
                    f"The output {output} {relation} the input {found}.",
                    "an output apart from all inputs, which are never changed",
                    "-o ANOTHER/FOLDER",
                )


def find_paths(*words: str | os.PathLike[str] | None) -> list[Path]:
    """Return those of ``words`` that are inputs on this disk: a text is one if it is a file, else it is a name."""
    return [Path(w) for w in words if w and (Path(w).is_file() or (isinstance(w, Path) and w.exists()))]


def check_file(path: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raise :class:`OutputError` if :func:`write_file` may not write ``path``, or if it meets one of ``inputs``."""
    check_apart([path], inputs)
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "the path of a file", "give another path")
    listed = _read_own_record(path.parent / RECORD_FILE)
    if not overwrite and (path.exists() or path.is_symlink()):
        if path.name not in listed:
            raise OutputError(f"{path} exists, and this library did not write it.", "a new file", OVERWRITE_HINT)
        check_replaceable(path.parent, [path.name], listed)


def check_folder(folder: Path, names: Iterable[str], *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raise :class:`OutputError` if :func:`write_folder` may not write ``names``, or if they meet ``inputs``."""
    names = list(names)
    check_apart([folder / name for name in names], inputs)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "a folder", "give another folder")
    check_replaceable(folder, names, _read_own_record(folder / RECORD_FILE), overwrite=overwrite)


def read_listed_files(record: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that ``record`` lists, by path relative to its folder; empty without a record."""
    try:
        files = json.loads(record.read_text(encoding="utf-8"))[FILES_KEY]
        return {
            str(name): str(sha256)
            for name, sha256 in files.items()
            if ".." not in Path(name).parts and not Path(name).is_absolute()
        }
    except (*ABSENT, ValueError, KeyError, TypeError, AttributeError):
        return {}
    except OSError as e:
        raise make_read_error(record, e) from e


def _read_own_record(record: Path) -> dict[str, str]:
    is_there = record.is_symlink() or record.exists()  # asked first: another run may write it at this moment
    listed = read_listed_files(record)
    if is_there and not listed:
        raise make_foreign_error(record.parent, [record.name])
    return listed


def check_replaceable(
    folder: Path, names: Iterable[str], listed: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Raise :class:`OutputError` if one of ``names`` exists in ``folder`` and may not be replaced."""
    names = list(names)
    existing = [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    foreign = [name for name in existing if name not in listed or (folder / name).is_dir()]
    parts = dict.fromkeys(part for name in names for part in Path(name).parents if part != Path())
    foreign += [str(p) for p in parts if (folder / p).is_symlink() or (folder / p).is_file()]
    if foreign:
        raise make_foreign_error(folder, foreign)
    edited = [
        n for n in existing if not overwrite and listed[n] != BEING_WRITTEN and not _is_as_listed(folder / n, listed[n])
    ]
    if edited:
        raise OutputError(
            f"{join_names([str(folder / name) for name in edited])} was edited after it was written.",
            "unedited files",
            OVERWRITE_HINT,
        )


def make_foreign_error(folder: Path, names: Sequence[str]) -> OutputError:
    """Return the error for files in an output folder that this library did not write."""
    return OutputError(
        f"{folder} holds {join_names(names)}, which this library did not write there.",
        "files of an earlier run, or none",
        "give another folder with -o, or move them away",
    )


def _is_as_listed(path: Path, sha256: str) -> bool:
    try:
        return not path.is_symlink() and compute_sha256(path) == sha256
    except ABSENT:
        return False
    except OSError as e:
        raise make_read_error(path, e) from e


@contextmanager
def write_file(path: str | os.PathLike[str], *, twin: str = "", overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, move the file there to ``path``.

    Files that the block writes beside it (the pixels of a header) are moved too. All are listed in the record of their
    folder, so that they can be written again while nobody has edited them. In a temporary folder of this library
    nothing is listed: whoever publishes that folder lists its files.

    ``twin`` is the name of such a file that shows the same as ``path``: where the block does not write it again, an
    earlier one is removed, unless somebody edited it.

    Raises :class:`OutputError` before the block if ``path`` or ``twin`` exists and may not be replaced.
    """
    target = Path(path)
    if any(parent.name.startswith(PART) for parent in target.absolute().parents):
        yield target
        return
    for name in filter(None, (target.name, twin)):
        check_file(target.with_name(name), overwrite=overwrite)
    with temporary_folder(target) as folder:
        yield folder / target.name
        with lock_folder(target.parent):
            names = sorted((p.name for p in folder.iterdir()), key=target.name.__eq__)  # a header after its pixels
            for name in names:
                check_file(target.with_name(name), overwrite=overwrite)
            listed = read_listed_files(target.parent / RECORD_FILE)
            is_stale = twin in listed and twin not in names and _is_as_listed(target.with_name(twin), listed[twin])
            _move_files(folder, target.parent, names, RECORD_FILE, stale=[twin] if is_stale else [])


@contextmanager
def write_folder(
    folder: Path,
    *,
    record: str = RECORD_FILE,
    listed: Mapping[str, str] | None = None,
    overwrite: bool = False,
    inside: bool = False,
    keep: bool = False,
) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, move its files into ``folder``.

    The temporary folder lies beside ``folder``, or with ``inside`` in it if it exists: its parent may be on another
    disk.

    ``record`` lists the files; if the block writes this file itself (a JSON object), the list is added to it. Files of
    an earlier run that were not written again are removed, unless somebody edited them, or with ``keep``: for folders
    that several commands write to. ``listed`` replaces the list in the record on disk, for folders that were written
    before there was one.

    Raises :class:`OutputError` where a file may not be replaced; then nothing has changed.
    """
    with temporary_folder(folder / record if inside and folder.is_dir() else folder) as partial:
        yield partial
        publish_folder(partial, folder, record=record, listed=listed, overwrite=overwrite, keep=keep)


def publish_folder(
    partial: Path,
    folder: Path,
    *,
    record: str = RECORD_FILE,
    listed: Mapping[str, str] | None = None,
    overwrite: bool = False,
    keep: bool = False,
) -> None:
    """Move the files of ``partial`` into ``folder``, on the same disk; see :func:`write_folder`."""
    written = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file())
    names = [name for name in written if name != record]
    about: dict[str, Any] = json.loads((partial / record).read_text("utf-8")) if record in written else {}
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        old = dict(_read_own_record(folder / record) if listed is None else listed)
        check_replaceable(folder, names, old, overwrite=overwrite)
        others = [] if keep else [name for name in old if name not in names and name != record]
        stale = [name for name in others if _is_as_listed(folder / name, old[name])]
        _move_files(partial, folder, names, record, old, stale, about)


def _move_files(
    partial: Path,
    folder: Path,
    names: Sequence[str],
    record: str,
    old: Mapping[str, str] | None = None,
    stale: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> None:
    """Move ``names`` from ``partial`` to ``folder``, remove ``stale`` files there and bring the record up to date."""
    old = read_listed_files(folder / record) if old is None else old
    for name in names:
        fsync_file(partial / name)
    new = {name: compute_sha256(partial / name) for name in names}
    write_json(folder / record, {FILES_KEY: {**old, **dict.fromkeys(names, BEING_WRITTEN)}})
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).chmod(0o644)
        move(partial / name, folder / name)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    _remove_empty_folders(folder, stale)
    kept = {n: s for n, s in old.items() if n not in new and n not in stale and (folder / n).exists() and n != record}
    write_json(folder / record, {**(about or {}), FILES_KEY: {**kept, **new}})
    fsync_folder(folder)


def _remove_empty_folders(folder: Path, names: Iterable[str]) -> None:
    for parent in {p for name in names for p in (folder / name).parents if folder in p.parents}:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def add_file(folder: Path, name: str, text: str, record: str, listed: Mapping[str, str]) -> None:
    """Write one more text file to ``folder`` and list it in its record, which lists ``listed`` so far."""
    check_replaceable(folder, [name], listed)
    about = json.loads((folder / record).read_text(encoding="utf-8"))
    write_text(folder / name, text)
    write_json(folder / record, {**about, FILES_KEY: {**listed, name: compute_sha256(folder / name)}})


def list_files(folder: Path, names: Iterable[str], *, being_written: bool = False) -> None:
    """List ``names`` in the record of ``folder``, for files that are written again and again while a run goes on."""
    with lock_folder(folder):
        new = {n: BEING_WRITTEN if being_written else compute_sha256(folder / n) for n in names}
        write_json(folder / RECORD_FILE, {FILES_KEY: {**read_listed_files(folder / RECORD_FILE), **new}})
