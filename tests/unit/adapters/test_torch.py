import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import lab

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
from torch.utils.data import DataLoader  # noqa: E402

from mousecmr_data.adapters import torch as mt  # noqa: E402

MODES = ["memmap", "memory", "lazy"]


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cohort:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return md.load(source=lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3), "C": (1,)}))


def read_expected(cohort: Cohort, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    ds = cohort[sample["mouse"]]
    ds = ds.sel(frame=np.asarray(sample["frame"]))
    if sample["slice"] >= 0:
        ds = ds.isel(slice=sample["slice"])
    label = ds["mask"].where(ds.labelled, 255)
    return ds.image.values, label.values


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["slices", "stacks", "cines"])
@pytest.mark.parametrize("frames", ["labelled", "unlabelled", "all", ["ED", "ES"]])
def test_samples_equal_the_source(cohort: Cohort, kind: str, mode: str, frames: Any) -> None:
    data = mt.dataset(cohort, kind, frames=frames, mode=mode)  # type: ignore[arg-type]
    labelled = {"A": 2, "B": 4, "C": 1}
    pairs = {"A": 2, "B": 2, "C": 0}
    counts = {
        "all": dict.fromkeys("ABC", 5),
        "labelled": labelled,
        "unlabelled": {m: 5 - n for m, n in labelled.items()},
    }
    per_mouse = pairs if isinstance(frames, list) else counts[frames]
    slices = {"A": 3, "B": 4, "C": 5}
    expected = {
        "slices": sum(per_mouse[m] * slices[m] for m in slices),
        "stacks": sum(per_mouse.values()),
        "cines": sum(n > 0 for n in per_mouse.values()),
    }
    assert len(data) == expected[kind]
    for sample in data:
        image, label = read_expected(cohort, sample)
        ds = cohort[sample["mouse"]].sel(frame=np.asarray(sample["frame"]))
        for name in ("labelled", "phase", "time"):
            np.testing.assert_array_equal(
                np.asarray(sample[name]), ds[name].values.astype(np.asarray(sample[name]).dtype)
            )
        assert (sample["split"], sample["phenotype"]) == (ds.attrs["split"], ds.attrs["phenotype"])
        assert torch.equal(sample["valid"].expand_as(sample["label"]), sample["label"] != 255)
        assert sample["valid"].numel() == ds["frame"].size
        assert sample["image"].dtype == torch.float32
        assert sample["label"].dtype == torch.uint8
        np.testing.assert_array_equal(sample["image"][0].numpy(), image)
        np.testing.assert_array_equal(sample["label"][0].numpy(), label)
        assert sample["spacing"].tolist() == pytest.approx([0.1, 0.1] if kind == "slices" else [1.0, 0.1, 0.1])


