"""The numbers in texts are those in the files that the scripts of ``benchmarks/`` wrote."""

import json
import re
import tomllib
from pathlib import Path

import fill_numbers
import pytest

ROOT = fill_numbers.ROOT
RECORDS = sorted((ROOT / "benchmarks").glob("*.json"))
SCRIPTS = [p for p in sorted((ROOT / "benchmarks").glob("*.py")) if p.name != "record.py"]


@pytest.mark.parametrize("page", fill_numbers.PAGES, ids=lambda p: p.name)
def test_filling_the_numbers_changes_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert fill_numbers.fill(text) == text, "python scripts/fill_numbers.py"


def test_a_number_changed_by_hand_is_put_right() -> None:
    text = "EF <!-- numbers:arrays.opening -->9.99 s<!-- end -->, x"
    filled = fill_numbers.fill(text)
    assert "9.99" not in filled
    assert filled.startswith("EF <!--") and filled.endswith("<!-- end -->, x")
    assert "±" in fill_numbers.fill("[measured]\n# numbers:accuracy.card\n# end\n")


def test_each_block_stands_in_a_text_and_is_closed() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in fill_numbers.PAGES)
    named = set(re.findall(r"numbers:([\w.]+)", texts))
    assert named == set(fill_numbers.BLOCKS)
    assert len(re.findall(r"numbers:[\w.]+", texts)) == len(fill_numbers.BLOCK.findall(texts))


def test_no_record_is_of_earlier_weights() -> None:
    assert fill_numbers.find_outdated() == [], "python scripts/fill_numbers.py --measure"


def test_new_weights_name_the_records_to_measure_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "card.toml"
    card.write_text('[weights]\nsha256 = "new"\n')
    monkeypatch.setattr(fill_numbers, "CARD", card)
    assert {"accuracy", "region", "region_agreement", "inference_small"} <= set(fill_numbers.find_outdated())
    assert "arrays" not in fill_numbers.find_outdated()


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_a_record_says_how_it_was_got_and_names_no_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    run = json.loads(text)["run"]
    assert (path.parent / run["script"]).is_file()
    assert not re.search(r"(?<![\w.)])(/|\.\./)\w", text), "a path of one machine"
    assert any(name.partition(".")[0] == path.stem for name in fill_numbers.BLOCKS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_every_benchmark_writes_a_record(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "make_parser(__doc__)" in text and "write_record(" in text and "[--json FILE]" in text


def test_the_accuracy_is_that_of_the_weights_in_the_package() -> None:
    accuracy = fill_numbers.read_record("accuracy")
    card = tomllib.loads(fill_numbers.CARD.read_text(encoding="utf-8"))
    assert accuracy["sha256"] == card["weights"]["sha256"]
    assert accuracy["postprocessing"] == "paper"
