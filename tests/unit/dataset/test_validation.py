from pathlib import Path

import numpy as np
from layout_files import arrays, write

from mousecmr_data.dataset.validation import validate_file
from mousecmr_data.schema.manifest import Stack, load_manifest

STACK = Stack(24, 20, (3, 3), (5, 5))


def test_a_good_file_has_no_problem(tmp_path: Path) -> None:
    assert validate_file(write(tmp_path / "m.h5", (0, 2)), STACK) == ()
    assert validate_file(write(tmp_path / "m.h5", (1,))) == ()


def test_problems_are_reported(tmp_path: Path) -> None:
    images, masks = arrays()
    path = tmp_path / "m.h5"

    def problem(**kw: object) -> str:
        problems = validate_file(write(path, **kw))  # type: ignore[arg-type]
        assert len(problems) == 1, problems
        return problems[0]

    assert "Frames_with_ROI is empty" in problem(labelled=())
    flat = images.copy()
    flat[..., 3] = 9
    assert "Frames 3 are constant" in problem(images=flat)
    bad = masks.copy()
    bad[0, 0, 0, 0] = 7
    assert "label 7" in problem(masks=bad)
    assert "ED rule: the earliest labelled frame 2" in problem(labelled=(2, 4))
    empty = masks.copy()
    empty[..., 2] = 0
    assert "Labelled frames 2 have an empty mask" in problem(masks=empty)


def test_masks_outside_the_labelled_frames(tmp_path: Path) -> None:
    import h5py

    path = write(tmp_path / "m.h5", (0, 2))
    with h5py.File(path, "a") as f:
        f["Masks"][0, 0, 0, 4] = 1
    assert validate_file(path) == ("Frames 4 have a mask but are not in Frames_with_ROI.",)


def test_sizes_are_compared_with_the_manifest(tmp_path: Path) -> None:
    problems = validate_file(write(tmp_path / "m.h5"), load_manifest().stack)
    assert len(problems) == 3
    assert "(24, 20), expected (256, 256)" in problems[0]


def test_a_damaged_file_does_not_raise(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"nothing")
    assert "damaged or not HDF5" in validate_file(tmp_path / "m.h5")[0]
    assert "no file" in validate_file(tmp_path / "none.h5")[0]
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert validate_file(tmp_path / "x.npy")
