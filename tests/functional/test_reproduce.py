"""``mousecmr reproduce``: its messages without files, and a complete run on synthetic mice."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from conftest import SHARED
from evaluated import beating, make_dataset

import mousecmr_data as md
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data.cli.main import main
from mousecmr_data.evaluation.reproduction import (
    HEADLINE,
    make_document,
    reproduce,
    tabulate_side_by_side,
    write_reproduction,
)
from mousecmr_data.schema.manifest import load_manifest

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


@pytest.fixture
def small_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> md.Cohort:
    """Three small mice that take the place of the dataset: the embedded manifest is theirs."""
    cohort = make_dataset(tmp_path, {f"A{k}": beating(f"A{k}", seed=k) for k in range(3)})
    replaced = replace(cohort.source.manifest, published=load_manifest().published)
    monkeypatch.setattr("mousecmr_data.evaluation.reproduction.load_manifest", lambda: replaced)
    cohort.source = replace(cohort.source, manifest=replaced)
    return cohort


def write_masks(path: Path, mice: md.Cohort) -> None:
    """Write masks that are off by one pixel."""
    root = zarr.open_group(path, mode="w")
    for name in mice:
        root.create_group(name).create_array("predicted", data=np.roll(mice[name]["mask"].values, 1, axis=3))


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
    assert reproduction.headline == HEADLINE and list(table.columns[-3:]) == pairs[1:]
    assert len(table) == 6 * 8 + 6 + 3 + 2
    dice = table[table["name"] == "Dice LV blood pool, ED"].iloc[0]
    assert (dice["published"], dice["published_sd"]) == (0.95, 0.02) and 0.8 < dice["measured"] < 1
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


def test_only_the_network_of_the_article_on_its_own_files_can_reproduce(
    small_dataset: md.Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each condition alone decides: files, whole test split, weights, policies, whole cohort."""
    network = Oracle(small_dataset)
    run = partial(reproduce, rules=("paper",), phases=("annotated",))
    assert run(network, {"internal": small_dataset}).departures == ["the weights have no known SHA-256"]
    monkeypatch.setattr(Oracle, "find_departure", lambda *_: "", raising=False)
    monkeypatch.setattr("mousecmr_data.evaluation.reproduction._NetworkMasks.find_departure", lambda *_: "")
    whole = run(network, {"internal": small_dataset})
    assert whole.departures == [] and whole.reproduced is False and whole.outcome == "differs"
    part = run(network, {"internal": small_dataset.select(["A0"])})
    assert part.departures == ["the mice are not the whole test split"] and part.reproduced is None
    trial = run(network, {"internal": small_dataset}, limit=1)
    assert trial.trial and trial.reproduced is None and trial.verdict.startswith("TRIAL with 1 mouse of each")
    assert "agrees" not in trial.verdict and "differs" not in trial.verdict
    assert "existing masks" in run(dict(small_dataset), {"internal": small_dataset}).departures[0]
    other = run(network, {"internal": small_dataset}, rules=("none",))
    assert "the article's policies, annotated / paper" in other.departures[0]
    path = small_dataset.source.get_path("A1")
    with path.open("ab") as f:
        f.write(b"x")
    assert run(network, {"internal": small_dataset}).departures == ["files without the published checksum: A1"]


