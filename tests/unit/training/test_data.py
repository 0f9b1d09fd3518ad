from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.preprocessing import normalize_to_uint8
from mousecmr_data.phantom import make_plans
from mousecmr_data.training.data import POOL_FRAMES, SliceData, invent_mouse, render_slices

EVERY = make_plans("phantom")
TWO = {m: EVERY[m] for m in ("Mouse1", "Mouse2")}


def test_invented_mice_are_new_and_the_same_for_the_same_seed() -> None:
    made = [invent_mouse(np.random.default_rng(s), list(TWO.values()), "a", any_scanner=True) for s in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert made[0].thorax in [p.thorax for p in TWO.values()]
    assert made[0].n_frames == POOL_FRAMES


def test_a_pool_is_kept_and_belongs_to_its_plans(tmp_path: Path) -> None:
    pool = render_slices(TWO, 1, seed=3, cache=tmp_path)
    again = render_slices(TWO, 1, seed=3, cache=tmp_path)
    assert pool.checksum() == again.checksum()
    assert pool.image.dtype == pool.label.dtype == np.uint8
    assert len(pool) % POOL_FRAMES == 0
    assert set(np.unique(pool.label)) == {0, 1, 2}
    assert pool.image.reshape(len(pool), -1).max(1).tolist() == [255] * len(pool)
    assert len(list(tmp_path.iterdir())) == 2
    render_slices({"Mouse3": EVERY["Mouse3"]}, 1, seed=3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_flat_slice_becomes_zeros() -> None:
    images = np.stack([np.full((4, 4), 9), np.arange(16).reshape(4, 4) * 100]).astype(np.uint16)
    made = normalize_to_uint8(images)
    assert not made[0].any()
    assert (made[1].min(), made[1].max()) == (0, 255)
    assert SliceData(made, made).checksum() != SliceData(made[::-1], made).checksum()
