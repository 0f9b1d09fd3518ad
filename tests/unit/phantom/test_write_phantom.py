"""The file of one mouse: upstream layout, our attributes, atomic write."""

from __future__ import annotations

import stat
from pathlib import Path

import h5py
import numpy as np
import pytest

from mousecmr_data import phantom
from mousecmr_data.phantom.rendering import write_rendering
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    FRAMES_WITH_ROI,
    IMAGES,
    MASKS,
    MODEL_TO_FILE,
)


@pytest.fixture(scope="module")
def path(plan: phantom.Plan, rendering: phantom.Rendering, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "Mouse17.h5"
    write_rendering(plan, rendering, path)
    return path


def test_layout(path: Path, plan: phantom.Plan, rendering: phantom.Rendering) -> None:
    with h5py.File(path) as file:
        assert set(file) == {IMAGES, MASKS, FRAMES_WITH_ROI}
        images, masks, frames = (file[name][:] for name in (IMAGES, MASKS, FRAMES_WITH_ROI))
        attributes = dict(file.attrs)
    assert images.dtype == np.uint16 and masks.dtype == np.uint8 and frames.dtype == np.int64
    assert images.shape == masks.shape == (256, 256, plan.n_slices, plan.n_frames)
    np.testing.assert_array_equal(images.transpose(MODEL_TO_FILE), rendering.image)
    assert tuple(frames) == plan.labelled_frames
    for frame in range(plan.n_frames):
        if frame in plan.labelled_frames:
            np.testing.assert_array_equal(masks[..., frame].transpose(2, 0, 1), rendering.truth[frame])
        else:
            assert not masks[..., frame].any() and rendering.truth[frame].any()
    assert attributes[ATTR_MOUSE] == "Mouse17"
    assert attributes[ATTR_SOURCE] == "phantom"
    assert bool(attributes[ATTR_SYNTHETIC]) is True
    assert attributes[ATTR_PHENOTYPE] == plan.phenotype
    assert tuple(attributes[ATTR_VOXEL_SIZE]) == (1.0, 0.1, 0.1)
    assert attributes[ATTR_FRAME_TIME] == 5.0


def test_the_file_is_readable_by_all_users_and_no_other_file_remains(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["Mouse17.h5"]


def test_a_failed_write_leaves_nothing(
    plan: phantom.Plan, rendering: phantom.Rendering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "Mouse17.h5"
    path.write_bytes(b"old")

    def raise_disk_full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.File, "create_dataset", raise_disk_full)
    with pytest.raises(OSError, match="No space"):
        write_rendering(plan, rendering, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_write_phantom_renders_the_plan(
    plan: phantom.Plan, rendering: phantom.Rendering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered_plans = []

    def record_plan(plan: phantom.Plan) -> phantom.Rendering:
        rendered_plans.append(plan)
        return rendering

    monkeypatch.setattr("mousecmr_data.phantom.rendering.render", record_plan)
    phantom.write_phantom(plan, tmp_path / "a.h5")
    assert rendered_plans == [plan]
    with h5py.File(tmp_path / "a.h5") as file:
        assert file[IMAGES].shape[2:] == (plan.n_slices, plan.n_frames)
