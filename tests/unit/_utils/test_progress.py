import builtins
import io
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from servers.cohort import bodies, fetch_paths, manifest
from servers.host import Host

from mousecmr_data._utils import progress
from mousecmr_data._utils.progress import DownloadBars, ProgressEvent, open_bar, open_progress
from mousecmr_data._utils.text import format_bytes

FILES = bodies(2, 400_000)


def draw(delayed: bool, cache: Path) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=150)
    with Host(FILES, rate=1_500_000) as host, DownloadBars(delayed, console) as bars:
        fetch_paths(manifest(FILES, host.template), cache=cache, progress=bars)
    return text.getvalue()


def test_the_plan_one_bar_for_all_and_one_for_each_file(tmp_path: Path) -> None:
    text = draw(False, tmp_path)
    assert text.startswith("tiny 0123456789ab: 2 files, about 80.0 MB")
    for name in ("all", "Mouse1", "Mouse2", "kB"):
        assert name in text.split("\n", 1)[1]


def test_no_bars_for_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 60.0)
    text = draw(True, tmp_path)
    assert "2 files" in text
    assert "Mouse1" not in text


def test_nothing_is_drawn_if_stderr_is_not_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with open_progress(None) as report:
        report(ProgressEvent("plan", text="not shown"))
    assert capfd.readouterr() == ("", "")
    with open_progress(True) as report:
        report(ProgressEvent("plan", text="shown", total=1))
    out, err = capfd.readouterr()
    assert (out, "shown" in err) == ("", True), "on stderr: stdout may be a pipe"


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with open_progress(None) as report:
        report(ProgressEvent("plan", text="what, how much, where to", total=1))
    assert "what, how much, where to" in capfd.readouterr().err


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were drawn in the output of a notebook's cell, one in place of the other."""
    drawn: list[str] = []

    def display(content: Any, *, raw: bool = False, display_id: bool = False) -> SimpleNamespace | None:
        if not raw:  # rich shows a line of text
            return None
        assert display_id
        drawn.append(content["text/plain"])
        return SimpleNamespace(update=lambda content, raw: drawn.append(content["text/plain"]) if raw else None)

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return drawn


def test_a_bar_in_a_notebook(cell: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    with open_bar(None, "scoring", 3) as advance:
        for _ in range(3):
            advance(1)
            time.sleep(0.01)
    assert "scoring" in cell[0] and "0.0 of 3" in cell[0]
    assert "2.0 of 3" in cell[2] and "left" in cell[2]
    assert "3.0 of 3" in cell[-1]


def test_bars_of_downloads_in_a_notebook(cell: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    with Host(FILES, rate=1_500_000) as host:
        fetch_paths(manifest(FILES, host.template), cache=tmp_path)
    assert any("Mouse1" in text for text in cell)


def test_nothing_is_drawn_on_request(cell: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bar(False, "scoring", 3) as advance:
        advance(3)
    with open_bar(None, "outer", 1), open_bar(None, "inner", 3) as advance:
        advance(3)
    assert cell and not any("inner" in text for text in cell)
    cell.clear()
    monkeypatch.setenv("MOUSECMR_PROGRESS", "0")
    for wanted in (None, True):
        with open_bar(wanted, "scoring", 3) as advance:
            advance(3)
    assert cell == []
    counts: list[float] = []
    with open_bar(counts.append, "scoring", 3) as advance:
        advance(2)
    assert counts == [2]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (40_000_000, "40.0 MB"), (5.16e9, "5.16 GB")]
)
def test_sizes_as_text(size: float, text: str) -> None:
    assert format_bytes(size) == text
