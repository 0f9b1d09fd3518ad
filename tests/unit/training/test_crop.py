"""Training on random squares of the slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mousecmr_data.training.config import TrainConfig
from mousecmr_data.training.data import SliceData, make_batch


def test_a_crop_is_the_same_square_of_image_and_labels_normalised_over_the_whole_slice() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 96, 64)).astype(np.uint8)
    whole = TrainConfig(batch_size=2, augmentation="none")
    x, y = make_batch(SliceData(image, image), whole, 1, 0)
    small_x, small_y = make_batch(SliceData(image, image), replace(whole, crop=48), 1, 0)
    assert small_x.shape == (2, 1, 48, 48) and small_y.shape == (2, 48, 48)
    corners = [(t, q) for t in range(49) for q in range(17) if (y[:, t : t + 48, q : q + 48] == small_y).all()]
    assert len(corners) == 1
    top, left = corners[0]
    assert (x[..., top : top + 48, left : left + 48] == small_x).all()