def test_unlabelled_is_not_background(cohort: Cohort) -> None:
    data = mt.dataset(cohort, frames="all", mode="memory")
    for sample in data:
        assert (sample["label"] == 255).all() == (not sample["labelled"])
    assert {s["labelled"] for s in data} == {True, False}
    assert all(s["labelled"] for s in mt.dataset(cohort))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [("fork", 0), ("fork", 2), ("spawn", 1)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_loader(cohort: Cohort, mode: str, workers: tuple[str, int]) -> None:
    data = mt.dataset(cohort, mode=mode)  # type: ignore[arg-type]
    first = data[0]  # opened in the parent first
    method, n = workers
    loader = DataLoader(
        data, batch_size=4, collate_fn=mt.collate, num_workers=n, multiprocessing_context=method if n else None
    )
    batches = list(loader)
    assert torch.equal(batches[0]["image"][0], first["image"])
    assert [m for b in batches for m in b["mouse"]] == [s["mouse"] for s in data]
    whole = torch.cat([b["image"] for b in batches])
    assert torch.equal(whole, torch.stack([s["image"] for s in data]))
    assert batches[0]["spacing"].shape == (4, 2)
    assert batches[0]["label"].dtype == torch.uint8


def test_collate_reuses_a_batch_and_equals_the_default(cohort: Cohort) -> None:
    data = mt.dataset(cohort)
    batch = data.__getitems__([3, 1, 2])
    collated = mt.collate(batch)
    assert collated["image"].data_ptr() == batch.images.data_ptr()  # type: ignore[attr-defined]
    plain = mt.collate([data[3], data[1], data[2]])
    default = torch.utils.data.default_collate(list(batch))
    for key in ("image", "label", "valid", "slice", "frame", "labelled", "time", "spacing", "synthetic"):
        assert torch.equal(collated[key], plain[key])
        assert torch.equal(collated[key], default[key])
    for key in ("mouse", "phase", "split", "phenotype"):
        assert list(collated[key]) == list(plain[key]) == list(default[key])


def test_ragged_batches_stay_lists(cohort: Cohort) -> None:
    data = mt.dataset(cohort, "stacks")
    (batch,) = DataLoader(data, batch_size=len(data), collate_fn=mt.collate)
    assert [tuple(t.shape) for t in batch["image"]] == [(1, 3, 24, 20)] * 2 + [(1, 4, 24, 20)] * 4 + [(1, 5, 24, 20)]
    assert batch["spacing"].shape == (7, 3)
    plain = mt.collate([data[0], data[2]])
    assert isinstance(plain["image"], list)


def test_cines_of_different_lengths_stay_lists_and_equal_ones_are_stacked(cohort: Cohort) -> None:
    few, all_frames = mt.dataset(cohort, "cines"), mt.dataset(cohort, "cines", frames="all")
    for data in (few, all_frames):
        batches = [mt.collate(data.__getitems__([0, 1])), mt.collate([data[0], data[1]])]
        for batch in batches:
            for key in ("frame", "labelled", "time", "valid"):
                assert isinstance(batch[key], list) == (data is few), key
                for value, sample in zip(batch[key], data, strict=False):
                    assert torch.equal(value, sample[key])
            assert batch["phase"] == [data[0]["phase"], data[1]["phase"]]
    assert few[0]["phase"] == ["ED", "ES"]


def test_dtype_and_transform(cohort: Cohort) -> None:
    assert mt.dataset(cohort, dtype=None)[0]["image"].dtype == torch.uint16
    for mode in ("memory", "memmap", "lazy"):
        for dtype in (torch.float64, torch.bfloat16, torch.int32):
            image = mt.dataset(cohort, dtype=dtype, mode=mode)[3]["image"]  # type: ignore[arg-type]
            assert image.dtype == dtype
            assert torch.equal(image, mt.dataset(cohort)[3]["image"].to(dtype))
    with pytest.raises(ValueError, match="dtype='float32'"):
        mt.dataset(cohort, dtype="float32")  # type: ignore[arg-type]
    data = mt.dataset(cohort, transform=lambda s: s["image"].shape)
    assert data[0] == (1, 24, 20)
    assert data.__getitems__([0, 1]) == [(1, 24, 20)] * 2


def test_indices(cohort: Cohort) -> None:
    data = mt.dataset(cohort)
    assert data[-1]["mouse"] == "C"
    assert list(data.__getitems__([])) == []
    with pytest.raises(IndexError):
        data[len(data)]


def test_nbytes_reports_the_memory_used(cohort: Cohort) -> None:
    memory = mt.dataset(cohort, mode="memory")
    assert memory.nbytes == (2 * 3 + 4 * 4 + 5) * 24 * 20 * 3
    assert mt.dataset(cohort).nbytes == 0
    mapped = mt.dataset(cohort)
    mapped[0]
    assert len(pickle.dumps(mapped)) < 20_000, "the pixels of an open file must not be pickled"


def test_mapped_files_follow_changes_of_their_source(cohort: Cohort, tmp_path: Path) -> None:
    from layout_files import arrays, write

    before = mt.dataset(cohort)[0]["image"]
    images, masks = arrays((24, 20, 3, 5), seed=9)
    write(cohort.source.get_path("A"), (0, 2), images, masks)
    after = mt.dataset(cohort)[0]["image"]
    assert not torch.equal(before, after)
    np.testing.assert_array_equal(after[0].numpy(), images[:, :, 0, 0])
    elsewhere = mt.dataset(cohort, cache=tmp_path / "elsewhere")
    assert torch.equal(elsewhere[0]["image"], after)
    assert len(list((tmp_path / "elsewhere").rglob("image.npy"))) == 3


def test_a_cache_that_cannot_be_written_names_the_alternatives(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(md.errors.CacheError, match="mode='memory'"):
        mt.dataset(cohort, cache=tmp_path / "file")
    assert len(mt.dataset(cohort, mode="memory")) > 0


def test_a_dataset_without_samples_is_an_error(cohort: Cohort) -> None:
    with pytest.raises(md.errors.UnlabelledError, match="selects no frame"):
        mt.dataset(cohort.select(["C"]), frames=["ED"])
    with pytest.raises(md.errors.ArgumentError, match="no kind 'voxels'"):
        mt.dataset(cohort, "voxels")  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [16, 17, 1000])
def test_shards_are_disjoint_and_change_with_the_epoch(n: int) -> None:
    samplers = [mt.EpochSampler(range(n), seed=3, rank=r, world_size=4) for r in range(4)]
    orders = []
    for epoch in range(2):
        for s in samplers:
            s.set_epoch(epoch)
        parts = [list(s) for s in samplers]
        assert {len(p) for p in parts} == {n // 4} == {len(s) for s in samplers}
        union = [i for p in parts for i in p]
        assert len(set(union)) == len(union) == n // 4 * 4
        orders.append(union)
    assert orders[0] != orders[1]
    again = mt.EpochSampler(range(n), seed=3, rank=0, world_size=4)
    assert list(again) == orders[0][: n // 4]
    assert list(mt.EpochSampler(range(n), shuffle=False)) == list(range(n))


def test_sampler_reads_its_rank_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (mt.EpochSampler(range(8)).rank, len(mt.EpochSampler(range(8)))) == (1, 4)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        mt.EpochSampler(range(8), rank=2)


def test_sampler_resumes() -> None:
    sampler = mt.EpochSampler(range(20), seed=1)
    sampler.set_epoch(5)
    whole = list(sampler)
    steps = iter(sampler)
    head = [next(steps) for _ in range(7)]
    fresh = mt.EpochSampler(range(20), seed=1)
    fresh.load_state_dict(sampler.state_dict())
    assert head + list(fresh) == whole
    assert list(fresh) == whole, "the next pass is complete"
    with pytest.raises(ValueError, match="expected 21 samples"):
        mt.EpochSampler(range(21), seed=1).load_state_dict(sampler.state_dict())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_stateful_loader_resumes_within_an_epoch(cohort: Cohort, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader() -> Any:
        data = mt.dataset(cohort)
        sampler = mt.EpochSampler(data, seed=2)
        return stateful.StatefulDataLoader(
            data, batch_size=3, sampler=sampler, collate_fn=mt.collate, num_workers=workers
        )

    whole = [b["image"] for b in loader()]
    first = loader()
    steps = iter(first)
    head = [next(steps)["image"] for _ in range(3)]
    second = loader()
    second.load_state_dict(first.state_dict())
    tail = [b["image"] for b in second]
    assert len(head + tail) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(head + tail, whole, strict=True))


def test_monai_transforms_take_the_samples(cohort: Cohort) -> None:
    transforms = pytest.importorskip("monai.transforms", reason="MONAI is not installed")
    chain = transforms.Compose(
        [
            transforms.ScaleIntensityd(keys="image"),
            transforms.RandFlipd(keys=["image", "label"], prob=1.0, spatial_axis=0),
            transforms.RandRotate90d(keys=["image", "label"], prob=1.0, max_k=1),
            transforms.RandAffined(
                keys=["image", "label"], prob=1.0, rotate_range=0.1, mode=("bilinear", "nearest"), padding_mode="zeros"
            ),
        ]
    )
    data = mt.dataset(cohort, transform=chain)
    (batch, *_) = DataLoader(data, batch_size=3, collate_fn=mt.collate)
    assert batch["image"].shape == (3, 1, 20, 24)
    assert float(batch["image"].max()) <= 1.0
    assert set(torch.unique(batch["label"]).tolist()) <= {0, 1, 2}


def test_monai_sees_millimetres_in_samples(cohort: Cohort) -> None:
    transforms = pytest.importorskip("monai.transforms", reason="the extra 'training' is not installed")
    z, y, x = 1.0, 0.1, 0.1
    stack, one = mt.dataset(cohort, "stacks")[0], mt.dataset(cohort, "slices")[1]
    assert stack["image"].pixdim.tolist() == pytest.approx([z, y, x])
    assert one["image"].pixdim.tolist() == pytest.approx([y, x])
    assert one["affine"][:3, 3].tolist() == [0, 0, z * one["slice"]], "the second slice lies one slice higher"
    spaced = transforms.Spacingd(["image", "label"], pixdim=(z, 2 * y, x / 2), mode=("bilinear", "nearest"))(stack)
    slices, rows, columns = stack["image"].shape[1:]
    assert spaced["image"].shape[1] == slices
    assert abs(spaced["image"].shape[2] - rows / 2) <= 1
    assert abs(spaced["image"].shape[3] - columns * 2) <= 1
    turned = transforms.Orientationd(["image"], axcodes="RAS", labels=None)(stack)["image"]
    assert turned.shape == (1, columns, rows, slices)
    np.testing.assert_array_equal(turned[0].numpy(), stack["image"][0].numpy().transpose(2, 1, 0))


def test_monai_pads_and_collates_stacks_of_different_sizes(cohort: Cohort) -> None:
    monai = pytest.importorskip("monai.data", reason="the extra 'training' is not installed")
    data = mt.dataset(cohort, "stacks")
    batch = next(iter(DataLoader(data, len(data), collate_fn=monai.pad_list_data_collate)))
    assert batch["image"].shape[:3] == (len(data), 1, 5), "the largest of 3, 4 and 5 slices"
    assert batch["image"].affine.shape == (len(data), 4, 4)
    kept = mt.collate([mt.dataset(cohort, "slices")[k] for k in (0, 1)])
    assert kept["image"].affine[:, 2, 3].tolist() == [0.0, 1.0]


def test_changes_to_a_batch_stay(cohort: Cohort) -> None:
    batch = mt.dataset(cohort, "slices").__getitems__([0, 1, 2])
    plain = mt.collate(batch)
    batch[0]["image"] = batch[0]["image"] * 0 + 7
    batch[1] = {**batch[1], "mouse": "another"}
    batch.pop()
    changed = mt.collate(batch)
    assert len(batch) == len(changed["mouse"]) == 2
    assert (changed["image"][0] == 7).all()
    assert changed["mouse"][1] == "another"
    np.testing.assert_array_equal(changed["image"][1], plain["image"][1])


def test_a_memory_mapped_dataset_made_again_opens_no_hdf5_file(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mt.dataset(cohort, "slices")
    monkeypatch.setattr("h5py.File", None)
    again = mt.dataset(cohort, "slices")
    assert len(again) == len(first)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])
        assert {k: a[k] for k in ("mouse", "frame", "slice", "phase")} == {
            k: b[k] for k in ("mouse", "frame", "slice", "phase")
        }
        assert np.array_equal(a["affine"], b["affine"])
