import os
import threading
import time
from pathlib import Path

import pytest

from mousecmr_data.errors import ArgumentError, FileLayoutError
from mousecmr_data.web.sessions import FOLDER_PREFIX, Session, SessionStore


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionStore:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return SessionStore(kept_seconds=100)


def put(session: Session, drop: int, path: str) -> Path:
    target = session.uploads.get_path(drop, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"x")
    return target


def test_a_session_is_found_by_its_own_browser_only(sessions: SessionStore) -> None:
    session = sessions.open("session", "browser")
    assert sessions.find("session", "browser") is session
    assert sessions.find_by_token(session.token, "browser") is session
    assert sessions.find("session", "other") is None
    assert sessions.find_by_token(session.token, "other") is None
    assert sessions.find_by_token("guess", "browser") is None
    assert len(session.token) >= 43
    if os.name == "posix":
        assert [p.stat().st_mode & 0o777 for p in (sessions.folder, session.folder)] == [0o700, 0o700]


def test_sessions_can_be_opened_in_different_threads(sessions: SessionStore) -> None:
    for session in ("a", "b"):
        thread = threading.Thread(target=sessions.open, args=(session, "x"), daemon=True)
        thread.start()
        thread.join(10)
    assert len(sessions) == 2


def test_closing_a_page_removes_its_files_and_no_others(sessions: SessionStore) -> None:
    first, second = sessions.open("a", "x"), sessions.open("b", "x")
    put(first, 0, "mouse.nii")
    put(second, 0, "mouse.nii")
    sessions.close_session("a", "x")
    assert not first.folder.exists()
    assert sessions.find_by_token(first.token, "x") is None
    assert len(second.uploads.list_inputs()) == 1
    sessions.close()
    assert not sessions.folder.exists()


def test_a_session_with_a_running_job_is_removed_after_the_job(sessions: SessionStore) -> None:
    session = sessions.open("a", "x")
    with session.hold_folder():
        sessions.close_session("a", "x")
        assert session.closed
        assert session.folder.exists()
        assert sessions.find_by_token(session.token, "x") is None
    assert not session.folder.exists()


def test_reloading_opens_a_new_session(sessions: SessionStore) -> None:
    first = sessions.open("a", "x")
    second = sessions.open("a", "x")
    assert not first.folder.exists()
    assert sessions.find("a", "x") is second


def test_another_browser_cannot_close_or_replace_a_session(sessions: SessionStore) -> None:
    session = sessions.open("a", "x")
    assert sessions.is_of_another("a", "y")
    assert not sessions.is_of_another("a", "x")
    assert not sessions.is_of_another("b", "y")
    sessions.close_session("a", "y")
    with pytest.raises(ArgumentError, match="already open in another browser"):
        sessions.open("a", "y")
    assert sessions.find("a", "x") is session
    assert session.folder.exists()


def test_a_page_closed_at_any_moment_leaves_no_files(sessions: SessionStore) -> None:
    for number in range(200):
        session = sessions.open("a", "x")
        closing = threading.Thread(target=sessions.close_session, args=("a", "x"))
        with session.hold_folder():
            put(session, 0, "mouse.nii")
            if number % 2:
                closing.start()
        if not number % 2:
            closing.start()
        closing.join(10)
        assert not session.folder.exists()


def test_unused_sessions_are_removed(sessions: SessionStore) -> None:
    old, new = sessions.open("a", "x"), sessions.open("b", "x")
    old.last_used -= 200
    sessions.sweep()
    assert not old.folder.exists()
    assert new.folder.exists()


def test_files_of_a_killed_server_are_removed_by_the_next(sessions: SessionStore, tmp_path: Path) -> None:
    dead = tmp_path / f"{FOLDER_PREFIX}dead"
    (dead / "session").mkdir(parents=True)
    living = SessionStore()
    living.open("b", "x")
    long_ago = time.time() - 1000
    for folder in (dead, living.folder):
        os.utime(folder, (long_ago, long_ago))
    sessions.open("a", "x")
    assert not dead.exists()
    assert living.folder.exists()


@pytest.mark.parametrize(
    "path",
    ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "C:/x", "a\\..\\b", "a\0b", "x" * 300, "a/" * 30 + "b"],
)
def test_paths_outside_the_session_are_refused(sessions: SessionStore, path: str) -> None:
    with pytest.raises(FileLayoutError, match="cannot be used"):
        sessions.open("a", "x").uploads.get_path(0, path)


def test_a_drop_of_one_entry_is_that_entry_and_of_several_their_folder(sessions: SessionStore) -> None:
    session = sessions.open("a", "x")
    alone = put(session, 0, "mouse.nii")
    folder = put(session, 1, "scan/1/2dseq").parents[1]
    several = put(session, 10, "IM1").parent
    put(session, 10, "IM2")
    zips = [put(session, 10, "a.zip"), put(session, 10, "b.ZIP")]
    assert session.uploads.list_inputs() == [alone, folder, *zips, several]


def test_limits(sessions: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.open("a", "x")
    session.uploads.reserve_bytes(80, 100, new=True)
    with pytest.raises(ArgumentError, match="more than 100 B"):
        session.uploads.reserve_bytes(40, 100)
    session.remove_files()
    monkeypatch.setattr("mousecmr_data.web.sessions.MAX_FILES", 1)
    session.uploads.reserve_bytes(0, 100, new=True)
    with pytest.raises(ArgumentError, match="more than 1 files"):
        session.uploads.reserve_bytes(0, 100, new=True)
