"""Rendered images: types, determinism, contrast, noise, and the effects of a changed plan."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from mousecmr_data import phantom
from mousecmr_data.phantom.mri import acquire_images
from mousecmr_data.schema.labels import Label


def hash_arrays(rendering: phantom.Rendering) -> str:
    return hashlib.sha256(rendering.image.tobytes() + rendering.truth.tobytes()).hexdigest()


def test_shapes_and_types(plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    shape = (plan.n_frames, plan.n_slices, *plan.shape_yx)
    assert rendering.image.shape == rendering.truth.shape == shape
    assert rendering.image.dtype == np.uint16 and rendering.truth.dtype == np.uint8
    assert set(np.unique(rendering.truth)) == {0, 1, 2}
    assert (rendering.image == 65535).mean() < 1e-4


def test_the_same_plan_gives_the_same_arrays_in_another_process(
    plan: phantom.Plan, rendering: phantom.Rendering
) -> None:
    code = (
        "import hashlib; from mousecmr_data import phantom; p = phantom.make_plans('phantom'); "
        f"r = phantom.render(p[{plan.mouse!r}]); "
        "print(hashlib.sha256(r.image.tobytes() + r.truth.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == hash_arrays(rendering)


def test_contrast_is_that_of_a_spoiled_gradient_echo(plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    """Inflowing blood is bright, myocardium grey, air dark: at ED and ES, away from edges."""
    for frame in (plan.ed_frame, plan.es_frame):
        image, labels = rendering.image[frame].astype(float), rendering.truth[frame]
        inner = np.ones((1, 3, 3), bool)
        blood = np.median(image[ndimage.binary_erosion(labels == Label.BLOOD_POOL, inner)])
        muscle = np.median(image[ndimage.binary_erosion(labels == Label.MYOCARDIUM, inner)])
        dark = np.percentile(image, 5)
        assert 1.5 < blood / muscle < 5.0
        assert muscle > 3.0 * dark


def correlate_neighbours(plan: phantom.Plan) -> float:
    """Return the correlation of the noise of neighbouring pixels along a row, in an empty field."""
    empty = np.zeros((6, *plan.shape_yx), np.complex64)
    noise = acquire_images(plan, empty, np.random.default_rng(1)).astype(float)
    noise -= noise.mean()
    return float((noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var())


def test_zero_filling_correlates_neighbouring_noise(plan: phantom.Plan) -> None:
    """128 x 128 samples on 256 x 256 pixels: neighbours share noise; with 256 x 256 samples they do not."""
    scan = dataclasses.replace(plan.acquisition, apodisation=0.0)
    assert 0.3 < correlate_neighbours(dataclasses.replace(plan, acquisition=scan)) < 0.6
    full = dataclasses.replace(scan, matrix_yx=plan.shape_yx)
    assert abs(correlate_neighbours(dataclasses.replace(plan, acquisition=full))) < 0.02


def test_the_outer_half_of_k_space_is_empty(plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    """The magnitude operation spreads a little signal outwards, so the outer half is only much weaker."""
    k = np.abs(np.fft.fft2(rendering.image[0].astype(float))).mean(axis=0)
    inside, beyond = k[40:60, 40:60].mean(), k[100:128, 100:128].mean()
    assert beyond < 0.4 * inside
    assert plan.acquisition.matrix_yx == (128, 128)


def test_another_acquisition_keeps_the_anatomy(plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    scan = dataclasses.replace(plan.acquisition, snr_myocardium=40.0, flip_deg=30.0)
    other = phantom.render(dataclasses.replace(plan, acquisition=scan))
    np.testing.assert_array_equal(other.truth, rendering.truth)
    assert (other.image != rendering.image).mean() > 0.9


def test_jets_darken_the_pool_in_inflow_frames(plan: phantom.Plan) -> None:
    """Without the void the pool is brighter in the labelled inflow frames, and hardly at ES."""
    without = phantom.render(
        dataclasses.replace(plan, acquisition=dataclasses.replace(plan.acquisition, inflow_void=0.0))
    )
    with_void = phantom.render(
        dataclasses.replace(plan, acquisition=dataclasses.replace(plan.acquisition, inflow_void=0.9))
    )
    pool = with_void.truth == Label.BLOOD_POOL
    ratios = [
        float(with_void.image[f][pool[f]].mean() / without.image[f][pool[f]].mean()) for f in plan.labelled_frames
    ]
    inflow = [k for k, f in zip(ratios, plan.labelled_frames, strict=True) if f not in (plan.ed_frame, plan.es_frame)]
    assert min(inflow) < 0.9
    assert min(inflow) < ratios[plan.labelled_frames.index(plan.es_frame)] - 0.03


@pytest.mark.parametrize("cohort", ["phantom-7T", "phantom-11.7T"])
def test_the_other_cohorts_render(cohort: str) -> None:
    plan = next(iter(phantom.make_plans(cohort).values()))
    rendering = phantom.render(plan)
    assert rendering.image.shape == (plan.n_frames, plan.n_slices, *plan.shape_yx)
    pool = (rendering.truth == Label.BLOOD_POOL).sum(axis=(1, 2, 3))
    assert pool[plan.ed_frame] > 1.2 * pool[plan.es_frame] > 0
