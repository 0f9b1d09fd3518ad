import os
import threading
import time
from pathlib import Path

import pytest

from mousecmr_data.errors import ArgumentError, FileLayoutError
from mousecmr_data.web.sessions import FOLDER_PREFIX, Session, SessionStore


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionStore:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return SessionStore(kept_seconds=100)


def put(room: Session, drop: int, path: str) -> Path:
    target = room.place(drop, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"x")
    return target


def test_a_room_is_found_by_its_own_browser_only(rooms: SessionStore) -> None:
    room = rooms.open("session", "browser")
    assert rooms.of("session", "browser") is room
    assert rooms.by_token(room.token, "browser") is room
    assert rooms.of("session", "other") is None
    assert rooms.by_token(room.token, "other") is None
    assert rooms.by_token("guess", "browser") is None
    assert len(room.token) >= 43
    if os.name == "posix":
        assert [p.stat().st_mode & 0o777 for p in (rooms.folder, room.folder)] == [0o700, 0o700]


def test_visitors_come_in_threads_of_their_own(rooms: SessionStore) -> None:
    for session in ("a", "b"):
        thread = threading.Thread(target=rooms.open, args=(session, "x"), daemon=True)
        thread.start()
        thread.join(10)
    assert len(rooms) == 2


def test_closing_a_page_removes_its_files_and_no_others(rooms: SessionStore) -> None:
    mine, other = rooms.open("a", "x"), rooms.open("b", "x")
    put(mine, 0, "mouse.nii")
    put(other, 0, "mouse.nii")
    rooms.leave("a")
    assert not mine.folder.exists()
    assert rooms.by_token(mine.token, "x") is None
    assert len(other.inputs()) == 1
    rooms.close()
    assert not rooms.folder.exists()


def test_a_room_at_work_is_removed_after_the_work(rooms: SessionStore) -> None:
    room = rooms.open("a", "x")
    with room.work():
        rooms.leave("a")
        assert room.left
        assert room.folder.exists()
        assert rooms.by_token(room.token, "x") is None
        room.clear_away()  # what the job does at its end
    assert not room.folder.exists()


def test_reloading_gives_a_new_room(rooms: SessionStore) -> None:
    first = rooms.open("a", "x")
    second = rooms.open("a", "x")
    assert not first.folder.exists()
    assert rooms.of("a", "x") is second


def test_forgotten_rooms_are_swept(rooms: SessionStore) -> None:
    old, new = rooms.open("a", "x"), rooms.open("b", "x")
    old.used -= 200
    rooms.sweep()
    assert not old.folder.exists()
    assert new.folder.exists()


def test_what_a_killed_server_left_is_removed_by_the_next(rooms: SessionStore, tmp_path: Path) -> None:
    dead = tmp_path / f"{FOLDER_PREFIX}dead"
    (dead / "room").mkdir(parents=True)
    living = SessionStore()
    living.open("b", "x")
    long_ago = time.time() - 1000
    for folder in (dead, living.folder):
        os.utime(folder, (long_ago, long_ago))
    rooms.open("a", "x")
    assert not dead.exists()
    assert living.folder.exists()


@pytest.mark.parametrize(
    "path",
    ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "C:/x", "a\\..\\b", "a\0b", "x" * 300, "a/" * 30 + "b"],
)
def test_paths_cannot_leave_the_room(rooms: SessionStore, path: str) -> None:
    with pytest.raises(FileLayoutError, match="cannot be used"):
        rooms.open("a", "x").place(0, path)


def test_a_drop_of_one_thing_is_that_thing_and_of_several_their_folder(rooms: SessionStore) -> None:
    room = rooms.open("a", "x")
    alone = put(room, 0, "mouse.nii")
    folder = put(room, 1, "scan/1/2dseq").parents[1]
    several = put(room, 10, "IM1").parent
    put(room, 10, "IM2")
    zips = [put(room, 10, "a.zip"), put(room, 10, "b.ZIP")]
    assert room.inputs() == [alone, folder, *zips, several]


def test_limits(rooms: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    room = rooms.open("a", "x")
    room.admit(80, 100, new=True)
    with pytest.raises(ArgumentError, match="more than 100 B"):
        room.admit(40, 100)
    room.empty()
    monkeypatch.setattr("mousecmr_data.web.sessions.MAX_FILES", 1)
    room.admit(0, 100, new=True)
    with pytest.raises(ArgumentError, match="more than 1 files"):
        room.admit(0, 100, new=True)
