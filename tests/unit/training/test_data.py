from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.grid import normalize_to_uint8
from mousecmr_data.phantom import make_plans
from mousecmr_data.training.data import POOL_FRAMES, SliceData, make_random_plan, render_slices

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
    assert set(np.unique(pool.label)) == {0, 1, 2}
    assert pool.image.reshape(len(pool), -1).max(1).tolist() == [255] * len(pool)
    assert len(list(tmp_path.iterdir())) == 2
    render_slices({"Mouse3": ALL_PLANS["Mouse3"]}, 1, seed=3, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_flat_slice_becomes_zeros() -> None:
    images = np.stack([np.full((4, 4), 9), np.arange(16).reshape(4, 4) * 100]).astype(np.uint16)
    scaled = normalize_to_uint8(images)
    assert not scaled[0].any()
    assert (scaled[1].min(), scaled[1].max()) == (0, 255)
    assert SliceData(scaled, scaled).checksum() != SliceData(scaled[::-1], scaled).checksum()
