"""From two networks to an entry of the leaderboard, by the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import pandas as pd
import pytest
from click.testing import CliRunner, Result

for module in ("torch", "monai", "pingouin", "matplotlib"):
    pytest.importorskip(module, reason="the extra training is not installed")

import small_protocol  # noqa: E402
import torch  # noqa: E402

from mousecmr_data.cli.main import main  # noqa: E402
from mousecmr_data.evaluation import protocols  # noqa: E402
from mousecmr_data.evaluation.protocols import read_protocol  # noqa: E402

TABLES = ("ranking.csv", "tests.csv", "overlap.csv", "measures.csv", "by_condition.csv", "by_phenotype.csv")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["benchmark", *map(str, words)])


def read_tables(folder: Path) -> dict[str, str]:
    """Return the tables that hold no times."""
    return {name: (folder / "tables" / name).read_text(encoding="utf-8") for name in TABLES}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, phantom_cache: Path) -> Iterator[list[str | Path]]:
    """The arguments of a small run; its protocol is found by name, as if it were one of the package."""
    folder = tmp_path_factory.mktemp("protocols")
    small_protocol.write_protocol(folder)
    networks = [
        w for path in small_protocol.write_networks(tmp_path_factory.mktemp("nets")) for w in ("--network", path)
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "PROTOCOLS_FOLDER", folder)
        yield ["run", "three", *networks, "--source", small_protocol.SOURCE, "--cache", phantom_cache]
    torch.set_num_threads(before)
    read_protocol.cache_clear()


@pytest.fixture(scope="module")
def done(words: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "out"
    result = call(*words, "--seeds", 2, "-o", folder)
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output and "benchmark submit" in result.output
    return folder


def test_a_run_writes_a_page_with_every_section(done: Path) -> None:
    page = (done / "benchmark.html").read_text(encoding="utf-8")
    for text in ("Ranking", "Overlap", "ejection fraction", "Conditions", "Groups", "Cost", "Best, median, worst"):
        assert text in page
    assert read_protocol("three").sha256[:16] in page and "SYNTHETIC DATA" in page
    ranking = pd.read_csv(done / "tables/ranking.csv")
    assert sorted(ranking["method"]) == ["ours", "stranger"]
    assert (ranking["ci_low"] <= ranking["mean"]).all() and (ranking["mean"] <= ranking["ci_high"]).all()
    cost = pd.read_csv(done / "tables/cost.csv").set_index("method")
    assert (cost[["parameters", "gflop", "memory_mb", "seconds_per_cine", "training_seconds"]] > 0).all(axis=None)
    assert sorted(p.name for p in (done / "ours").iterdir()) == ["seed-0", "seed-1"]
    assert not list((done / ".work").rglob("*.safetensors"))


def test_finished_steps_are_kept_and_lost_ones_are_done_again(
    done: Path, words: list[str | Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done, tmp_path / "out"))
    kept = (folder / "ours/seed-0/all/step.json").stat().st_mtime_ns
    shutil.rmtree(folder / "ours/seed-1/all")
    result = call(*words, "--seeds", 2, "-o", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "ours/seed-0/all/step.json").stat().st_mtime_ns == kept
    assert read_tables(folder) == read_tables(done)


def test_two_runs_with_one_seed_give_the_same_numbers(done: Path, words: list[str | Path], tmp_path: Path) -> None:
    """All tables but the times in one of them, and every mask."""
    result = call(*words, "--seeds", 2, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for table in (done / "tables").glob("*.csv"):
        if table.name != "cost.csv":
            assert (tmp_path / "out/tables" / table.name).read_text() == table.read_text(), table.name
    ours, theirs = (
        pd.read_csv(folder / "tables/cost.csv").drop(columns=["seconds_per_cine", "training_seconds"])
        for folder in (done, tmp_path / "out")
    )
    pd.testing.assert_frame_equal(ours, theirs)
    masks = [p.relative_to(done) for p in done.rglob("*.h5")]
    assert len(masks) == 2 * 2 * 2 * 3  # networks, seeds, conditions, mice
    for path in masks:
        with h5py.File(done / path) as a, h5py.File(tmp_path / "out" / path) as b:
            assert (a["Masks"][()] == b["Masks"][()]).all()


def test_processes_share_the_steps(done: Path, words: list[str | Path], tmp_path: Path) -> None:
    own = small_protocol.write_protocol(tmp_path)  # other processes know the package's protocols, and files
    result = call("run", own, *words[2:], "--seeds", 2, "--workers", 2, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    ours, theirs = (pd.read_csv(folder / "tables/ranking.csv") for folder in (done, tmp_path / "out"))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3)


def test_other_settings_in_the_same_folder_are_refused(done: Path, words: list[str | Path]) -> None:
    result = call(*words, "--seeds", 2, "--set", "learning_rate=0.01", "-o", done)
    assert result.exit_code == 1
    assert "another config" in result.output and "learning_rate" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--network", "phantom-smal"], "phantom-small"),
        (["--network", "missing.json"], "There is no file"),
        (["--set", "pool_mice=5"], "mice of the protocol only"),
        (["--source", "phantom-7T"], "cannot be followed"),
    ],
)
def test_what_cannot_be_run_is_named_before_anything_is_done(
    words: list[str | Path], change: list[str], message: str, tmp_path: Path
) -> None:
    result = call(*words, *change, "-o", tmp_path / "out")
    assert result.exit_code == 1 and message in result.output
    assert not (tmp_path / "out").exists()


def test_a_network_of_the_run_becomes_an_entry_that_passes(done: Path, phantom_cache: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    options = ("--source", small_protocol.SOURCE, "--leaderboard", board, "--cache", phantom_cache)
    for name in small_protocol.NETWORKS:
        result = call("submit", done / name, "--protocol", "three", "--method", f"the {name} of a test", *options)
        assert result.exit_code == 0, result.output
    card = json.loads((board / "ours/card.json").read_text(encoding="utf-8"))
    assert card["training"]["all"] == {
        "train": small_protocol.MICE["train"],
        "validation": small_protocol.MICE["validation"],
    }
    assert card["seeds"] == [0, 1] and card["parameters"] > 0 and card["synthetic"] is True
    check = ("check", "--leaderboard", board, "--cache", phantom_cache)
    result = call(*check, "--masks", done, "--page", tmp_path / "index.html")
    assert result.exit_code == 0, result.output
    assert result.output.count("scored again") == 2
    assert "three on phantom-64" in (tmp_path / "index.html").read_text(encoding="utf-8")
    (done / "ours/seed-0/all/clean/Mouse6.h5").rename(tmp_path / "Mouse6.h5")
    result = call(*check, "--masks", done, "--json")
    (tmp_path / "Mouse6.h5").rename(done / "ours/seed-0/all/clean/Mouse6.h5")
    assert result.exit_code == 1
    problems = {c["name"]: c["problems"] for c in json.loads(result.output)["checks"]}
    assert "Mouse6" in problems["ours"][0] and problems["stranger"] == []


@pytest.mark.usefixtures("words")
def test_the_protocols_are_listed() -> None:
    (row,) = json.loads(call("list", "--json").output)
    assert (row["name"], row["parts"], row["conditions"], row["test_mice"]) == ("three", 1, 2, 3)
    assert row["sha256"][:12] in call("list").output
