"""Corrected frames carried to their neighbours."""

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.metrics.overlap import dice
from mousecmr_data.metrics.propagation import propagate_masks, propose_slice
from mousecmr_data.phantom.rendering import compute_labels
from mousecmr_data.phantom.sampling import make_plans


def disc(radius: float) -> NDArray[np.uint8]:
    y, x = np.mgrid[:48, :48]
    distance = np.hypot(y - 24, x - 24)
    return np.where(distance < radius, 2, np.where(distance < radius + 4, 1, 0)).astype(np.uint8)


def test_outlines_between_two_corrected_frames_are_interpolated() -> None:
    masks = np.zeros((5, 48, 48), np.uint8)
    masks[0], masks[4] = disc(12), disc(6)
    out = propagate_masks(masks, [0, 4])
    pools = [int((frame == 2).sum()) for frame in out]
    assert pools == sorted(pools, reverse=True)
    assert dice(out[2] == 2, disc(9) == 2) > 0.97
    assert np.array_equal(out[[0, 4]], masks[[0, 4]])


def test_beside_a_corrected_frame_its_mask_is_taken_within_reach() -> None:
    masks = np.stack([disc(5)] * 9)
    masks[4] = disc(10)
    out = propagate_masks(masks, [4], reach=2)
    changed = [bool((a != b).any()) for a, b in zip(out, masks, strict=True)]
    assert changed == [False, False, True, True, False, True, True, False, False]
    assert np.array_equal(propagate_masks(masks, []), masks)


def test_a_frame_that_was_emptied_empties_those_nearer_to_it() -> None:
    masks = np.stack([disc(8)] * 6)
    masks[5] = 0
    out = propagate_masks(masks, [0, 5])
    assert [bool(frame.any()) for frame in out] == [True, True, True, False, False, False]
    whole = propagate_masks(np.stack([disc(8), *[disc(3)] * 4, disc(8)]), [1, 4], cyclic=True)
    assert np.array_equal(whole[0], disc(3))


def test_a_slice_without_a_mask_gets_one_from_those_beside_it() -> None:
    masks = np.zeros((4, 4, 48, 48), np.uint8)
    masks[1, 0], masks[1, 1] = disc(14), disc(11)
    masks[0, 3] = masks[3, 3] = disc(6)

    def propose(frame: int, slice_: int) -> NDArray[np.uint8]:
        return propose_slice(masks, frame, slice_, (1.0, 0.1, 0.1))

    assert dice(propose(1, 2) == 2, disc(7) == 2) > 0.95  # 0.4 mm smaller than its neighbour, towards the apex
    assert np.array_equal(propose(1, 3), disc(6))  # of the nearest frame: no slice beside it has one
    masks[1, 3] = disc(5)
    assert dice(propose(1, 2) == 2, disc(8) == 2) > 0.95  # between two
    masks[1, 0], masks[1, 2] = 0, disc(10)
    assert np.array_equal(propose(1, 0), disc(11))  # the base, which does not taper
    masks[:] = 0
    assert not propose(1, 0).any()


def test_on_a_phantom_propagation_beats_masks_of_another_frame() -> None:
    """Frames between two corrected ones, four apart: from a mask that is wrong in all frames to that of the truth."""
    plan = make_plans("phantom")["Mouse5"]
    truth = compute_labels(plan, range(5))[:, plan.n_slices // 2]
    wrong = np.roll(truth, 4, axis=2)
    masks = wrong.copy()
    masks[[0, 4]] = truth[[0, 4]]
    out = propagate_masks(masks, [0, 4])
    for frame in (1, 2, 3):
        for label in (1, 2):
            assert dice(out[frame] == label, truth[frame] == label) > 0.9
            assert dice(out[frame] == label, truth[frame] == label) > dice(wrong[frame] == label, truth[frame] == label)
