"""Volumes, mass and phases of the labels of every mouse, without rendering images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data import phantom
from mousecmr_data.phantom.plan import CONSTRICTION, CONTROL, DENSITY_MG_PER_UL, INFARCTION
from mousecmr_data.phantom.rendering import compute_labels
from mousecmr_data.schema.labels import Label

Labels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def cohort() -> dict[str, Labels]:
    """Labels at the labelled frames of all 130 mice."""
    return {name: compute_labels(plan, plan.labelled_frames) for name, plan in phantom.make_plans("phantom").items()}


def count_pool_pixels(labels: Labels, footprint: NDArray[np.bool_]) -> int:
    """Count blood-pool pixels by the dataset's rule: inside the ED footprint, no 2D components under 50 pixels."""
    total = 0
    for image, inside in zip(labels, footprint, strict=True):
        parts, n = ndimage.label((image == Label.BLOOD_POOL) & inside)
        sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
        total += int(sizes[sizes >= 50].sum())
    return total


def test_the_published_rule_finds_the_planned_frames(cohort: dict[str, Labels]) -> None:
    for name, plan in phantom.make_plans("phantom").items():
        labels = cohort[name]
        counts = [count_pool_pixels(frame, labels[0] > 0) for frame in labels]
        assert counts[0] == max(counts), name
        smallest = 1 + int(np.argmin(counts[1:]))
        assert plan.labelled_frames[smallest] == plan.es_frame, name


def compute_volumes(cohort: dict[str, Labels]) -> dict[str, NDArray[np.float64]]:
    plans = phantom.make_plans("phantom")
    rows = []
    for name, plan in plans.items():
        es = plan.labelled_frames.index(plan.es_frame)
        voxel = float(np.prod(plan.voxel_size_mm))
        counts = [np.bincount(cohort[name][k].ravel(), minlength=3) * voxel for k in (0, es)]
        rows.append([counts[0][2], counts[1][2], counts[0][1] * DENSITY_MG_PER_UL, counts[1][1] * DENSITY_MG_PER_UL])
    edv, esv, mass_ed, mass_es = np.array(rows).T
    return {"edv": edv, "esv": esv, "ef": 100 * (1 - esv / edv), "mass_ed": mass_ed, "mass_es": mass_es}


def test_volumes_are_close_to_the_published_ones(cohort: dict[str, Labels]) -> None:
    measured = compute_volumes(cohort)
    published = {"edv": (65.6, 10.0), "esv": (27.3, 10.1), "ef": (59.3, 10.7), "mass_ed": (105.2, 26.8)}
    for name, (mean, sd) in published.items():
        assert abs(measured[name].mean() - mean) < 0.25 * sd, name
        assert 0.75 * sd < measured[name].std(ddof=1) < 1.25 * sd, name
    assert abs(measured["mass_es"].mean() - 111.2) < 5.0


def test_groups_differ_as_in_their_disease(cohort: dict[str, Labels]) -> None:
    measured = compute_volumes(cohort)
    phenotype = np.array([plan.phenotype for plan in phantom.make_plans("phantom").values()])
    ef = {group: measured["ef"][phenotype == group].mean() for group in set(phenotype)}
    mass = {group: measured["mass_ed"][phenotype == group].mean() for group in set(phenotype)}
    assert max(ef, key=ef.__getitem__) == CONTROL and min(ef, key=ef.__getitem__) == INFARCTION
    assert max(mass, key=mass.__getitem__) == CONSTRICTION


def test_label_volumes_are_the_planned_ones(cohort: dict[str, Labels]) -> None:
    measured = compute_volumes(cohort)
    plans = list(phantom.make_plans("phantom").values())
    np.testing.assert_allclose(measured["edv"], [p.function.edv_ul for p in plans], rtol=0.03)
    np.testing.assert_allclose(measured["esv"], [p.function.esv_ul for p in plans], rtol=0.04, atol=0.5)
    np.testing.assert_allclose(measured["mass_ed"], [p.function.mass_ed_mg for p in plans], rtol=0.03)


