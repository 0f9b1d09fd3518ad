"""Sessions: each open page has a private folder with an unguessable name, which is deleted with the page."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mousecmr_data._utils.locks import keep_alive, remove_abandoned
from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError, MouseCMRError
from mousecmr_data.formats.archive import ARCHIVE_SUFFIXES, MAX_FILES
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.formats.discover import FoundScan, collect_inputs
from mousecmr_data.formats.masks import LeftOutFile
from mousecmr_data.formats.read import read_scan
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.schema.variables import DIMS


@dataclass(frozen=True)
class InspectedScan:
    """An uploaded mouse: its sizes, or the error if it cannot be read."""

    name: str
    kind: str = ""
    bytes: int = 0
    frames: int = 0
    slices: int = 0
    shape_yx: tuple[int, int] = (0, 0)
    voxel_mm: tuple[float, float, float] | None = None
    """(z, y, x)."""
    frame_ms: float | None = None
    """None if unknown."""
    synthetic: bool = False
    error: MouseCMRError | None = None

    @property
    def images(self) -> int:
        """Return the number of 2D slices to segment."""
        return self.frames * self.slices


def inspect_inputs(
    inputs: Sequence[Path], config: SegmentConfig, scratch: Path, left_out: list[LeftOutFile] | None = None
) -> list[InspectedScan]:
    """Return the mice in ``inputs``, read in the same way as by a job, with their errors.

    ``left_out`` receives the files that are masks or results of programs.
    """
    if not inputs:
        return []
    with collect_inputs(inputs, scratch, left_out) as (scans, refused):
        return [*(_inspect_scan(s, config) for s in scans), *(InspectedScan(r.name, error=r.error) for r in refused)]


def _inspect_scan(scan: FoundScan, config: SegmentConfig) -> InspectedScan:
    try:
        ds = read_in_child(read_scan, scan.name, scan, **config.reading)
    except MouseCMRError as e:
        return InspectedScan(scan.name, scan.kind, scan.size, error=e)
    frames, slices, y, x = (ds.sizes[dim] for dim in DIMS)
    frame_ms = float(ds["time"].attrs["frame_time"]) if ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True) else None
    synthetic = bool(ds.attrs.get("synthetic"))
    return InspectedScan(scan.name, scan.kind, scan.size, frames, slices, (y, x), get_spacing(ds), frame_ms, synthetic)


TOKEN_BYTES = 32
MAX_DEPTH, MAX_NAME = 20, 200
"""Limits of an uploaded path: number of nested folders, and bytes of a name."""
UPLOADS_PREFIX, FILES_PREFIX, ARCHIVES_PREFIX = "in", "upload", "archives"
"""Prefixes of the folders with all uploads, and with the files and the zip archives of one drop."""
FOLDER_PREFIX = "mousecmr-page-"
"""Prefix of a server's folder."""
RESULTS_FOLDER, VIEWS_FOLDER, ZIP_FILE = "out", "view", "results.zip"
"""Names of the results in a session's folder."""


@dataclass
class Uploads:
    """What was dropped on a page since it was opened, or since its files were removed."""

    folder: Path
    """It has one subfolder per drop."""
    bytes: int = 0
    files: int = 0

    def list_inputs(self) -> list[Path]:
        """Return the inputs of a job: each zip archive, and for each drop its only entry or else its folder."""
        inputs = []
        # Folders are named prefix_number, in the order of the drops.
        for drop in sorted(self.folder.glob("*"), key=lambda p: (int(p.name.rpartition("_")[2]), p.name)):
            entries = sorted(drop.iterdir())
            if len(entries) == 1 or drop.name.startswith(ARCHIVES_PREFIX):
                inputs += entries
            elif entries:
                inputs.append(drop)
        return inputs

    def get_path(self, drop: int, path: str) -> Path:
        """Return where to write a file; raises :class:`FileLayoutError` for a path outside the folder."""
        parts = path.replace("\\", "/").split("/")
        bad = not 1 <= len(parts) <= MAX_DEPTH or not 0 <= drop < MAX_FILES
        for part in parts:
            too_long = len(part.encode("utf-8", "replace")) > MAX_NAME
            bad |= too_long or part in ("", ".", "..") or not part.isprintable() or ":" in part
        if bad:
            raise FileLayoutError(f"The file name {path[:80]!r} cannot be used.", "plain names of files and folders")
        is_archive = len(parts) == 1 and path.lower().endswith(ARCHIVE_SUFFIXES)  # a broken one must not stop the rest
        prefix = ARCHIVES_PREFIX if is_archive else FILES_PREFIX
        return self.folder.joinpath(f"{prefix}_{drop + 1}", *parts)

    def reserve_bytes(self, size: int, limit: int, new: bool = False) -> None:
        """Count ``size`` more bytes; raises :class:`ArgumentError` beyond ``limit``, or beyond ``MAX_FILES``."""
        self.bytes += size
        self.files += new
        if self.bytes > limit:
            text = f"These files have more than {format_bytes(limit)} in all."
            raise ArgumentError(text, "less", "send fewer at a time")
        if self.files > MAX_FILES:
            raise ArgumentError(f"These are more than {MAX_FILES:,} files.", "fewer", "send one mouse, or a zip of it")

    def release_bytes(self, size: int) -> None:
        """Subtract a file of ``size`` bytes that was interrupted and removed."""
        self.bytes -= size
        self.files -= 1


