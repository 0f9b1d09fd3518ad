"""Private folders: one for each open page, reachable only through an unguessable name, gone with the page."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError, MouseCMRError
from mousecmr_data.formats.archive import MAX_FILES
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.formats.discover import FoundScan, collect_inputs
from mousecmr_data.formats.read import read_scan
from mousecmr_data.pipeline.config import SegmentConfig

# MERGED web.sessions: What was uploaded, before anything is computed: mice, sizes, expected time, and what cannot be read.


@dataclass(frozen=True)
class InspectedScan:
    """A mouse that was looked at."""

    name: str
    kind: str = ""
    bytes: int = 0
    frames: int = 0
    slices: int = 0
    shape_yx: tuple[int, int] = (0, 0)
    voxel_mm: tuple[float, float, float] | None = None
    """(z, y, x)."""
    frame_ms: float | None = None
    """None: not known."""
    synthetic: bool = False
    error: MouseCMRError | None = None

    @property
    def images(self) -> int:
        """2D slices to segment."""
        return self.frames * self.slices


def inspect_inputs(inputs: Sequence[Path], config: SegmentConfig, scratch: Path) -> list[InspectedScan]:
    """The mice in ``inputs``, each read by the very readers that the job uses, with its error where it has one."""
    if not inputs:
        return []
    with collect_inputs(inputs, scratch) as (found, refused):
        return [*(_inspect_scan(f, config) for f in found), *(InspectedScan(r.name, error=r.error) for r in refused)]


def _inspect_scan(one: FoundScan, config: SegmentConfig) -> InspectedScan:
    try:
        ds = read_scan(one, spacing=config.spacing, axes=config.axes, frame_time_ms=config.frame_time_ms)
    except MouseCMRError as e:
        return InspectedScan(one.name, one.kind, one.size, error=e)
    sizes = ds.sizes
    return InspectedScan(
        one.name,
        one.kind,
        one.size,
        sizes["frame"],
        sizes["slice"],
        (sizes["y"], sizes["x"]),
        get_spacing(ds),
        float(ds["time"].attrs["frame_time"]) if ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True) else None,
        bool(ds.attrs.get("synthetic")),
    )


TOKEN_BYTES = 32
MAX_DEPTH, MAX_NAME = 20, 200
"""Of the paths in a folder that is dropped: folders in folders, and bytes of a name."""
FILES_PREFIX, ARCHIVES_PREFIX = "upload", "archives"
"""The beginning of a drop's folder, and of that of the archives in it."""
FOLDER_PREFIX, ALIVE_LOCK = "mousecmr-page-", "alive"
"""Of the folder of a server, and the lock in it that the system lets go when the server dies."""
MIN_AGE_SECONDS = 60


