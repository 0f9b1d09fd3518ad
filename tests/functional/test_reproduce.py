"""``mousecmr reproduce``: what it says when nothing is there, and the whole way on synthetic mice."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.evaluation.reproduction import make_document, reproduce, tabulate_side_by_side, write_reproduction

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("pingouin", reason="the extra evaluation is not installed")


@dataclass
class Oracle:
    """A "network" that knows the truth and is wrong by one pixel; it counts the images that it is given."""

    truth: Any
    images: int = 0
    origin: ClassVar[Any] = SimpleNamespace(name="oracle", trained_on="the truth", limits="None.")

    def segment(self, ds: xr.Dataset, *, postprocessing: str) -> xr.Dataset:
        assert postprocessing == "none"
        assert "mask" not in ds, "a network sees no truth"
        self.images += ds.sizes["frame"] * ds.sizes["slice"]
        full = self.truth[ds.attrs["mouse"]]
        masks = full["mask"].values
        last = np.maximum.accumulate(np.where(full["labelled"].values, np.arange(len(masks)), 0))
        labels = np.roll(masks[last], 1, axis=3)[ds["frame"].values]
        return ds.assign(predicted=(("frame", "slice", "y", "x"), labels))


@pytest.fixture(scope="module")
def phantoms(phantom_cache: Path) -> md.Cohort:
    return md.load("test", source="phantom", mice=["Mouse6", "Mouse10"], cache=phantom_cache)


def test_without_files_and_weights_it_says_what_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "-o", str(tmp_path / "r"), "--cache", str(tmp_path / "c")])
    assert result.exit_code == 3, result.output
    assert "25 of 25 files are missing" in result.output
    for words in ("mousecmr fetch  ", "mousecmr fetch --weights", "--source phantom --weights phantom-small"):
        assert words in result.output
    assert not (tmp_path / "r").exists()


def test_every_policy_stands_beside_the_published_table(phantoms: md.Cohort, tmp_path: Path) -> None:
    oracle = Oracle(phantoms)
    found = reproduce(oracle, {"internal": phantoms, "7 T": phantoms.select(["Mouse6"])})
    table = tabulate_side_by_side(found, "internal")
    pairs = [f"{p} / {r}" for r in ("paper", "upstream-code") for p in ("annotated", "volume-curve")]
    assert list(table.columns[3:]) == ["published", pairs[0], "tolerance", "verdict", *pairs[1:]]
    assert len(table) == 6 * 7 + 6 + 2
    dice = table[table["name"] == "Dice LV blood pool, ED"].iloc[0]
    assert dice["published"] == 0.95 and 0.8 < dice["annotated / paper"] < 1
    assert len(tabulate_side_by_side(found, "7 T")) == 2, "external cohorts have two published bounds"
    assert found.synthetic and "nothing published was reproduced" in found.verdict
    assert any("may have been trained on some of the mice" in n for n in found.notes)
    times = {row["what"]: row for row in make_document(found)["times"]}
    assert times["one 2D image"]["published_ms"] == 19.6 and times["one 2D image"]["n"] == 3
    written = write_reproduction(found, tmp_path / "r")
    assert "SYNTHETIC" in written[0].read_text()
    assert len(list((tmp_path / "r" / "results").iterdir())) == 8
    assert json.loads((tmp_path / "r" / "reproduction.json").read_text())["reproduced"] is None


def test_without_the_volume_curve_only_labelled_frames_are_segmented(phantoms: md.Cohort) -> None:
    one = phantoms.select(["Mouse6"])
    oracle = Oracle(one)
    reproduce(oracle, {"internal": one}, phases=("annotated",), rules=("paper",))
    assert oracle.images == (1 + 2 + 2) * one["Mouse6"].sizes["slice"], "warming up, the pair timed, the labelled ones"


def test_given_masks_need_no_network(phantoms: md.Cohort) -> None:
    oracle = Oracle(phantoms)
    masks = {m: oracle.segment(phantoms[m].drop_vars("mask"), postprocessing="none") for m in phantoms.mice}
    given = reproduce(masks, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    made = reproduce(oracle, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    assert [r.measured for r in given.rows["internal"][given.headline]] == pytest.approx(
        [r.measured for r in made.rows["internal"][made.headline]], nan_ok=True
    )
    assert given.watch.seconds == {}


def test_real_mice_that_differ_are_an_exit_code(phantoms: md.Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(phantoms)
    found = reproduce(oracle, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    monkeypatch.setattr(type(found), "synthetic", False)
    assert found.disagreeing
    assert "rows agree" in found.verdict


def test_the_whole_way_with_the_network_that_ships(phantom_cache: Path, tmp_path: Path) -> None:
    words = ["reproduce", "--source", "phantom", "--weights", "phantom-small", "--limit", "1", "--also", "phantom-7T"]
    words += ["--phases", "annotated", "-o", str(tmp_path / "r"), "--cache", str(phantom_cache), "--device", "cpu"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output and "7 T" in result.output and "Caveat" in result.output
    document = json.loads((tmp_path / "r" / "reproduction.json").read_text())
    assert [c["cohort"] for c in document["cohorts"]] == ["internal", "7 T"]
    assert document["cohorts"][0]["mean_dice"] > 0.8
