"""Protocols of the benchmark: lists, checksums, conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluated
import make_protocols
import numpy as np
import pytest

from mousecmr_data.errors import ArgumentError, ManifestError, UnknownNameError
from mousecmr_data.evaluation import protocols
from mousecmr_data.evaluation.protocols import CORRUPTIONS, Condition, corrupt, hash_protocol, read_protocol
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema.manifest import load_manifest

NAMES = ("external", "few", "folds", "half-supervised", "internal", "robust")
VERSIONS = {
    "external": (1, "d3905d5eb349"),
    "few": (1, "acc942599a8f"),
    "folds": (1, "d8bc8cee77db"),
    "half-supervised": (1, "88c734abf03a"),
    "internal": (1, "9b7ad97bbf97"),
    "robust": (1, "277383aa44f1"),
}
FOLDER = protocols.PROTOCOLS_FOLDER


def test_the_protocols_of_the_benchmark() -> None:
    assert tuple(protocols.list_protocols()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_what_the_script_makes(name: str) -> None:
    text = make_protocols.format_protocol(make_protocols.make_protocols()[name])
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", NAMES)
def test_mice_are_those_of_the_dataset_and_of_the_phantom(name: str) -> None:
    protocol = read_protocol(name)
    real, synthetic = load_manifest().files, make_plans("phantom")
    assert set(real) == set(synthetic) == set(make_plans("phantom-64"))
    for part in protocol.parts:
        assert {*part.train, *part.validation} <= set(real)
        for condition in part.conditions:
            assert set(condition.mice) <= set(make_plans(condition.source) if condition.source else real)


def test_published_versions_do_not_change() -> None:
    """Another content needs another version: add it here and in the script."""
    found = {name: (p.version, p.sha256[:12]) for name, p in zip(NAMES, map(read_protocol, NAMES), strict=True)}
    assert found == VERSIONS


def test_few_draws_are_nested_and_test_the_same_mice() -> None:
    few, internal = read_protocol("few"), read_protocol("internal").parts[0]
    assert [len(p.train) for p in few.parts] == [5, 10, 25, 80] * 3
    for smaller, larger in zip(few.parts, few.parts[1:], strict=False):
        assert set(smaller.train) < set(larger.train) or len(smaller.train) == 80
    assert all(p.conditions == internal.conditions and set(p.train) < set(internal.train) for p in few.parts)
    assert len({p.train for p in few.parts}) == 12


def test_folds_test_every_mouse_once_and_are_stratified() -> None:
    plans, tested = make_plans("phantom"), []
    for part in read_protocol("folds").parts:
        (condition,) = part.conditions
        tested += condition.mice
        groups = [plans[m].phenotype for m in condition.mice]
        for group in {p.phenotype for p in plans.values()}:
            share = sum(p.phenotype == group for p in plans.values()) / 5
            assert abs(groups.count(group) - share) <= 1
    assert sorted(tested) == sorted(plans)


def change(table: dict[str, Any], **values: Any) -> dict[str, Any]:
    changed = {**table, **values}
    return {**changed, "sha256": hash_protocol(changed)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": [{"name": "all", "train": ["Mouse6"]}]}, "two sides"),
        ({"parts": [{"name": "../all", "train": ["Mouse1"]}]}, r"\.\./all"),
        ({"parts": [{"name": "all", "train": []}]}, "no mice"),
        ({"conditions": [{"name": "clean"}, {"name": "clean"}]}, "clean"),
        ({"conditions": [{"name": "clean", "corruption": "fog"}]}, "fog"),
        ({"parts": 3}, "not a valid protocol"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    table = json.loads((FOLDER / "internal.json").read_text(encoding="utf-8"))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(change(table, **values)), encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        read_protocol(str(path))


def test_a_protocol_that_was_changed_is_refused_and_can_be_made_ones_own(tmp_path: Path) -> None:
    table = json.loads((FOLDER / "internal.json").read_text(encoding="utf-8"))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**table, "seed": 1}), encoding="utf-8")
    with pytest.raises(ManifestError, match="checksum") as e:
        read_protocol(str(path))
    sha256 = str(e.value.next_step).rpartition(" ")[2]
    path.write_text(json.dumps({**table, "seed": 1, "sha256": sha256}), encoding="utf-8")
    assert read_protocol(str(path)).seed == 1


def test_an_unknown_name_or_source_names_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'robust'"):
        read_protocol("rubust")
    with pytest.raises(ArgumentError, match="--source phantom"):
        read_protocol("external").check_source("mousecmr-130")


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_seeded_and_grows(kind: str) -> None:
    ds = evaluated.beating("M0")
    image = np.random.default_rng(0).normal(3000, 900, ds["image"].shape) + 4000.0 * ds["mask"].values
    ds = ds.assign(image=(ds["image"].dims, image.clip(0).astype(np.uint16)))
    levels = [c for c in read_protocol("robust").parts[0].conditions if c.corruption == kind]
    assert [c.severity for c in levels] == [1, 2, 3, 4, 5]
    changes = []
    for condition in levels:
        worse, again = corrupt(ds, condition), corrupt(ds, condition)
        assert worse["image"].identical(again["image"]) and worse["image"].dtype == np.uint16
        assert worse["mask"].identical(ds["mask"])
        changes.append(float(np.abs(worse["image"].values.astype(float) - ds["image"].values).mean()))
        if kind == "noise":
            assert not np.array_equal(corrupt(ds, condition, seed=1)["image"], worse["image"])
    if kind != "missing-slices":
        assert changes == sorted(changes) and changes[0] > 0


def test_missing_slices_are_the_same_in_all_frames_and_leave_one() -> None:
    ds = evaluated.beating("M0")
    worse = corrupt(ds, Condition("missing-slices-5", ("M0",), "", "missing-slices", 5, 5))["image"]
    blank = ~worse.any(("y", "x")).values
    assert (blank == blank[0]).all() and blank[0].sum() == ds.sizes["slice"] - 1


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("clean", False),
        ("blur-1", False),
        ("low-resolution-2", False),
        ("low-resolution-5", True),
        ("missing-slices-1", True),
        ("noise-1", True),
    ],
)
def test_what_is_finer_than_a_pixel_changes_no_image(name: str, changed: bool) -> None:
    (condition,) = (c for c in read_protocol("robust").parts[0].conditions if c.name == name)
    assert protocols.changes_images(condition, (0.4, 0.4)) == changed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("few", "--protocol few/mice-05-draw-1"),
        ("few/", "has 12 parts"),
        ("few/mice-5", "no part 'mice-5'"),
        ("fex/all", "no protocol 'fex'"),
        ("fex", "did you mean 'few'"),
    ],
)
def test_a_part_is_named_where_there_are_several(name: str, message: str) -> None:
    with pytest.raises((ArgumentError, UnknownNameError)) as error:
        protocols.find_part(name)
    assert message in str(error.value)


def test_a_part_is_found_by_its_name_and_by_that_of_its_protocol(tmp_path: Path) -> None:
    assert protocols.find_part("internal")[1] == read_protocol("internal").parts[0]
    assert protocols.find_part("few/mice-10-draw-2")[1].name == "mice-10-draw-2"
    own = tmp_path / "own.json"
    own.write_text((FOLDER / "few.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert protocols.find_part(f"{own}/mice-10-draw-2")[1].name == "mice-10-draw-2"
