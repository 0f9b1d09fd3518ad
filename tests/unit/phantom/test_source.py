import pickle
from pathlib import Path

import pytest

import mousecmr_data as md
from mousecmr_data.errors import ArgumentError, ChecksumError
from mousecmr_data.phantom import COHORTS, make_plans, source
from mousecmr_data.phantom.source import PhantomSource, make_files, make_manifest
from mousecmr_data.schema import EXTERNAL_PHANTOMS, SMALL_PHANTOM
from mousecmr_data.schema.manifest import load_manifest


@pytest.mark.parametrize("cohort", COHORTS)
def test_manifest(cohort: str) -> None:
    m = make_manifest(cohort)
    assert m.synthetic
    assert m.url == ""
    assert m.published is None
    assert set(m.files) == set(make_plans(cohort))
    splits = m.split_scheme("upstream-notebook").mice
    assert sorted(mouse for part in splits.values() for mouse in part) == sorted(m.files)
    assert list(splits) == (["external"] if cohort in EXTERNAL_PHANTOMS else ["train", "validation", "test"])


def test_splits_are_the_real_ones() -> None:
    ours, real = (m.split_scheme("upstream-notebook").mice for m in (make_manifest("phantom"), load_manifest()))
    assert dict(ours) == dict(real)


def test_the_table_makes_no_file(tmp_path: Path) -> None:
    cohort = md.load(source="phantom", cache=tmp_path)
    table = cohort.to_dataframe()
    assert len(table) == 130
    assert table["phenotype"].value_counts().to_dict() == {g.name: g.n_mice for g in load_manifest().groups}
    assert set(table["checksum"]) == {"not made yet"}
    assert bool(table["synthetic"].all())
    assert list(tmp_path.iterdir()) == []


def test_files_are_made_when_opened_and_marked_synthetic(phantom_cache: Path) -> None:
    cohort = md.load("validation", source="phantom", cache=phantom_cache)
    ds = cohort["Mouse5"]
    assert cohort.to_dataframe().loc["Mouse5", "checksum"] == "made here"
    assert ds.attrs["synthetic"] == 1
    assert ds.attrs["split"] == "validation"
    assert ds.attrs["phenotype"] == make_plans("phantom")["Mouse5"].phenotype
    row = cohort.to_dataframe().loc["Mouse5"]
    assert (row["slices"], row["frames"]) == (ds.sizes["slice"], ds.sizes["frame"])
    assert ds.phase.values.tolist().index("ES") == row["es_frame"]
    assert md.measure(ds).synthetic


def test_several_processes_make_the_same_files_as_one(tmp_path: Path, phantom_cache: Path) -> None:
    source = pickle.loads(pickle.dumps(PhantomSource("phantom", tmp_path)))
    counts: list[int] = []
    make_files(source, ["Mouse5", "Mouse1"], 2, counts.append)
    assert counts == [1, 1]
    one = md.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"].load()
    two = md.load(mice=["Mouse5"], source="phantom", cache=tmp_path)["Mouse5"].load()
    assert one.identical(two)
    make_files(source, ["Mouse5"], 1, counts.append)
    assert len(counts) == 2, "existing files are not made again"


def test_python_makes_several_files_on_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], int]] = []
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    monkeypatch.setattr(
        "mousecmr_data.phantom.source.map_in_processes", lambda _, mice, n, *__: calls.append((mice, n))
    )
    mice = ["Mouse1", "Mouse2"]
    md.fetch(mice, source="phantom", cache=tmp_path, workers=3)
    md.load(mice=mice, source="phantom", cache=tmp_path).source.prepare(mice)
    assert calls == [(mice, 3), (mice, 5)]


@pytest.mark.parametrize("cohort", ["phantom-7T", "phantom-11.7T"])
def test_other_cohorts_are_valid_and_have_their_own_voxel_size(cohort: str, tmp_path: Path) -> None:
    mouse = next(iter(make_plans(cohort)))
    md.fetch([mouse], source=cohort, cache=tmp_path)
    (result,) = md.verify([mouse], source=cohort, cache=tmp_path)
    assert not result.has_problem, result
    spacing = make_manifest(cohort).acquisition["pixel_spacing"]
    assert spacing.value == pytest.approx(make_plans(cohort)[mouse].voxel_size_mm[1:])
    assert "phantom" in spacing.source


def test_counts_are_those_of_the_phantom() -> None:
    counts = make_manifest("phantom").splits["upstream-notebook"].labelled_images_2d
    assert sum(counts.values()) == sum(p.n_slices * len(p.labelled_frames) for p in make_plans("phantom").values())
    assert dict(counts) != dict(load_manifest().splits["upstream-notebook"].labelled_images_2d)


def test_a_damaged_file_is_made_again_on_repair(tmp_path: Path) -> None:
    path = md.fetch(["Mouse5"], source="phantom", cache=tmp_path)["Mouse5"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (damaged,) = md.verify(["Mouse5"], source="phantom", cache=tmp_path)
    assert damaged.has_problem
    (repaired,) = md.verify(["Mouse5"], source="phantom", cache=tmp_path, repair=True)
    assert not repaired.has_problem
    assert path.stat().st_size == len(whole)


def test_a_phantom_cannot_be_bundled(tmp_path: Path) -> None:
    from mousecmr_data.download.bundle import create_bundle

    md.fetch(["Mouse5"], source="phantom", cache=tmp_path)
    with pytest.raises(md.errors.MouseCMRError):
        create_bundle(make_manifest("phantom"), ["Mouse5"], tmp_path / "b.zip", cache=tmp_path)
    assert not (tmp_path / "b.zip").exists()


def test_the_small_cohort_is_the_same_everywhere(phantom_cache: Path) -> None:
    small = md.load("test", source="phantom", size="small", cache=phantom_cache)
    assert (small.source.name, len(small)) == (SMALL_PHANTOM, 25)
    ds = small["Mouse6"]  # made, and compared with its frozen checksum
    assert ds.sizes["y"] == ds.sizes["x"] == 64 and ds.attrs["synthetic"] == 1
    assert list(source.read_frozen()) == list(make_plans(SMALL_PHANTOM))


def test_a_small_mouse_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = source.read_frozen()
    other = {**frozen, "Mouse6": {**frozen["Mouse6"], "masks_sha256": "0" * 64}}
    monkeypatch.setattr(source, "read_frozen", lambda: other)
    with pytest.raises(ChecksumError, match="Mouse6"):
        md.load(mice=["Mouse6"], source=SMALL_PHANTOM, cache=tmp_path)["Mouse6"]
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize(("name", "size"), [("phantom-7T", "small"), ("phantom", "tiny")])
def test_another_size_is_refused(name: str, size: str) -> None:
    with pytest.raises(ArgumentError, match=r"size='small'"):
        md.load(source=name, size=size)  # type: ignore[arg-type]
