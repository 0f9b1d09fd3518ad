"""The rules of Windows by simulation, and that one module asks about the system."""

import ast
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import mousecmr_data
from mousecmr_data._utils import system
from mousecmr_data._utils.atomic import atomic_path, write_text
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.outputs import write_file, write_folder
from mousecmr_data.errors import CacheError

PACKAGE = Path(mousecmr_data.__file__).parent


def test_reading_at_a_place_without_pread_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 512
    (tmp_path / "f").write_bytes(content)
    places = [(k * 997 % len(content), 1000) for k in range(200)]
    with (tmp_path / "f").open("rb", buffering=0) as f:
        expected = [system.read_at(f.fileno(), n, at) for at, n in places]
        monkeypatch.delattr(os, "pread", raising=False)
        found: dict[int, bytes] = {}

        def read(part: int) -> None:
            for k in range(part, len(places), 4):
                found[k] = system.read_at(f.fileno(), places[k][1], places[k][0])

        threads = [threading.Thread(target=read, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[k] for k in range(len(places))] == expected == [content[at : at + n] for at, n in places]


@pytest.mark.usefixtures("windows")
def test_a_cohort_is_cached_stored_and_read_under_the_rules(tmp_path: Path, phantom_cache: Path) -> None:
    cohort = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)
    store = cohort.to_zarr(tmp_path / "store.zarr")
    again = mousecmr_data.load(source=store)["Mouse5"]
    xr.testing.assert_equal(again["image"].isel(frame=0).load(), cohort["Mouse5"]["image"].isel(frame=0).load())
    assert np.array_equal(again["mask"].values, cohort["Mouse5"]["mask"].values)


@pytest.mark.usefixtures("windows")
def test_outputs_are_written_and_replaced_under_the_rules(tmp_path: Path) -> None:
    for text in ("first µ", "second ♥"):
        with write_file(tmp_path / "one.txt") as partial:
            partial.write_text(text, encoding="utf-8")
        with write_folder(tmp_path / "folder") as partial:
            write_text(partial / "two.txt", text)
        with hold_lock(tmp_path, "x"):
            write_text(tmp_path / "three.txt", text)
    for path in ("one.txt", "folder/two.txt", "three.txt"):
        assert (tmp_path / path).read_text(encoding="utf-8") == "second ♥"


@pytest.mark.usefixtures("windows")
def test_a_file_that_is_open_is_not_replaced_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "RETRY_SECONDS", 0.2)
    target = write_text(tmp_path / "table.csv", "old")
    with (
        target.open(encoding="utf-8"),
        pytest.raises(CacheError, match=r"(?s)table\.csv cannot be replaced.*close it there"),
    ):
        write_text(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert write_text(target, "new").read_text(encoding="utf-8") == "new"


@pytest.mark.usefixtures("windows")
def test_a_file_that_is_open_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    target = write_text(tmp_path / "table.csv", "old")
    scanner = target.open("rb")
    timer = threading.Timer(0.2, scanner.close)
    timer.start()
    write_text(target, "new")
    timer.join()
    assert target.read_bytes() == b"new"


@pytest.mark.usefixtures("windows")
def test_a_path_that_is_too_long_is_an_error_that_counts(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    with (
        pytest.raises(CacheError, match=r"(?s)too long: \d+ characters.*259.*shorter path.*long paths"),
        atomic_path(folder / "z.csv"),
    ):
        pass
    system.move(write_text(tmp_path / "a", ""), tmp_path / "b")


def test_a_name_that_is_too_long_for_this_disk_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="too long"):
        write_text(tmp_path / ("x" * 250), "")


ASKED = {"pread", "fsync", "O_DIRECTORY", "O_NOFOLLOW", "rename", "replace", "renames"}


def test_one_module_asks_about_the_system() -> None:
    """Moving, syncing and reading at a place go through _utils/system.py; text files are opened with an encoding."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Call | ast.Import) else ""
            bad = text in {f"os.{name}" for name in ASKED} or text == "import fcntl"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                positional = [a for a in node.args if not isinstance(a, ast.Dict | ast.Constant)]
                bad |= (
                    node.func.attr in ("replace", "rename")
                    and len(node.args) == 1 == len(positional)
                    and not node.keywords
                )
                is_plain = node.func.attr == "read_text" or (
                    node.func.attr == "write_text" and isinstance(node.func.value, ast.Name | ast.BinOp)
                )
                bad |= is_plain and not (node.keywords or len(node.args) > (node.func.attr == "write_text"))
            if bad and path.name != "system.py":
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}")
    assert found == []
