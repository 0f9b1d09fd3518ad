import pickle
from pathlib import Path

import pytest

import mousecmr_data as md
from mousecmr_data.facts.manifest import embedded
from mousecmr_data.phantom import COHORTS, plans
from mousecmr_data.phantom.source import PhantomSource, make, manifest


@pytest.mark.parametrize("cohort", COHORTS)
def test_manifest(cohort: str) -> None:
    m = manifest(cohort)
    assert m.synthetic
    assert m.url == ""
    assert m.published is None
    assert set(m.files) == set(plans(cohort))
    splits = m.split_scheme("upstream-notebook").mice
    assert sorted(mouse for part in splits.values() for mouse in part) == sorted(m.files)
    assert list(splits) == (["train", "validation", "test"] if cohort == "phantom" else ["external"])


def test_splits_are_the_real_ones() -> None:
    ours, real = (m.split_scheme("upstream-notebook").mice for m in (manifest("phantom"), embedded()))
    assert dict(ours) == dict(real)


def test_the_table_makes_nothing(tmp_path: Path) -> None:
    cohort = md.load(source="phantom", cache=tmp_path)
    table = cohort.table
    assert len(table) == 130
    assert table["phenotype"].value_counts().to_dict() == {g.name: g.n_mice for g in embedded().groups}
    assert set(table["checksum"]) == {"not made yet"}
    assert bool(table["synthetic"].all())
    assert list(tmp_path.iterdir()) == []


def test_made_when_opened_and_says_so(phantom_cache: Path) -> None:
    cohort = md.load("validation", source="phantom", cache=phantom_cache)
    ds = cohort["Mouse5"]
    assert cohort.table.loc["Mouse5", "checksum"] == "made here"
    assert ds.attrs["synthetic"] is True
    assert ds.attrs["split"] == "validation"
    assert ds.attrs["phenotype"] == plans("phantom")["Mouse5"].phenotype
    row = cohort.table.loc["Mouse5"]
    assert (row["slices"], row["frames"]) == (ds.sizes["slice"], ds.sizes["frame"])
    assert ds.phase.values.tolist().index("ES") == row["es_frame"]
    assert md.measure(ds).synthetic


def test_made_in_processes_as_in_one(tmp_path: Path, phantom_cache: Path) -> None:
    source = pickle.loads(pickle.dumps(PhantomSource("phantom", tmp_path)))
    done: list[str] = []
    make(source, ["Mouse5", "Mouse1"], 2, done.append)
    assert sorted(done) == ["Mouse1", "Mouse5"]
    one = md.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"].load()
    two = md.load(mice=["Mouse5"], source="phantom", cache=tmp_path)["Mouse5"].load()
    assert one.identical(two)
    make(source, ["Mouse5"], 1, done.append)
    assert len(done) == 2, "what is there is not made again"
