import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import ragged

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort, CohortMember

datasets = pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
pytest.importorskip("nibabel", reason="the extra 'huggingface' is not installed")

from mousecmr_data.adapters import huggingface  # noqa: E402
from mousecmr_data.adapters.huggingface.features import decode_tiff, encode_tiff  # noqa: E402

ROWS = {"labelled": 4 * 2 + 5 * 4 + 6 * 2 + 7, "slices": 3 * 5 + 4 * 6 + 5 * 7 + 6 * 8 + 7 * 9, "cines": 5}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return ragged.cohort(tmp_path_factory.mktemp("ragged"), phenotypes={"Pair": "control"})


@pytest.fixture(scope="module")
def source(cohort: Cohort) -> ragged.Source:
    return ragged.source(cohort)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("config", ["labelled", "slices"])
def test_slices_equal_the_source(cohort: Cohort, source: ragged.Source, config: Any, streaming: bool) -> None:
    data = huggingface.dataset(cohort, config, streaming=streaming)
    mice = {ds.attrs["mouse"]: ds for ds in cohort.values()}
    phases = {mouse: ds.phase.values.tolist() for mouse, ds in mice.items()}
    count = 0
    for row in data:
        image, mask = ragged.plane(source, row)
        assert np.array(row["image"]).dtype == np.uint16
        np.testing.assert_array_equal(np.array(row["image"]), image)
        if mask is None:
            assert row["mask"] is None, "unlabelled is not background"
        else:
            assert np.array(row["mask"]).dtype == np.uint8
            np.testing.assert_array_equal(np.array(row["mask"]), mask)
        assert (row["phase"], row["labelled"]) == (phases[row["mouse"]][row["frame"]], mask is not None)
        assert (row["time"], row["spacing"], row["slice_thickness"]) == (row["frame"] * 5.0, [0.1, 0.1], 1.0)
        assert row["split"] == mice[row["mouse"]].attrs["split"]
        assert row["phenotype"] == ("control" if row["mouse"] == "Pair" else "not published")
        assert row["synthetic"] is False
        count += 1
    assert count == ROWS[config]
    assert set(data.features) == {c.name for c in huggingface.COLUMNS[config]}


@pytest.mark.parametrize("streaming", [False, True])
def test_cines_equal_the_source(cohort: Cohort, streaming: bool) -> None:
    mice = []
    for row in huggingface.dataset(cohort, "cines", streaming=streaming):
        ds = cohort[row["mouse"]]
        mice.append(row["mouse"])
        array = np.asarray(row["image"].dataobj)
        assert array.dtype == np.uint16
        np.testing.assert_array_equal(array, ds.image.values.transpose(3, 2, 1, 0))
        np.testing.assert_allclose(row["image"].affine, np.diag([0.1, 0.1, 1.0, 1.0]))
        assert row["image"].header.get_xyzt_units() == ("mm", "sec")
        assert row["image"].header.get_zooms() == pytest.approx((0.1, 0.1, 1.0, 0.005))
        assert row["labelled_frames"] == list(ragged.LABELLED[row["mouse"]])
        assert row["phase"] == ds.phase.values.tolist()
        assert row["time"] == ds.time.values.tolist()
        if row["labelled_frames"]:
            mask = np.atleast_3d(np.asarray(row["mask"].dataobj)).reshape(20, 24, ds.sizes["slice"], -1, order="F")
            expected = ds["mask"].isel(frame=row["labelled_frames"]).values.transpose(3, 2, 1, 0)
            np.testing.assert_array_equal(mask, expected)
        else:
            assert row["mask"] is None
    assert mice == list(cohort.mice)


@pytest.mark.parametrize("streaming", [False, True])
def test_samples_have_the_right_types(cohort: Cohort, source: ragged.Source, streaming: bool) -> None:
    count = 0
    for sample in huggingface.numpy_samples(huggingface.dataset(cohort, "slices", streaming=streaming)):
        image, mask = ragged.plane(source, sample)
        np.testing.assert_array_equal(sample["image"], image)
        assert (sample["image"].dtype, sample["mask"].dtype) == (np.uint16, np.uint8)
        assert sample["image"].flags.writeable
        np.testing.assert_array_equal(sample["mask"], np.full_like(image, 255) if mask is None else mask)
        count += 1
    assert count == ROWS["slices"]
    for sample in huggingface.numpy_samples(huggingface.dataset(cohort, "cines", streaming=streaming)):
        ds = cohort[sample["mouse"]]
        np.testing.assert_array_equal(sample["image"], ds.image)
        np.testing.assert_array_equal(sample["mask"], ds["mask"].isel(frame=sample["labelled_frames"]))


@pytest.mark.parametrize("streaming", [False, True])
def test_torch_samples_feed_a_loader(cohort: Cohort, source: ragged.Source, streaming: bool) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    data = huggingface.dataset(cohort.select(["Pair", "Inflow"]), "labelled", streaming=streaming)
    samples = huggingface.torch_samples(data)
    batches = list(torch.utils.data.DataLoader(samples, batch_size=8))
    assert [len(b["mouse"]) for b in batches] == [8, 8, 8, 4]
    images, masks = torch.cat([b["image"] for b in batches]), torch.cat([b["mask"] for b in batches])
    assert (images.dtype, masks.dtype, tuple(images.shape)) == (torch.float32, torch.uint8, (28, 1, 24, 20))
    expected = [ragged.plane(source, row) for row in data]
    np.testing.assert_array_equal(images[:, 0].numpy(), np.stack([image for image, _ in expected]))
    np.testing.assert_array_equal(masks[:, 0].numpy(), np.stack([m for _, m in expected if m is not None]))
    ours = torch.utils.data.DataLoader(samples, batch_size=8, collate_fn=huggingface.collate)
    for batch, same in zip(ours, batches, strict=True):
        assert torch.equal(batch["image"], same["image"])
        assert torch.equal(batch["mask"], same["mask"])
        assert torch.equal(batch["spacing"], same["spacing"])
        assert (batch["mouse"], batch["time"].tolist()) == (same["mouse"], same["time"].tolist())
    uint16 = huggingface.torch_samples(data, torch.uint16)
    assert next(iter(uint16))["image"].dtype == torch.uint16


