import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ragged

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort

pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'huggingface' is not installed")
datasets = pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
import yaml  # noqa: E402

from mousecmr_data.adapters import huggingface  # noqa: E402
from mousecmr_data.export.hub import build_folder, check_folder, make_release, upload_folder  # noqa: E402
from mousecmr_data.export.release import plan_shards, write_shard  # noqa: E402

DOCUMENTS = {
    "README.md", "DATASHEET.md", "LICENSE", "CITATION.bib", "SHA256SUMS", "croissant.json", "participants.json",
    "participants.tsv", "provenance.json",
}  # fmt: skip


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the path of every written Parquet file is added."""
    paths: list[str] = []
    real = write_shard

    def write(plan: Any, *args: Any) -> Any:
        shard = real(plan, *args)
        paths.append(plan.path)
        return shard

    monkeypatch.setattr("mousecmr_data.export.hub.write_shard", write)
    return paths


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("[!.]*") if p.is_file()}


def test_a_folder_holds_everything(built: Path) -> None:
    found = set(files(built))
    assert found >= DOCUMENTS
    assert found - DOCUMENTS == {
        f"{config}/{split}-00000-of-00001.parquet"
        for config in huggingface.CONFIGS
        for split in ("train", "validation", "test")
    }
    assert check_folder(built).keys() == found - {"SHA256SUMS"}
    assert not [p for p in built.parent.iterdir() if p.name.startswith(".part-")], "no incomplete folder is left"
    provenance = json.loads((built / "provenance.json").read_text())
    assert provenance["mice"]["Pair"]["checksum"].startswith("sha256:")
    assert (provenance["source"], provenance["licence"], provenance["synthetic"]) == ("ragged", "MIT", False)


def test_parquet_files_are_suitable_for_streaming(built: Path) -> None:
    for config in huggingface.CONFIGS:
        file = pq.ParquetFile(built / config / "train-00000-of-00001.parquet")
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        full = 1 if config == "cines" else 32
        assert all(size == full for size in sizes[:-1])
        assert sizes[-1] <= full
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert datasets.Features.from_arrow_schema(file.schema_arrow) == huggingface.make_features(config)


def test_unlabelled_frames_have_no_mask(built: Path) -> None:
    table = pq.read_table(built / "slices/train-00000-of-00001.parquet").to_pylist()
    assert {row["mouse"] for row in table} == {"None", "Pair", "Inflow"}
    assert all((row["mask"] is None) == (row["frame"] not in ragged.LABELLED[row["mouse"]]) for row in table)
    cines = pq.read_table(built / "cines/train-00000-of-00001.parquet").to_pylist()
    assert [row["mask"] is None for row in cines] == [True, False, False]


def test_the_card_names_all_configs_and_splits(built: Path) -> None:
    head, body = (built / "README.md").read_text(encoding="utf-8").split("---\n")[1:]
    card = yaml.safe_load(head)
    assert card["license"] == "mit"
    assert [c["config_name"] for c in card["configs"] if c["default"]] == ["labelled"]
    for config, info in zip(card["configs"], card["dataset_info"], strict=True):
        assert [d["split"] for d in config["data_files"]] == ["train", "validation", "test"]
        for split in info["splits"]:
            path = built / config["config_name"] / f"{split['name']}-00000-of-00001.parquet"
            assert split["num_examples"] == pq.ParquetFile(path).metadata.num_rows
        assert datasets.Features._from_yaml_list(info["features"]) == huggingface.make_features(config["config_name"])
    assert 'load_dataset("lab/ragged", "labelled", split="train")' in body
    assert "SYNTHETIC" not in body
    assert "not published" in body


def test_a_local_folder_opens_without_this_package(built: Path, cohort: Cohort, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(built), "labelled", cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 28, "validation": 12, "test": 7}
    source = ragged.source(cohort)
    for sample in huggingface.numpy_samples(data["train"]):  # the same helper reads published datasets
        image, mask = ragged.plane(source, sample)
        assert (sample["image"] == image).all()
        assert (sample["mask"] == mask).all()


def test_the_same_mice_give_the_same_bytes(built: Path, cohort: Cohort, tmp_path: Path) -> None:
    again = build_folder(cohort, "lab/ragged", tmp_path / "ragged")[1]
    assert files(again) == files(built)


def test_an_interrupted_build_continues(cohort: Cohort, tmp_path: Path, written: list[str]) -> None:
    target = tmp_path / "ragged"

    def stop(_: int) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(cohort, "lab/ragged", target, stop)
    assert not target.exists(), "the folder appears complete or not at all"
    before = list(written)
    assert len(before) == 5
    damaged = tmp_path / ".part-publish-ragged" / before[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    written.clear()
    build_folder(cohort, "lab/ragged", target)
    assert written == [before[1], *[p.path for p in plan_shards(make_release(cohort, "lab/ragged"))][5:]]
    check_folder(target)
    written.clear()
    build_folder(cohort, "lab/ragged", target)
    assert written == [], "a complete folder is not built again"


def test_a_rebuilt_folder_has_only_files_of_its_mice(tmp_path: Path, written: list[str]) -> None:
    cohort = ragged.cohort(tmp_path)
    target = tmp_path / "out" / "ragged"
    build_folder(cohort.select(["Pair", "Single"]), "lab/ragged", target)
    assert not (target / "labelled/validation-00000-of-00001.parquet").exists()
    written.clear()
    build_folder(cohort.select(["Late"]), "lab/ragged", target)
    assert {p.split("/")[1].split("-")[0] for p in written} == {"validation"}
    assert set(check_folder(target)) == {*written, *DOCUMENTS} - {"SHA256SUMS"}
    assert [p.name for p in target.parent.iterdir()] == ["ragged"]


def test_other_files_are_not_overwritten(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(md.errors.CacheError, match="did not make"):
        build_folder(cohort, "lab/ragged", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_changes_in_a_folder_are_detected(cohort: Cohort, tmp_path: Path) -> None:
    target = build_folder(cohort.select(["Single"]), "lab/ragged", tmp_path / "x")[1]
    (target / "README.md").write_text("# all mine")
    with pytest.raises(md.errors.ChecksumError, match=r"README\.md was changed"):
        check_folder(target)
    with pytest.raises(md.errors.OutputError, match=r"README\.md was edited"):
        build_folder(cohort.select(["Single"]), "lab/ragged", target)
    (target / "note.txt").write_text("mine")
    build_folder(cohort.select(["Single"]), "lab/ragged", target, overwrite=True)
    check_folder(target)
    assert (target / "note.txt").read_text() == "mine"
    (target / "LICENSE").unlink()
    with pytest.raises(md.errors.MissingDataError, match="LICENSE is missing"):
        check_folder(target)


def test_nothing_is_uploaded_offline(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    monkeypatch.setattr("mousecmr_data.export.hub.HfApi", lambda **_: pytest.fail("a connection"))
    with pytest.raises(md.errors.UploadError, match=r"MOUSECMR_OFFLINE[\s\S]*Next: unset MOUSECMR_OFFLINE"):
        upload_folder(built, "lab/ragged")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