def test_no_label_beyond_base_and_apex(cohort: dict[str, Labels]) -> None:
    """Labelled slices are consecutive; the other slices are empty, and most stacks have such slices."""
    empty = 0
    for name, labels in cohort.items():
        for frame in labels:
            filled = np.flatnonzero(frame.any(axis=(1, 2)))
            assert len(filled) >= 4, name
            assert filled[-1] - filled[0] + 1 == len(filled), name
            empty += len(frame) - len(filled)
    total = sum(labels.shape[0] * labels.shape[1] for labels in cohort.values())
    # 625 of 2,833 in the real dataset.
    assert 0.12 < empty / total < 0.32


def test_the_pool_is_enclosed_by_muscle(cohort: dict[str, Labels]) -> None:
    for name, labels in list(cohort.items())[::5]:
        pool = labels == Label.BLOOD_POOL
        around = ndimage.binary_dilation(pool, np.ones((1, 1, 3, 3), bool)) & ~pool
        assert (labels[around] == Label.MYOCARDIUM).mean() > 0.97, name


def test_the_border_of_the_blood_pool_is_irregular(cohort: dict[str, Labels]) -> None:
    """Papillary muscles and trabeculae: the ES pool fills clearly less of its closed outline than a disc."""
    shares = []
    for name, plan in phantom.make_plans("phantom").items():
        labels = cohort[name][plan.labelled_frames.index(plan.es_frame)]
        middle = int(np.argmax((labels > 0).sum(axis=(1, 2))))
        pool = labels[middle] == Label.BLOOD_POOL
        closed = ndimage.binary_closing(np.pad(pool, 12), ndimage.generate_binary_structure(2, 1), iterations=10)
        shares.append(pool.sum() / closed.sum())
    assert 0.6 < np.mean(shares) < 0.95


def test_labels_without_rendering_equal_the_rendered_ones(plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    np.testing.assert_array_equal(
        compute_labels(plan, plan.labelled_frames), rendering.truth[list(plan.labelled_frames)]
    )


def test_the_ends_are_as_in_real_stacks(cohort: dict[str, Labels]) -> None:
    """Apical slices without a pool, small ones, stacks that begin in the ventricle, and stacks with atria."""
    plans = phantom.make_plans("phantom")
    last, first = [], []
    for name, labels in cohort.items():
        stacks = labels[:, ::-1] if plans[name].pose.apex_first else labels
        for stack in stacks:
            filled = np.flatnonzero(stack.any((1, 2)))
            last.append([np.count_nonzero(stack[filled[-1]] == label) for label in (1, 2)])
            first.append(filled[0])
    myocardium, pool = np.array(last).T
    assert myocardium.min() >= 100, "an expert draws no smaller ventricle"
    assert 0.3 < (pool == 0).mean() < 0.8
    assert ((myocardium > 150) & (myocardium < 600)).mean() > 0.2
    assert {0, 1, 2} <= set(first) and 0.05 < np.mean(np.array(first) == 0) < 0.4


def test_the_valve_plane_is_tilted_and_muscle_continues_above_it_without_a_label(plan: phantom.Plan) -> None:
    """Above the plane, the image of a slice has a ring about as grey as labelled muscle; its truth is empty."""
    heart = dataclasses.replace(plan.heart, collar_mm=1.2, valve_tilt_deg=20.0, valve_turn_deg=0.0)
    pose = dataclasses.replace(plan.pose, base_mm=0.4, apex_first=False)
    changed = dataclasses.replace(plan, heart=heart, pose=pose)
    rendering = phantom.render(changed)
    assert not rendering.truth[0, 0].any() and rendering.truth[0, 1].any()
    wall, pool = (rendering.truth[0, 1] == label for label in (Label.MYOCARDIUM, Label.BLOOD_POOL))
    above, below = rendering.image[0, 0].astype(float), rendering.image[0, 1].astype(float)
    assert np.median(above[pool]) > 1.3 * np.percentile(above[wall], 20)
    assert np.percentile(above[wall], 20) < 1.3 * np.median(below[wall])