def test_a_manifest_of_ones_own_reproduces_nothing(small_dataset: md.Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the dataset is mousecmr-130 again
    monkeypatch.setattr("mousecmr_data.evaluation.reproduction._NetworkMasks.find_departure", lambda *_: "")
    result = reproduce(Oracle(small_dataset), {"internal": small_dataset}, rules=("paper",), phases=("annotated",))
    assert result.departures == ["the mice of lab are not the dataset's own files"]
    assert result.reproduced is None and "Compared with the published table: differs" in result.verdict


def test_weights_are_recognised_by_their_bytes_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mousecmr_data.inference import predictor as module

    keras = SHARED / "keras" / "unet3plus_small_keras.h5"
    if not keras.is_file():
        pytest.skip("the small Keras file is not beside this checkout (../shared/keras)")
    network = module.load_model(keras, engine="eager")
    assert "are not the published ones" in module.find_weights_departure(network, tmp_path)
    entry = replace(next(iter(load_manifest().weights.values())), sha256=compute_sha256(keras))
    monkeypatch.setattr(module, "load_manifest", lambda: SimpleNamespace(weights={entry.name: entry}))
    assert "is not in the cache" in module.find_weights_departure(network, tmp_path)
    path = module.get_weights_folder(entry, tmp_path) / Path(entry.path).name
    path.parent.mkdir(parents=True)
    path.write_bytes(keras.read_bytes())
    assert module.find_weights_departure(network, tmp_path) == ""
    next(network.network.parameters()).data.add_(1e-3)
    assert "other numbers" in module.find_weights_departure(network, tmp_path)


@pytest.mark.parametrize(("outcome", "code"), [("agrees", 0), ("better", 4), ("differs", 5), (None, 3)])
def test_each_outcome_has_its_exit_status(
    small_dataset: md.Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str | None, code: int
) -> None:
    from mousecmr_data.evaluation import reproduction

    monkeypatch.setattr(reproduction, "judge", lambda *_: (outcome, ["because"]))
    masks = tmp_path / "masks.zarr"
    write_masks(masks, small_dataset)
    words = ["reproduce", "--source", small_dataset.source.manifest.source, "--predictions", masks, "--json"]
    words += ["--phases", "annotated", "-o", tmp_path / "r", "--cache", small_dataset.source.cache_root]
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert document["outcome"] == outcome and document["trial"] is False and document["reproduced"] is None
    result = CliRunner().invoke(main, [*(str(w) for w in words), "--limit", "1"])
    document = json.loads(result.stdout)
    assert result.exit_code == (6 if outcome else 3) and document["trial"] is True and document["limit"] == 1
    assert "TRIAL" in (tmp_path / "r" / "reproduction.html").read_text()


def test_a_missing_prediction_is_not_a_disagreement(small_dataset: md.Cohort, tmp_path: Path) -> None:
    masks = tmp_path / "masks.zarr"
    write_masks(masks, small_dataset.select(["A0"]))
    words = ["reproduce", "--source", small_dataset.source.manifest.source, "--predictions", str(masks)]
    words += ["-o", str(tmp_path / "r"), "--cache", str(small_dataset.source.cache_root)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3 and "A1 (missing)" in result.output and "A2 (missing)" in result.output
    assert not (tmp_path / "r").exists()


def test_a_complete_run_with_the_network_in_the_package(phantom_cache: Path, tmp_path: Path) -> None:
    words = ["reproduce", "--source", "phantom", "--weights", "phantom-small", "--limit", "1", "--also", "phantom-7T"]
    words += ["--phases", "annotated", "-o", str(tmp_path / "r"), "--cache", str(phantom_cache), "--device", "cpu"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 6, result.output
    assert "TRIAL" in result.output and "Trial" not in (tmp_path / "r" / "reproduction.html").read_text()[:10]
    assert "SYNTHETIC" in result.output and "7 T" in result.output and "Caveat" in result.output
    document = json.loads((tmp_path / "r" / "reproduction.json").read_text())
    assert [c["cohort"] for c in document["cohorts"]] == ["internal", "7 T"]
    assert document["trial"] and document["outcome"] is None
    assert document["weights"]["sha256"] == md.load_model("phantom-small").origin.sha256
    assert document["cohorts"][0]["mean_dice"] > 0.8


def test_the_page_states_the_outcome_and_what_it_is_of(small_dataset: md.Cohort, tmp_path: Path) -> None:
    result = reproduce(Oracle(small_dataset), {"internal": small_dataset}, rules=("paper",), phases=("annotated",))
    page = write_reproduction(result, tmp_path / "r")[0].read_text()
    assert "<h1>Differs from the published table</h1>" in page and 'class="outcome differs"' in page
    assert '<tr class="differs">' in page and "✗ differs" in page, "readable without colour"
    for words in ("internal: 3 mice of lab, version 1", "annotated / paper", "65.6 ± 10.0", result.created[:10]):
        assert words in page, words
    for words in ("best A", "Post-hoc tests", "published ρ", "The article&#39;s ANOVA", "−0.61", "4620.0 ± 676.0"):
        assert words in page, words
