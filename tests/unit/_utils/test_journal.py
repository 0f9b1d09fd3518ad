import random
import subprocess
import sys
from pathlib import Path

import pytest

from mousecmr_data._utils import journal
from mousecmr_data._utils.journal import is_journal_intact, read_journal, update_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.journal"


def test_changes_are_added_replaced_and_removed(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_journal(path)
    update_journal(path, {"a": [1, "µ"], "b": 2}, lambda: {"old": 0, "a": 0})
    update_journal(path, {"b": {"x": None}, "c": 3})
    update_journal(path, {"c": None, "unknown": None})
    assert dict(read_journal(path)) == {"old": 0, "a": [1, "µ"], "b": {"x": None}}
    assert is_journal_intact(path)


def test_an_update_writes_what_it_adds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a thousand files cost a thousand times as much as one."""
    update_journal(path, {"first": 0})
    monkeypatch.setattr(journal, "write_bytes", lambda *_: pytest.fail("the whole file was written"))
    inode = path.stat().st_ino
    sizes = []
    for n in range(1000, 1200):
        before = path.stat().st_size
        update_journal(path, {f"name {n}": n})
        sizes.append(path.stat().st_size - before)
    assert len(set(sizes)) == 1
    assert path.stat().st_ino == inode
    assert len(read_journal(path)) == 201


def test_a_journal_of_replaced_lines_is_written_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SPARE_LINES", 10)
    for n in range(100):
        update_journal(path, {"a": n, "b": -n})
    assert dict(read_journal(path)) == {"a": 99, "b": -99}
    assert len(path.read_bytes().splitlines()) <= 18


@pytest.mark.parametrize("cut", [2, 5, 40])
def test_a_line_that_was_cut_off_is_lost_alone(path: Path, cut: int) -> None:
    update_journal(path, {"a": 1})
    update_journal(path, {"b": "x" * 40})
    path.write_bytes(path.read_bytes()[:-cut])
    assert dict(read_journal(path)) == {"a": 1}
    update_journal(path, {"c": 3})
    assert dict(read_journal(path)) == {"a": 1, "c": 3}


def test_a_damaged_bit_costs_at_most_the_names_beside_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = {f"name {n}": {"value": n} for n in range(20)}
    update_journal(path, table)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        bad = bytearray(whole)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert not is_journal_intact(path) or bad[-1:] != b"\n"
        found = dict(read_journal(path))
        assert found.items() <= table.items() and len(found) >= 18
    assert "damaged" in caplog.text
    path.write_bytes(b"damaged\n" + whole)
    assert not is_journal_intact(path)
    update_journal(path, {"new": 1})
    assert is_journal_intact(path), "it was written anew"
    assert dict(read_journal(path)) == {**table, "new": 1}


def test_several_processes_add_to_one_journal(path: Path) -> None:
    code = "import sys; from pathlib import Path; from mousecmr_data._utils.journal import update_journal\n"
    code += "for n in range(50): update_journal(Path(sys.argv[1]), {f'{sys.argv[2]}-{n}': n})"
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    for n in range(50):
        update_journal(path, {f"d-{n}": n})
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert dict(read_journal(path)) == {f"{name}-{n}": n for name in "abcd" for n in range(50)}
