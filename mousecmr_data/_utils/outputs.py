"""May this be written? No output replaces a file that this library did not write, or that somebody edited since.

A folder of results has a record, a JSON file that lists its files with their SHA-256. Only listed files are ever
replaced, and only if they still have that checksum, or with ``overwrite``. Every other file stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import fsync_folder, temporary_folder, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.json import write_json
from mousecmr_data._utils.text import join_names
from mousecmr_data.errors import OutputError

RECORD_FILE = ".mousecmr-files.json"
"""Record of a folder whose results have no record of their own."""
FILES_KEY = "files"
BEING_WRITTEN = ""
"""Checksum of a file while it is replaced: what a killed run left may be replaced, whatever it is."""


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


def check_new_file(path: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raise :class:`OutputError` if ``path`` is an input, or exists and ``overwrite`` is not given."""
    check_apart([path], inputs)
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path} exists.", "a path that does not exist", "give another path, or --overwrite")


def read_listed_files(record: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that ``record`` lists, by path relative to its folder; empty without a record."""
    try:
        files = json.loads(record.read_text(encoding="utf-8"))[FILES_KEY]
        return {str(name): str(sha256) for name, sha256 in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def check_replaceable(
    folder: Path, names: Iterable[str], listed: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Raise :class:`OutputError` if one of ``names`` exists in ``folder`` and may not be replaced."""
    existing = [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    if foreign := [name for name in existing if name not in listed]:
        raise make_foreign_error(folder, foreign)
    edited = [
        n for n in existing if not overwrite and listed[n] != BEING_WRITTEN and not _is_as_listed(folder / n, listed[n])
    ]
    if edited:
        raise OutputError(
            f"{join_names([str(folder / name) for name in edited])} was edited after it was written.",
            "unedited files",
            "give another folder with -o, or --overwrite to replace it",
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
        return compute_sha256(path) == sha256
    except OSError:
        return False


@contextmanager
def write_folder(
    folder: Path,
    *,
    record: str = RECORD_FILE,
    listed: Mapping[str, str] | None = None,
    overwrite: bool = False,
    inside: bool = False,
) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, move its files into ``folder``.

    The temporary folder lies beside ``folder``, or ``inside`` it.

    ``record`` lists the files; if the block writes this file itself (a JSON object), the list is added to it. Files of
    an earlier run that were not written again are removed, unless somebody edited them. ``listed`` replaces the list in
    the record on disk, for folders that were written before there was one.

    Raises :class:`OutputError` where a file may not be replaced; then nothing has changed.
    """
    with temporary_folder(folder / record if inside else folder) as partial:
        yield partial
        old = dict(read_listed_files(folder / record) if listed is None else listed)
        written = sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file())
        names = [name for name in written if name != record]
        new = {name: compute_sha256(partial / name) for name in names}
        check_replaceable(folder, names, old, overwrite=overwrite)
        stale = [n for n in old if n not in new and n != record and _is_as_listed(folder / n, old[n])]
        about: dict[str, Any] = json.loads((partial / record).read_text("utf-8")) if record in written else {}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / record, {FILES_KEY: {**old, **dict.fromkeys(names, BEING_WRITTEN)}})
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).chmod(0o644)
            (partial / name).replace(folder / name)
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        _remove_empty_folders(folder, stale)
        kept = {
            n: s for n, s in old.items() if n not in new and n not in stale and (folder / n).exists() and n != record
        }
        write_json(folder / record, {**about, FILES_KEY: {**kept, **new}})
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
