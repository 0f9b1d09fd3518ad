"""Ranks of networks, and how networks are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

for module in ("torch", "monai", "pingouin", "matplotlib"):
    pytest.importorskip(module, reason="the extra training is not installed")

from mousecmr_data.errors import ArgumentError, MissingDataError, OutputError, UnknownNameError  # noqa: E402
from mousecmr_data.evaluation.benchmark import find_config, rank_methods, run_benchmark  # noqa: E402
from mousecmr_data.evaluation.protocols import read_protocol  # noqa: E402


def make_values(shifts: dict[str, float], seeds: int = 3, mice: int = 25, spread: float = 0.02) -> pd.DataFrame:
    """Return scores of methods on the same mice: a mouse's difficulty, the method's shift, and noise."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0.8, 0.05, mice)
    rows = [
        (method, seed, f"M{k}", hard[k] + shift + rng.normal(0, spread))
        for method, shift in shifts.items()
        for seed in range(seeds)
        for k in range(mice)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "mouse", "value"])


def test_a_clear_order_is_stable_and_significant() -> None:
    ranking = rank_methods(make_values({"low": -0.1, "high": 0.1, "middle": 0.0}))
    assert ranking.table.index.tolist() == ["high", "middle", "low"]
    assert ranking.table["rank"].tolist() == [1, 2, 3]
    assert np.allclose(np.diag(ranking.table[["rank_1", "rank_2", "rank_3"]]), 1)
    assert (ranking.table["ci_low"] < ranking.table["mean"]).all()
    assert (ranking.tests["p_adjusted"] < 0.001).all() and (ranking.tests["difference"] < 0).all()
    assert ranking.tests[["a", "b"]].values.tolist() == [["high", "middle"], ["high", "low"], ["middle", "low"]]
    assert (ranking.tests["p_adjusted"] >= ranking.tests["p"]).all()


def test_equal_networks_are_not_told_apart() -> None:
    ranking = rank_methods(make_values({"a": 0.0, "b": 0.0}))
    assert 0.02 < ranking.table["rank_1"].iloc[1] < 0.98
    assert ranking.tests["p_adjusted"].iloc[0] > 0.05
    twin = make_values({"a": 0.0})
    ranking = rank_methods(pd.concat([twin, twin.assign(method="twin")]))
    assert ranking.table["rank_1"].tolist() == [1, 1] and np.isnan(ranking.tests["p"].iloc[0])


def test_intervals_hold_the_spread_of_mice_and_of_seeds() -> None:
    values = make_values({"a": 0.0}, spread=0.001)
    moved = values.assign(value=values["value"] + 0.05 * values["seed"])  # seeds that differ
    widths = [float(np.ptp(rank_methods(v).table[["ci_low", "ci_high"]].to_numpy())) for v in (values, moved)]
    assert 0.02 < widths[0] < 0.06 and widths[1] > 1.5 * widths[0]


def test_few_mice_have_no_interval_and_missing_values_are_left_out() -> None:
    table = rank_methods(make_values({"a": 0.0, "b": 0.1}, mice=2)).table
    assert table[["ci_low", "ci_high", "rank_1"]].isna().all(axis=None)
    values = make_values({"a": 0.0, "b": 0.1})
    values.loc[values["mouse"] == "M0", "value"] = np.nan
    table = rank_methods(values).table
    assert table.notna().all(axis=None) and table.index.tolist() == ["b", "a"]


def test_networks_are_recipes_classes_or_files(tmp_path: Path) -> None:
    name, config = find_config("phantom-small", {"epochs": 3})
    assert (name, config.pool_mice, config.epochs, config.reduce) == ("phantom-small", 0, 3, 2)
    name, config = find_config("monai.networks.nets:UNet", {"network_args": {"spatial_dims": 2}})
    assert (name, config.network) == ("UNet", "monai.networks.nets:UNet")
    for path, expected in ((tmp_path / "wide.json", "wide"), (tmp_path / "run-3/config.json", "run-3")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"batch_size": 2}), encoding="utf-8")
        name, config = find_config(str(path))
        assert (name, config.batch_size) == (expected, 2)
    with pytest.raises(MissingDataError, match=r"other\.json"):
        find_config("other.json")
    with pytest.raises(UnknownNameError, match="phantom-small"):
        find_config("small")
    with pytest.raises(ArgumentError, match="of the protocol only"):
        find_config("phantom-small", {"pool_mice": 3})


def test_a_run_needs_networks_with_names_for_folders(tmp_path: Path) -> None:
    config = find_config("phantom-small")[1]
    for methods in ({}, {"../up": config}):
        with pytest.raises(ArgumentError):
            run_benchmark(read_protocol("internal"), methods, tmp_path / "out", source="phantom-64")
    assert not (tmp_path / "out").exists()


def test_files_of_others_and_inputs_are_no_place_for_a_step(tmp_path: Path) -> None:
    config, protocol = find_config("phantom-small")[1], read_protocol("internal")
    notes = tmp_path / "out/mine/seed-0/all/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.touch()
    with pytest.raises(OutputError, match="seed-0 holds all"):
        run_benchmark(protocol, {"mine": config}, tmp_path / "out", source="phantom-64", seeds=[0])
    cache = tmp_path / "cache"
    with pytest.raises(OutputError, match="input"):
        run_benchmark(protocol, {"mine": config}, cache / "phantom-64/2/out", source="phantom-64", cache=cache)
    assert notes.exists() and not cache.exists()
