"""Fixtures that every test can use. No test reaches the network: pytest-socket lets loopback through only."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import windows_rules

# Started in the background of a script, this process ignores Ctrl-C, and its children would, too: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

WINDOWS = os.environ.get("MOUSECMR_WINDOWS") == "1"
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache, mirrors or tokens."""
    for name in list(os.environ):
        if name.startswith("MOUSECMR_") and name != "MOUSECMR_STRESS":
            monkeypatch.delenv(name)
    for name in ("GITHUB_TOKEN", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path_factory.getbasetemp() / "default-cache"))


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of Windows hold in this test."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system has no list of open files")
    windows_rules.impose(monkeypatch)


@pytest.fixture(autouse=True)
def _windows_everywhere(request: pytest.FixtureRequest) -> None:
    """With MOUSECMR_WINDOWS=1 they hold in every test."""
    if WINDOWS:
        request.getfixturevalue("windows")


@pytest.fixture(scope="session")
def phantom_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that keeps phantom files for the whole session: making one takes seconds."""
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="session")
def real_mouse() -> Path:
    """One real stack with masks, in the upstream layout."""
    path = SHARED / "real" / "MouseMedian.h5"
    if not path.exists():
        pytest.skip(f"the real stack {path.name} is not beside this checkout (../shared/real)")
    return path
