import json
import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import ragged

from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.schema.manifest import load_manifest

pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")

from mousecmr_data.export.croissant import describe_release  # noqa: E402
from mousecmr_data.export.release import Shard, compute_sha256, make_release, plan_shards  # noqa: E402

pytestmark = [  # raised by mlcroissant itself
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index"),
]


def test_the_description_is_valid_without_a_warning(cohort: Cohort, caplog: pytest.LogCaptureFixture) -> None:
    release = replace(make_release(cohort, "lab/mice"), manifest=load_manifest())
    written = [Shard(p.path, p.config, p.split, p.mice, 1, 1, 1, "0" * 64, "") for p in plan_shards(release)]
    with caplog.at_level(logging.WARNING):
        data = mlc.Dataset(describe_release(release, written))
    assert data.metadata.ctx.issues.errors == set()
    assert data.metadata.ctx.issues.warnings == set()
    assert caplog.messages == []
    assert str(data.metadata.ctx.conforms_to).endswith("V_1_1")
    assert [r.uuid for r in data.metadata.record_sets] == ["labelled", "slices", "cines"]


def test_records_equal_the_source(built: Path, cohort: Cohort) -> None:
    data = mlc.Dataset(str(built / "croissant.json"), mapping={"repo": str(built)})
    source = ragged.source(cohort)
    for config, count in (("labelled", 47), ("slices", 185)):
        records = [{k.split("/")[1]: v for k, v in r.items()} for r in data.records(config)]
        assert len(records) == count
        for row in records:
            row["mouse"] = row["mouse"].decode()
            image, mask = ragged.plane(source, row)
            np.testing.assert_array_equal(np.array(row["image"]), image)
            if mask is None:
                assert row["mask"] is None
            else:
                np.testing.assert_array_equal(np.array(row["mask"]), mask)
            assert row["spacing"] == [0.1, 0.1]
            assert (row["time"], row["synthetic"]) == (row["frame"] * 5.0, False)
    cines = [{k.split("/")[1]: v for k, v in r.items()} for r in data.records("cines")]
    assert {r["mouse"].decode() for r in cines} == set(source)
    for row in cines:
        array = np.asarray(nibabel.Nifti1Image.from_bytes(row["image"]).dataobj)
        np.testing.assert_array_equal(array.transpose(3, 2, 1, 0), source[row["mouse"].decode()][0])
        assert list(row["labelled_frames"]) == list(ragged.LABELLED[row["mouse"].decode()])


def test_every_file_has_its_checksum(built: Path) -> None:
    description = json.loads((built / "croissant.json").read_text())
    listed = {f["contentUrl"]: f["sha256"] for f in description["distribution"] if f["@id"].endswith(".parquet")}
    assert listed == {p.relative_to(built).as_posix(): compute_sha256(p) for p in built.rglob("*.parquet")}