@dataclass
class Session:
    """The files of one open page. ``token`` is the way in; ``owner`` the browser that may use it."""

    folder: Path
    owner: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    views: dict[str, Path] = field(default_factory=dict)
    """What the page may show: files by the name they are asked for."""
    download: Path | None = None
    seen: list[InspectedScan] = field(default_factory=list)
    """What the uploads hold, as far as they were looked at."""
    used: float = field(default_factory=time.monotonic)
    _left: threading.Event = field(default_factory=threading.Event)
    _working: threading.Lock = field(default_factory=threading.Lock)
    _written: int = 0
    _files: int = 0

    @property
    def closed(self) -> bool:
        """Whether the page was closed: a job that still runs should end."""
        return self._left.is_set()

    @property
    def uploads(self) -> Path:
        """Where uploads lie, a folder a drop."""
        return self.folder / "in"

    @property
    def bytes(self) -> int:
        """What was uploaded."""
        return self._written

    def get_lock(self) -> threading.Lock:
        """Held while files are made in the folder, which is not removed before it is let go."""
        return self._working

    def list_inputs(self) -> list[Path]:
        """What a job is given: archives each alone; of each drop else the one thing in it, or its folder."""
        found = []
        for drop in sorted(self.uploads.glob("*"), key=_drop_order):
            inside = sorted(drop.iterdir())
            found += inside if len(inside) == 1 or drop.name.startswith(ARCHIVES_PREFIX) else [drop] if inside else []
        return found

    def get_upload_path(self, drop: int, path: str) -> Path:
        """Where an uploaded file belongs; raises :class:`FileLayoutError` for a path that leaves the room."""
        parts = path.replace("\\", "/").split("/")
        bad = not 1 <= len(parts) <= MAX_DEPTH or not 0 <= drop < MAX_FILES
        for part in parts:
            long = len(part.encode("utf-8", "replace")) > MAX_NAME
            bad |= long or part in ("", ".", "..") or not part.isprintable() or ":" in part
        if bad:
            raise FileLayoutError(f"The file name {path[:80]!r} cannot be used.", "plain names of files and folders")
        alone = len(parts) == 1 and path.lower().endswith(".zip")  # one that is broken must not stop the rest
        return self.uploads.joinpath(f"{ARCHIVES_PREFIX if alone else FILES_PREFIX}_{drop + 1}", *parts)

    def reserve_bytes(self, size: int, limit: int, new: bool = False) -> None:
        """Count ``size`` more bytes; raises :class:`ArgumentError` beyond ``limit``, or beyond ``MAX_FILES``."""
        self._written += size
        self._files += new
        if self._written > limit:
            raise ArgumentError(
                f"These files have more than {format_bytes(limit)} in all.", "less", "send fewer at a time"
            )
        if self._files > MAX_FILES:
            raise ArgumentError(f"These are more than {MAX_FILES:,} files.", "fewer", "send one mouse, or a zip of it")

    def release_bytes(self, size: int) -> None:
        """An upload of ``size`` bytes broke off and was removed."""
        self._written -= size
        self._files -= 1

    def remove_files(self) -> None:
        """Remove all files."""
        self.views, self.download, self.seen = {}, None, []
        self._written = self._files = 0
        for inside in list(self.folder.iterdir()) if self.folder.exists() else []:
            shutil.rmtree(inside) if inside.is_dir() else inside.unlink()

    def close(self) -> None:
        """The page is closed: remove the folder, as soon as no job writes into it."""
        self._left.set()
        if self._working.acquire(blocking=False):
            try:
                self.remove_folder()
            finally:
                self._working.release()

    def remove_folder(self) -> None:
        """Remove the folder and everything in it."""
        self.views, self.download = {}, None
        shutil.rmtree(self.folder, ignore_errors=True)


class SessionStore:
    """All open rooms, below one private folder that is removed at the end."""

    def __init__(self, kept_seconds: float = 12 * 3600) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"{FOLDER_PREFIX}{secrets.token_hex(8)}"
        self.kept_seconds = kept_seconds
        self._alive = FileLock(
            self.folder / ALIVE_LOCK, thread_local=False
        )  # each visitor may come in a thread of its own
        self._by_id: dict[str, Session] = {}
        self._by_token: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_token)

    def open(self, session_id: str, owner: str) -> Session:
        """A new room for a page; a room that the session had is left."""
        self.close_session(session_id)
        with self._lock:
            if not self._alive.is_locked:
                remove_abandoned()
                self.folder.mkdir(exist_ok=True)  # gradio, whose own files lie in it too, may have made it
                self.folder.chmod(0o700)  # only its owner can read it
                self._alive.acquire()
        session = Session(Path(tempfile.mkdtemp(dir=self.folder)), owner)
        with self._lock:
            self._by_id[session_id] = session
            self._by_token[session.token] = session
        return session

    def find(self, session_id: str, owner: str) -> Session | None:
        """The room of a page, for its own browser."""
        return self._check_owner(self._by_id.get(session_id), owner)

    def find_by_token(self, token: str, owner: str) -> Session | None:
        """The room that a link names, for its own browser."""
        return self._check_owner(self._by_token.get(token), owner)

    def close_session(self, session_id: str) -> None:
        """A page was closed."""
        with self._lock:
            session = self._by_id.pop(session_id, None)
            if session:
                self._by_token.pop(session.token, None)
        if session:
            session.close()

    def sweep(self) -> None:
        """Leave the rooms that nobody used for ``kept_seconds``."""
        now = time.monotonic()
        for session_id, session in list(self._by_id.items()):
            if now - session.used > self.kept_seconds and not session.get_lock().locked():
                self.close_session(session_id)

    def close(self) -> None:
        """Leave all rooms and remove the folder."""
        for session_id in list(self._by_id):
            self.close_session(session_id)
        self._alive.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _check_owner(session: Session | None, owner: str) -> Session | None:
        if session is None or session.closed or not secrets.compare_digest(session.owner, owner):
            return None
        session.used = time.monotonic()
        return session


def _drop_order(drop: Path) -> tuple[int, str]:
    """As they were dropped."""
    name, _, number = drop.name.rpartition("_")
    return int(number), name


def remove_abandoned() -> None:
    """Remove what servers left that were killed: their folders are there, but nobody holds the lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > MIN_AGE_SECONDS:
                with FileLock(folder / ALIVE_LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
