"""Overlap and distances of one mouse, compared with other implementations."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from evaluated import ring

import mousecmr_data as md
from mousecmr_data.errors import ArgumentError, FileLayoutError
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.metrics.overlap import compute_surface_distances, dice, find_surface

SPACING = (1.0, 0.1, 0.12)


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (6, 40, 44)
    a = ring((18, 22), 7, 12, shape)
    b = np.roll(ring((19, 21), 6.4, 11.5, shape), rng.integers(-2, 3), axis=1)
    b[rng.integers(0, 6)] = 0
    b[:, :, 0] = 1  # touches the border
    return a, b


def test_dice_needs_booleans_and_is_1_for_two_empty_masks() -> None:
    a, b = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    assert dice(a, b) == 1.0
    a[0, 0, :2] = True
    assert dice(a, b) == 0.0
    b[0, 0, 1:] = True
    assert dice(a, b) == 0.5
    with pytest.raises(FileLayoutError, match="boolean"):
        dice(a.astype(int), b)
    with pytest.raises(FileLayoutError, match="shape"):
        dice(a, b[:1])


@pytest.mark.parametrize("label", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_equal_monai(label: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        metrics = pytest.importorskip("monai.metrics", reason="the extra training is not installed")
        a, b = (m == label for m in pair(seed))
        tensors = [torch.from_numpy(m[None, None]) for m in (a, b)]
        options = {"include_background": True, "spacing": list(SPACING)}
        hd95 = metrics.compute_hausdorff_distance(*tensors, percentile=95, **options).item()
        assd = metrics.compute_average_surface_distance(*tensors, symmetric=True, **options).item()
    ours = compute_surface_distances(a, b, SPACING)
    assert ours.hd95_mm == pytest.approx(hd95, rel=1e-6)
    assert ours.assd_mm == pytest.approx(assd, rel=1e-6)


@pytest.mark.parametrize("label", [1, 2])
def test_distances_equal_simpleitk(label: int) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="the oracle SimpleITK is not installed")
    a, b = (m == label for m in pair(2))
    surfaces = []
    for mask in (a, b):
        padded = np.zeros(tuple(n + 2 for n in mask.shape), np.uint8)  # ITK counts the border as inside
        padded[1:-1, 1:-1, 1:-1] = mask
        image = sitk.GetImageFromArray(padded)
        image.SetSpacing(SPACING[::-1])
        eroded = sitk.BinaryErode(image, [1, 1, 1], sitk.sitkCross)
        edge = sitk.Subtract(image, eroded)
        far = sitk.SignedMaurerDistanceMap(edge, squaredDistance=False, useImageSpacing=True)
        surfaces.append((sitk.GetArrayFromImage(edge) > 0, np.abs(sitk.GetArrayFromImage(far)).astype(float)))
    to_truth, to_prediction = surfaces[1][1][surfaces[0][0]], surfaces[0][1][surfaces[1][0]]
    ours = compute_surface_distances(a, b, SPACING)
    assert ours.hd95_mm == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)), rel=1e-6)
    assert ours.assd_mm == pytest.approx(np.concatenate([to_truth, to_prediction]).mean(), rel=1e-6)


def test_the_policy_for_empty_masks_is_explicit() -> None:
    empty, one = np.zeros((3, 5, 5), bool), np.zeros((3, 5, 5), bool)
    one[1, 2, 2] = True
    assert compute_surface_distances(empty, empty, (1, 1, 1)).hd95_mm == 0.0
    assert np.isnan(compute_surface_distances(empty, one, (1, 1, 1)).assd_mm)
    diagonal = compute_surface_distances(one, empty, (1.0, 0.5, 0.5), empty="diagonal")
    assert diagonal.hd95_mm == pytest.approx(np.sqrt(2**2 + 2**2 + 2**2))
    with pytest.raises(ArgumentError, match="'missing', 'diagonal'"):
        compute_surface_distances(one, empty, (1, 1, 1), empty="zero")  # type: ignore[arg-type]


def test_the_surface_is_the_voxels_with_a_neighbour_outside() -> None:
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    assert len(find_surface(cube)) == 26
    assert len(find_surface(np.ones((3, 3, 3), bool))) == 26, "voxels beyond the stack count as outside"


def test_the_real_stack_scores_as_published(real_mouse: Path) -> None:
    """Evaluate the authors' own prediction of their median test mouse."""
    prediction = real_mouse.with_name("MouseMedian_reference_prediction.h5")
    evaluation = evaluate(prediction, [md.open_mouse(real_mouse)])
    frames = {f.structure: f for f in evaluation.mice[0].frames}
    assert frames["LV myocardium"].dice == pytest.approx(0.911, abs=1e-3)
    assert frames["LV blood pool"].dice == pytest.approx(0.947, abs=1e-3)
    assert (frames["LV myocardium"].dice + frames["LV blood pool"].dice) / 2 == pytest.approx(0.929, abs=1e-3)
    assert frames["LV blood pool"].truth_ul == pytest.approx(29.5, abs=0.05)
