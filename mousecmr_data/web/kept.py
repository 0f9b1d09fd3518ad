"""Results that stay on this computer: each job of ``mousecmr serve --keep FOLDER`` has a folder in FOLDER.

Nothing in FOLDER is deleted or replaced but temporary files of programs that were killed.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import remove_leftovers
from mousecmr_data._utils.locks import try_lock
from mousecmr_data._utils.reading import ABSENT
from mousecmr_data.errors import OutputError
from mousecmr_data.pipeline.batch import MANIFEST_FILE
from mousecmr_data.pipeline.writers import read_record

NAME = re.compile(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-\d\d(-\d+)?")
"""Name of the folder of a job: the local date and time of its start."""
MAX_LISTED = 100
"""Most jobs that the page lists, the newest."""


@dataclass
class KeptRun:
    """The kept results of one job. ``token`` is part of its links."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    owner: str = ""
    """The browser that started the job; empty if an earlier program did."""
    job: Future[Any] | None = None
    """The job, if this program runs it."""
    progress: str = "waiting for other jobs"
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the results are changed."""

    @property
    def date(self) -> str:
        """Return the local date and time of the start."""
        found = NAME.fullmatch(self.folder.name)
        return f"{found[1]} {found[2]}:{found[3]}" if found else self.folder.name

    def list_mice(self) -> tuple[list[str], list[str], bool]:
        """Return the mice that have results, those that failed, and whether the job was finished."""
        try:
            rows = json.loads((self.folder / MANIFEST_FILE).read_text(encoding="utf-8"))["mice"]
            failed = [str(row["mouse"]) for row in rows if row["status"] == "failed"]
            return [str(row["mouse"]) for row in rows if row["mouse"] not in failed], failed, True
        except (*ABSENT, ValueError, LookupError, TypeError):
            folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
            return [path.name for path in folders if not path.name.startswith(".") and read_record(path)], [], False


class KeptResults:
    """The jobs whose results are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if there is none; remove temporary files of killed programs.

        Raises :class:`OutputError` if it cannot be written.
        """
        self.folder = folder.absolute()
        self._runs: dict[str, KeptRun] = {}
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as e:
            what = "is a file" if self.folder.is_file() else f"cannot be written: {e.strerror}"
            raise OutputError(f"{folder} {what}.", "a folder that you may write to", "--keep ANOTHER/FOLDER") from e
        for run in self.list_runs():
            if not run.list_mice()[2] and not self.is_running(run):
                remove_leftovers(run.folder)

    def start(self, owner: str) -> KeptRun:
        """Make the folder of a new job, named by the local date and time."""
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        with self._lock:
            number = 1
            while True:
                folder = self.folder / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    folder.mkdir()
                    break
                number += 1
            return self._runs.setdefault(folder.name, KeptRun(folder, owner=owner))

    @contextmanager
    def hold(self, run: KeptRun) -> Iterator[None]:
        """Let other programs know that the job of ``run`` is running; see :meth:`remove_if_empty` for its end."""
        try:
            with try_lock(self.folder, run.folder.name):
                yield
        finally:
            self.remove_if_empty(run)

    @staticmethod
    def remove_if_empty(run: KeptRun) -> None:
        """Remove the folder of a job that ended before its first mouse."""
        with suppress(OSError):
            run.folder.rmdir()

    def is_running(self, run: KeptRun) -> bool:
        """Return whether this program, or another one, runs the job."""
        if run.job is not None:
            return not run.job.done()
        if (run.folder / MANIFEST_FILE).is_file():
            return False

        def refuse() -> None:
            raise OutputError(f"Another program writes to {run.folder}.")

        try:
            with try_lock(self.folder, run.folder.name, refuse):
                return False
        except OutputError:
            return True

    def list_runs(self) -> list[KeptRun]:
        """Return the jobs, the newest first."""
        names = [p.name for p in self.folder.iterdir() if NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]
        with self._lock:
            for name in names:
                self._runs.setdefault(name, KeptRun(self.folder / name))
            return [self._runs[name] for name in sorted(names, reverse=True)[:MAX_LISTED]]

    def find_by_token(self, token: str) -> KeptRun | None:
        """Return the job that a link names."""
        with self._lock:
            runs = list(self._runs.values())
        return next((run for run in runs if secrets.compare_digest(run.token.encode(), token.encode())), None)
