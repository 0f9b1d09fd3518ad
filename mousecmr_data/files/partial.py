"""A download under way: a hidden folder beside the target, which a later run picks up.

``Data/.Mouse1.h5.part/`` holds ``content`` (what has arrived), ``origin.json`` (from where, and how to
ask for the rest) and, for moments, pooch's own temporary files. All of it belongs to whoever holds
the file's lock, so what is found here under the lock is ours to take over or to remove.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from mousecmr_data.files import record


@dataclass(frozen=True)
class Origin:
    """Where a partial file comes from."""

    url: str
    """As shown: without secrets."""
    validator: str | None
    """A strong ETag or a modification date, for If-Range."""
    size: int | None
    """Bytes of the whole file, where the host said so."""


class Partial:
    """The partial download of ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.part"
        self.content = self.folder / "content"
        self.staged = self.folder / target.name
        """Where pooch puts the finished file."""
        self.aside = target.parent / f".{target.name}.corrupt"
        """Where a damaged file waits until its replacement is there."""
        self._note = self.folder / "origin.json"

    def recover(self) -> None:
        """Tidy up after a killed process: keep the bytes, drop the rest."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path in (self.content, self._note):
                continue
            # Pooch's temporary file is empty until the verified content is moved onto it.
            if not self.content.exists() and path.is_file() and path.stat().st_size:
                path.replace(self.content)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def length(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.content.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def origin(self) -> Origin | None:
        """Where the content comes from, or None where that is not known."""
        try:
            return Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def start(self, origin: Origin) -> None:
        """Begin anew with the content of ``origin``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.content.unlink(missing_ok=True)
        self.note(origin)

    def note(self, origin: Origin) -> None:
        """Note where the rest of the content comes from."""
        record.write_text(self._note, json.dumps(asdict(origin)) + "\n")

    def deliver(self, path: str | Path) -> None:
        """Move the verified content to ``path`` (in the same folder), safe on disk and readable by all."""
        with self.content.open("rb+") as f:
            os.fsync(f.fileno())
        self.content.chmod(0o644)
        self.content.replace(path)

    def finish(self) -> None:
        """Move the staged file to its final name, in one step, and clean up."""
        self.staged.replace(self.target)
        sync_folder(self.target.parent)
        self.settle()

    def settle(self) -> None:
        """The target is there and right: nothing else is needed any more."""
        self.aside.unlink(missing_ok=True)
        self.discard()

    def discard(self) -> None:
        """Remove what has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system has a way to say so."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
