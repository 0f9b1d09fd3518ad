"""``mousecmr reproduce``: its messages without files, and a complete run on synthetic mice."""

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
    """A "network" that returns the truth shifted by one pixel and counts the images that it receives."""

    truth: Any
    images: int = 0
    origin: ClassVar[Any] = SimpleNamespace(name="oracle", trained_on="the truth", limits="None.")

    def segment(self, ds: xr.Dataset, *, postprocessing: str) -> xr.Dataset:
        assert postprocessing == "none"
        assert "mask" not in ds, "the network must not get the truth"
        self.images += ds.sizes["frame"] * ds.sizes["slice"]
        full = self.truth[ds.attrs["mouse"]]
        masks = full["mask"].values
        last = np.maximum.accumulate(np.where(full["labelled"].values, np.arange(len(masks)), 0))
        labels = np.roll(masks[last], 1, axis=3)[ds["frame"].values]
        return ds.assign(predicted=(("frame", "slice", "y", "x"), labels))


@pytest.fixture(scope="module")
def phantoms(phantom_cache: Path) -> md.Cohort:
    return md.load("test", source="phantom", mice=["Mouse6", "Mouse10"], cache=phantom_cache)


def test_without_files_and_weights_the_next_commands_are_shown(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["reproduce", "-o", str(tmp_path / "r"), "--cache", str(tmp_path / "c")])
    assert result.exit_code == 3, result.output
    assert "25 of 25 files are missing" in result.output
    cache = f"--cache {tmp_path / 'c'}"
    for words in (f"mousecmr fetch {cache}", f"mousecmr fetch --only-weights {cache}", "With --download"):
        assert words in result.output
    assert "--source phantom --weights phantom-small" in result.output
    assert not (tmp_path / "r").exists()


def test_every_policy_is_shown_beside_the_published_table(phantoms: md.Cohort, tmp_path: Path) -> None:
    oracle = Oracle(phantoms)
    reproduction = reproduce(oracle, {"internal": phantoms, "7 T": phantoms.select(["Mouse6"])})
    table = tabulate_side_by_side(reproduction, "internal")
    pairs = [f"{p} / {r}" for r in ("paper", "upstream-code") for p in ("annotated", "volume-curve")]
    assert list(table.columns[3:]) == ["published", pairs[0], "tolerance", "verdict", *pairs[1:]]
    assert len(table) == 6 * 7 + 6 + 2
    dice = table[table["name"] == "Dice LV blood pool, ED"].iloc[0]
    assert dice["published"] == 0.95 and 0.8 < dice["annotated / paper"] < 1
    assert len(tabulate_side_by_side(reproduction, "7 T")) == 2, "external cohorts have two published bounds"
    assert reproduction.synthetic and "nothing published was reproduced" in reproduction.verdict
    assert any("may have been trained on some of the mice" in n for n in reproduction.notes)
    times = {row["what"]: row for row in make_document(reproduction)["times"]}
    assert times["one 2D image"]["published_ms"] == 19.6 and times["one 2D image"]["n"] == 3
    written = write_reproduction(reproduction, tmp_path / "r")
    assert "SYNTHETIC" in written[0].read_text()
    assert len(list((tmp_path / "r" / "results").iterdir())) == 8
    assert json.loads((tmp_path / "r" / "reproduction.json").read_text())["reproduced"] is None


def test_without_the_volume_curve_only_labelled_frames_are_segmented(phantoms: md.Cohort) -> None:
    one = phantoms.select(["Mouse6"])
    oracle = Oracle(one)
    reproduce(oracle, {"internal": one}, phases=("annotated",), rules=("paper",))
    assert oracle.images == (1 + 2 + 2) * one["Mouse6"].sizes["slice"], "warm-up, timed pair, labelled frames"


def test_existing_masks_need_no_network(phantoms: md.Cohort) -> None:
    oracle = Oracle(phantoms)
    masks = {m: oracle.segment(phantoms[m].drop_vars("mask"), postprocessing="none") for m in phantoms.mice}
    from_masks = reproduce(masks, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    from_network = reproduce(oracle, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    assert [r.measured for r in from_masks.rows["internal"][from_masks.headline]] == pytest.approx(
        [r.measured for r in from_network.rows["internal"][from_network.headline]], nan_ok=True
    )
    assert from_masks.watch.seconds == {}


def test_real_mice_can_differ_from_the_published_table(phantoms: md.Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(phantoms)
    reproduction = reproduce(oracle, {"internal": phantoms}, rules=("paper",), phases=("annotated",))
    monkeypatch.setattr(type(reproduction), "synthetic", False)
    assert reproduction.disagreeing
    assert "rows agree" in reproduction.verdict


def test_a_complete_run_with_the_network_in_the_package(phantom_cache: Path, tmp_path: Path) -> None:
    words = ["reproduce", "--source", "phantom", "--weights", "phantom-small", "--limit", "1", "--also", "phantom-7T"]
    words += ["--phases", "annotated", "-o", str(tmp_path / "r"), "--cache", str(phantom_cache), "--device", "cpu"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output and "7 T" in result.output and "Caveat" in result.output
    document = json.loads((tmp_path / "r" / "reproduction.json").read_text())
    assert [c["cohort"] for c in document["cohorts"]] == ["internal", "7 T"]
    assert document["cohorts"][0]["mean_dice"] > 0.8