def test_cines_of_different_sizes_stay_lists(cohort: Cohort) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    samples = huggingface.torch_samples(huggingface.dataset(cohort, "cines"))
    (batch,) = torch.utils.data.DataLoader(samples, batch_size=5, collate_fn=huggingface.collate)
    assert [tuple(image.shape) for image in batch["image"]] == [(1, 5 + i, 3 + i, 24, 20) for i in range(5)]
    assert [mask.shape[1] for mask in batch["mask"]] == [0, 2, 4, 2, 1]
    assert batch["labelled_frames"][1] == [0, 2]
    with pytest.raises(md.errors.ArgumentError, match="float32"):
        huggingface.torch_samples(huggingface.dataset(cohort), torch.uint8)  # would wrap around


def test_samples_follow_selection_and_order(cohort: Cohort) -> None:
    data = huggingface.dataset(cohort, "slices").shuffle(seed=1).select(range(20, 60))
    samples = huggingface.numpy_samples(data)
    assert len(samples) == 40
    for i in (0, 17, -1):
        assert (samples[i]["mouse"], samples[i]["frame"]) == (data[i]["mouse"], data[i]["frame"])
        np.testing.assert_array_equal(samples[i]["image"], np.array(data[i]["image"]))
    assert [s["slice"] for s in samples[2:5]] == data["slice"][2:5]
    again = pickle.loads(pickle.dumps(samples))
    np.testing.assert_array_equal(again[3]["image"], samples[3]["image"])
    with pytest.raises(IndexError):
        samples[40]


def test_streams_are_sharded_by_mouse(cohort: Cohort) -> None:
    stream = huggingface.dataset(cohort, "labelled", streaming=True)
    assert stream.num_shards == 4, "the mouse without labels has no rows"
    order = list(dict.fromkeys(row["mouse"] for row in stream.shuffle(seed=3, buffer_size=1)))
    assert sorted(order) == sorted(m for m in cohort.mice if m != "None")


def test_the_cache_follows_changes_of_its_source(tmp_path: Path) -> None:
    cohort = ragged.cohort(tmp_path)
    before = huggingface.dataset(cohort)
    assert huggingface.dataset(cohort).cache_files == before.cache_files, "written once"
    assert Path(before.cache_files[0]["filename"]).is_relative_to(tmp_path / "cache")
    images, masks = ragged.arrays((24, 20, 4, 6), seed=99)
    ragged.write(cohort.source.get_path("Pair"), (0, 2), images, masks)
    after = huggingface.dataset(cohort)
    np.testing.assert_array_equal(np.array(after[0]["image"]), images[:, :, 0, 0])
    groups = ragged.Cohort(cohort.source, [CohortMember("Pair", None, "sham")], cohort.opener)
    assert huggingface.dataset(groups)[0]["phenotype"] == "sham"
    assert huggingface.dataset(groups)[0]["split"] == "none"


def test_a_store_gives_the_same_rows(cohort: Cohort, source: ragged.Source, tmp_path: Path) -> None:
    cohort.select(["Inflow"]).to_zarr(tmp_path / "mice.zarr")
    stored = md.load(source=tmp_path / "mice.zarr", chunks={})
    for sample in huggingface.numpy_samples(huggingface.dataset(stored, "slices", cache=tmp_path / "arrow")):
        image, mask = ragged.plane(source, sample)
        np.testing.assert_array_equal(sample["image"], image)
        np.testing.assert_array_equal(sample["mask"], np.full_like(image, 255) if mask is None else mask)


def test_errors_name_the_next_step(cohort: Cohort) -> None:
    with pytest.raises(md.errors.ArgumentError, match="one of 'labelled', 'slices', 'cines'"):
        huggingface.dataset(cohort, "voxels")  # type: ignore[call-overload]
    with pytest.raises(md.errors.UnlabelledError, match="config='slices'"):
        huggingface.dataset(cohort.select(["None"]))
    assert len(huggingface.dataset(cohort.select(["None"]), "slices")) == 15
    with pytest.raises(md.errors.ArgumentError, match=r"data\['train'\]"):
        huggingface.numpy_samples(datasets.DatasetDict())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_keeps_all_pixels(dtype: Any) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (7, 5), dtype, endpoint=True)
    data = encode_tiff(array)
    for decoded in (decode_tiff(data), np.array(PIL.Image.open(io.BytesIO(data)))):
        assert decoded.dtype == dtype
        np.testing.assert_array_equal(decoded, array)
    for options in (
        {"format": "PNG"},
        {"format": "TIFF", "compression": "tiff_deflate"},
    ):  # as other software writes them
        other = io.BytesIO()
        PIL.Image.fromarray(array).save(other, **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(decode_tiff(other.getvalue()), array)


def test_synthetic_rows_are_marked(tmp_path: Path) -> None:
    cohort = ragged.cohort(tmp_path, synthetic=True)
    assert next(iter(huggingface.dataset(cohort, streaming=True)))["synthetic"] is True
    cine = next(iter(huggingface.dataset(cohort, "cines", streaming=True)))
    assert b"SYNTHETIC" in cine["image"].header["descrip"].item()
