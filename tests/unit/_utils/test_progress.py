import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from servers.cohort import bodies, fetch_paths, manifest
from servers.host import Host

from mousecmr_data._utils import progress
from mousecmr_data._utils.progress import DownloadBars, ProgressEvent, open_progress
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


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (40_000_000, "40.0 MB"), (5.16e9, "5.16 GB")]
)
def test_sizes_as_text(size: float, text: str) -> None:
    assert format_bytes(size) == text
