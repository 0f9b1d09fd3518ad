"""Plans of the cohorts: names, groups, sizes, timing. Nothing is rendered."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mousecmr_data import phantom
from mousecmr_data.errors import UnknownNameError
from mousecmr_data.phantom.sampling import INFLOW_MICE
from mousecmr_data.schema import EXTERNAL_PHANTOMS, PHANTOM, SMALL_PHANTOM
from mousecmr_data.schema.manifest import load_manifest


def test_names_and_groups_are_the_published_ones() -> None:
    plans = phantom.make_plans("phantom")
    assert list(plans) == [f"Mouse{n}" for n in range(1, 131)]
    assert all(plan.mouse == name and plan.cohort == "phantom" for name, plan in plans.items())
    published = {group.name: group.n_mice for group in load_manifest("mousecmr-130").groups}
    assert Counter(plan.phenotype for plan in plans.values()) == published


def test_sizes_are_those_of_the_dataset() -> None:
    plans = phantom.make_plans("phantom").values()
    assert {plan.shape_yx for plan in plans} == {(256, 256)}
    assert {plan.voxel_size_mm for plan in plans} == {(1.0, 0.1, 0.1)}
    assert {plan.frame_time_ms for plan in plans} == {5.0}
    slices, frames = [p.n_slices for p in plans], [p.n_frames for p in plans]
    assert min(slices) >= 8 and max(slices) <= 11 and 9.0 < np.mean(slices) < 9.6
    assert min(frames) >= 17 and max(frames) <= 36 and 21.0 < np.mean(frames) < 23.0
    # 26,230 in the real dataset.
    assert 25_500 < sum(p.n_slices * p.n_frames for p in plans) < 27_500


def test_labelled_frames() -> None:
    plans = phantom.make_plans("phantom")
    inflow = {name: set(p.labelled_frames) - {p.ed_frame, p.es_frame} for name, p in plans.items()}
    assert {name for name, frames in inflow.items() if frames} == set(INFLOW_MICE)
    assert sum(len(frames) for frames in inflow.values()) == 44
    for p in plans.values():
        assert p.labelled_frames == tuple(sorted(p.labelled_frames))
        assert p.ed_frame == p.labelled_frames[0] < p.es_frame < p.n_frames


def test_anatomy_and_acquisition_vary() -> None:
    plans = phantom.make_plans("phantom").values()
    for mirror in (True, False):
        for apex_first in (True, False):
            assert sum((p.pose.mirror, p.pose.apex_first) == (mirror, apex_first) for p in plans) > 15
    assert np.std([p.pose.rotation_deg for p in plans]) > 80.0
    assert np.std([p.acquisition.snr_myocardium for p in plans]) > 1.0
    assert len({p.seed for p in plans}) == 130


def test_the_other_cohorts_differ() -> None:
    nine, seven, eleven = (phantom.make_plans(name) for name in (PHANTOM, *EXTERNAL_PHANTOMS))
    assert list(seven) == [f"7T-Mouse{n}" for n in range(1, 16)]
    assert list(eleven) == [f"11.7T-Mouse{n}" for n in range(1, 11)]
    first = [next(iter(plans.values())) for plans in (nine, seven, eleven)]
    for value in ("shape_yx", "voxel_size_mm", "frame_time_ms"):
        assert len({getattr(p, value) for p in first}) >= 2, value
    assert len({p.acquisition.field_t for p in first}) == 3


def test_the_small_cohort_has_the_same_mice_in_fewer_pixels_and_frames() -> None:
    large, small = phantom.make_plans(PHANTOM), phantom.make_plans(SMALL_PHANTOM)
    assert list(small) == list(large)
    for name, plan in small.items():
        for field in ("phenotype", "function", "heart", "thorax", "pose", "n_slices"):
            assert getattr(plan, field) == getattr(large[name], field)
        assert plan.shape_yx == (64, 64) and plan.n_frames <= 12 < large[name].n_frames
        assert max(plan.labelled_frames) < plan.n_frames


def test_the_error_for_an_unknown_cohort_lists_the_cohorts() -> None:
    with pytest.raises(UnknownNameError, match=r"phantom-11\.7T"):
        phantom.make_plans("phantom-3T")


def test_plans_are_frozen_comparable_and_hashable() -> None:
    plan = phantom.make_plans("phantom")["Mouse1"]
    again = phantom.make_plans("phantom")["Mouse1"]
    assert plan == again and hash(plan) == hash(again)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.seed = 1  # type: ignore[misc]


def test_plans_are_the_same_in_another_process_and_import_no_large_library() -> None:
    code = (
        "import sys; from mousecmr_data import phantom; "
        "print(hash(phantom.VERSION) and repr(phantom.make_plans('phantom')['Mouse77'])); "
        "print(sorted({'h5py', 'torch', 'xarray', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == repr(phantom.make_plans("phantom")["Mouse77"])
    assert out[1] == "[]"


def test_exported_names() -> None:
    assert sorted(phantom.__all__) == sorted(
        ["COHORTS", "VERSION", "Plan", "Rendering", "make_plans", "render", "write_phantom"]
    )
    assert all(getattr(phantom, name) is not None for name in phantom.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        phantom.nothing  # noqa: B018
