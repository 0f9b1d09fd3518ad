import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.grid import normalize_to_uint8  # noqa: E402
from mousecmr_data.phantom import make_plans  # noqa: E402
from mousecmr_data.training.config import TrainConfig  # noqa: E402
from mousecmr_data.training.data import (  # noqa: E402
    POOL_FRAMES,
    SliceData,
    iterate_epoch,
    iterate_validation,
    join_slices,
    make_batch,
    make_random_plan,
    render_slices,
)

ALL_PLANS = make_plans("phantom")
TWO_PLANS = {m: ALL_PLANS[m] for m in ("Mouse1", "Mouse2")}


def test_synthetic_mice_are_new_and_the_same_for_the_same_seed() -> None:
    originals = list(TWO_PLANS.values())
    plans = [make_random_plan(np.random.default_rng(s), originals, "a", any_scanner=True) for s in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert plans[0].thorax in [p.thorax for p in originals]
    assert plans[0].n_frames == POOL_FRAMES


def test_rendered_slices_are_cached_for_their_plans(tmp_path: Path) -> None:
    pool = render_slices(TWO_PLANS, 1, seed=3, cache=tmp_path)
    again = render_slices(TWO_PLANS, 1, seed=3, cache=tmp_path)
    assert pool.checksum() == again.checksum()
    assert pool.image.dtype == pool.label.dtype == np.uint8
    assert len(pool) % POOL_FRAMES == 0
    assert sum(again.stacks) == len(pool) and len(again.stacks) == POOL_FRAMES
    assert set(np.unique(pool.label)) == {0, 1, 2}
    assert pool.image.reshape(len(pool), -1).max(1).tolist() == [255] * len(pool)
    assert len(list(tmp_path.iterdir())) == 3
    render_slices({"Mouse3": ALL_PLANS["Mouse3"]}, 1, seed=3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_flat_slice_becomes_zeros() -> None:
    images = np.stack([np.full((4, 4), 9), np.arange(16).reshape(4, 4) * 100]).astype(np.uint16)
    scaled = normalize_to_uint8(images)
    assert not scaled[0].any()
    assert (scaled[1].min(), scaled[1].max()) == (0, 255)
    assert SliceData(scaled, scaled).checksum() != SliceData(scaled[::-1], scaled).checksum()


def make_numbered_slices() -> SliceData:
    """Two stacks of three slices; each slice has its number as the grey value of one pixel beside a white one."""
    image = np.zeros((6, 32, 32), np.uint8)
    image[:, 0, 0], image[:, 0, 1] = 255, np.arange(6) * 10
    label = np.zeros_like(image)
    label[1, 5:9, 5:9] = label[4:, 5:9, 5:9] = 1
    return SliceData(image, label, (3, 3))


def test_neighbours_are_of_the_same_stack_and_come_in_both_orders() -> None:
    slices = make_numbered_slices()
    assert slices.list_neighbours(1).tolist() == [[1, 0, 1], [0, 1, 2], [1, 2, 1], [4, 3, 4], [3, 4, 5], [4, 5, 4]]
    config = TrainConfig(augmentation="none", context=1, batch_size=16)
    seen = set()
    for step in range(8):
        x, _ = make_batch(slices, config, 1, step)
        assert x.shape == (16, 3, 32, 32)
        seen |= {tuple(row) for row in (x[:, :, 0, 1] * 25.5).round().int().tolist()}
    rows = [tuple(row) for row in slices.list_neighbours(1).tolist()]
    assert seen == {*rows, *(row[::-1] for row in rows)}


def test_some_slices_are_seen_without_their_neighbours() -> None:
    config = TrainConfig(augmentation="none", context=1, batch_size=64, alone=0.5)
    x, _ = make_batch(make_numbered_slices(), config, 1, 0)
    alone = (x == x[:, 1:2]).all((1, 2, 3))
    assert 16 < int(alone.sum()) < 48


def test_slices_at_the_ends_of_the_ventricle_are_drawn_more_often() -> None:
    slices = make_numbered_slices()
    assert slices.is_end.tolist() == [True, True, True, True, True, False]
    config = TrainConfig(augmentation="none", end_weight=3.0, batch_size=400)
    x, _ = make_batch(slices, config, 1, 1)
    share = float(((x[:, 0, 0, 1] * 25.5).round() == 5).float().mean())
    assert 0.02 < share < 0.11, "1 of 16, not 1 of 6"


def test_slices_without_a_true_label_are_seen_as_neighbours_only() -> None:
    first = make_numbered_slices()
    slices = join_slices([replace(first, known=(1,)), replace(first, known=(0, 5))])
    assert (slices.known, slices.stacks) == ((1, 6, 11), (3, 3, 3, 3))
    assert slices.checksum() != replace(slices, known=(1, 6)).checksum()
    config = TrainConfig(augmentation="none", context=1, batch_size=32, end_weight=2.0)
    x, _ = make_batch(slices, config, 1, 1)
    middle = set((x[:, 1, 0, 1] * 25.5).round().int().tolist())
    assert middle == {1, 0, 5} and set((x[:, 0, 0, 1] * 25.5).round().int().tolist()) == {0, 1, 2, 4}
    batches = list(iterate_validation(slices, config))
    assert [len(y) for _, y in batches] == [3]
    assert torch.equal(batches[0][1].byte(), torch.from_numpy(slices.label[[1, 6, 11]]))


@pytest.mark.parametrize("augmentation", ["paper", "randomised"])
def test_batches_do_not_depend_on_the_number_of_workers(augmentation: str) -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    config = TrainConfig(augmentation=augmentation, context=1, batch_size=4)
    slices, threads = make_numbered_slices(), torch.get_num_threads()
    expected = [[make_batch(slices, config, 2, step, k) for k in (0, 1)] for step in range(5)]
    for workers in (0, 1, 2, 4):
        batches = list(iterate_epoch(slices, replace(config, workers=workers), 2, 5, [0, 1]))
        assert len(batches) == 5
        for ours, theirs in zip(batches, expected, strict=True):
            for (x, y), (image, label) in zip(ours, theirs, strict=True):
                assert torch.equal(x, image) and torch.equal(y, label), f"{workers} workers"
    found: list[int] = []
    for _ in range(2):  # workers use one thread each; nobody else is affected
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert [*found, torch.get_num_threads()] == [threads] * 3


def test_a_run_may_go_on_with_another_number_of_workers() -> None:
    assert TrainConfig(workers=4) == TrainConfig(workers=0) != TrainConfig(seed=1)