@dataclass
class Session:
    """The files of one open page. ``token`` is part of its links; ``owner`` is the browser that may use them."""

    folder: Path
    owner: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    uploads: Uploads = field(init=False)
    views: dict[str, Path] = field(default_factory=dict)
    """Files that the page may show, by the names in their links."""
    download: Path | None = None
    inspected: list[InspectedScan] = field(default_factory=list)
    """The uploads as they were last inspected."""
    left_out: list[LeftOutFile] = field(default_factory=list)
    """Uploads that are masks or results of programs."""
    job: Future[Any] | None = None
    """The last job of the page."""
    last_used: float = field(default_factory=time.monotonic)
    results_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while results are written."""
    closed: bool = False
    """The page was closed."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _users: int = 0
    """Number of callers in :meth:`hold_folder`."""

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.folder / f"{UPLOADS_PREFIX}1")

    @property
    def is_used(self) -> bool:
        """Return whether files in the folder are being read or written."""
        return self._users > 0

    def belongs_to(self, owner: str) -> bool:
        """Return whether the browser of this name opened the page."""
        return secrets.compare_digest(self.owner.encode(), owner.encode())

    def remove_results(self) -> None:
        """Remove the results."""
        self.views, self.download = {}, None
        for name in (RESULTS_FOLDER, VIEWS_FOLDER, ZIP_FILE):
            _remove(self.folder / name)

    def remove_files(self) -> None:
        """Cancel the job and forget all files; those in use are removed when :meth:`hold_folder` ends.

        What is dropped from now on goes to another folder.
        """
        if self.job:
            self.job.cancel()
        with self._lock:
            number = int(self.uploads.folder.name.removeprefix(UPLOADS_PREFIX)) + 1
            self.uploads = Uploads(self.folder / f"{UPLOADS_PREFIX}{number}")
            self.inspected, self.left_out, self.views, self.download = [], [], {}, None
        self._remove_unused()

    @contextmanager
    def hold_folder(self) -> Iterator[None]:
        """Keep the files while they are read or written; those that are to be removed are removed at the end."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            self._remove_unused()

    @contextmanager
    def hold_results(self) -> Iterator[None]:
        """The same, for one caller at a time, who writes results."""
        with self.hold_folder(), self.results_lock:
            yield

    def close(self, *, cancel: bool = True) -> None:
        """Mark the page as closed and remove the folder, unless :meth:`hold_folder` does this at its end."""
        self.closed = True
        if cancel and self.job:
            self.job.cancel()
        self._remove_unused()

    def _remove_unused(self) -> None:
        """Remove what is not needed any more, unless files are in use."""
        with self._lock:
            if self._users:
                return
            if self.closed:
                self.views, self.download = {}, None
                shutil.rmtree(self.folder, ignore_errors=True)
                return
            for path in list(self.folder.iterdir()):
                is_old = path.name.startswith(UPLOADS_PREFIX) or not self.views
                if is_old and path != self.uploads.folder:
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class SessionStore:
    """All open sessions, in one private folder that is removed at the end."""

    def __init__(self, kept_seconds: float = 12 * 3600, *, keeps_jobs: bool = False) -> None:
        """Make an empty store; ``keeps_jobs``: the job of a page that is closed goes on."""
        self.folder = Path(tempfile.gettempdir()) / f"{FOLDER_PREFIX}{secrets.token_hex(8)}"
        self.kept_seconds, self.keeps_jobs = kept_seconds, keeps_jobs
        self._alive = ExitStack()
        self._is_made = False
        self._by_id: dict[str, Session] = {}
        self._by_token: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_token)

    def open(self, session_id: str, owner: str) -> Session:
        """Return a new session for a page; an older session of this id, of the same browser, is closed.

        Raises :class:`ArgumentError` if the id is that of another browser's page.
        """
        if self.is_of_another(session_id, owner):
            raise ArgumentError("This page is already open in another browser.", next_step="reload the page")
        self.close_session(session_id, owner)
        with self._lock:
            if not self._is_made:
                remove_abandoned(self.folder.parent, FOLDER_PREFIX)
                self.folder.mkdir(exist_ok=True)  # gradio, which also keeps files here, may have made it
                self.folder.chmod(0o700)  # readable by its owner only
                self._alive.enter_context(keep_alive(self.folder))
                self._is_made = True
        session = Session(Path(tempfile.mkdtemp(dir=self.folder)), owner)
        with self._lock:
            self._by_id[session_id] = session
            self._by_token[session.token] = session
        return session

    def find(self, session_id: str, owner: str) -> Session | None:
        """Return the session of a page; None if it is closed or belongs to another browser."""
        return self._check_owner(self._by_id.get(session_id), owner)

    def find_by_token(self, token: str, owner: str) -> Session | None:
        """Return the session that a link names; None if it is closed or belongs to another browser."""
        return self._check_owner(self._by_token.get(token), owner)

    def is_of_another(self, session_id: str, owner: str) -> bool:
        """Return whether ``session_id`` is the page of another browser. Ids are no secrets; the browser's name is."""
        session = self._by_id.get(session_id)
        return session is not None and not session.belongs_to(owner)

    def close_session(self, session_id: str, owner: str) -> None:
        """Close the session of a page, if this browser has it open."""
        with self._lock:
            session = self._by_id.get(session_id)
            if session is None or not session.belongs_to(owner):
                return
            del self._by_id[session_id], self._by_token[session.token]
        session.close(cancel=not self.keeps_jobs)

    def sweep(self) -> None:
        """Close the sessions that were not used for ``kept_seconds``."""
        now = time.monotonic()
        for session_id, session in list(self._by_id.items()):
            if now - session.last_used > self.kept_seconds and not session.is_used:
                self.close_session(session_id, session.owner)

    def close(self) -> None:
        """Close all sessions, cancel their jobs and remove the folder."""
        self.keeps_jobs = False
        for session_id, session in list(self._by_id.items()):
            self.close_session(session_id, session.owner)
        self._alive.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _check_owner(session: Session | None, owner: str) -> Session | None:
        if session is None or session.closed or not session.belongs_to(owner):
            return None
        session.last_used = time.monotonic()
        return session
