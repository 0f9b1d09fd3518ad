"""The main Python functions: segment, evaluate, load_model. Segment and evaluate choose the same ED and ES."""

import dataclasses
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mousecmr_data
from mousecmr_data.formats.nifti import write_nifti_images

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.pipeline import SegmentConfig

MICE = 20 if os.environ.get("MOUSECMR_STRESS") else 3


def test_segment_from_python(tmp_path: Path, phantom_cache: Path) -> None:
    ds = mousecmr_data.open_mouse("Mouse5", source="phantom", cache=phantom_cache)
    scan = write_nifti_images(ds.isel(frame=[0, 7], slice=slice(3, 5)), tmp_path / "mine.nii.gz")
    kinds: list[str] = []
    options: dict[str, Any] = {"weights": "phantom-small", "engine": "eager", "device": "cpu", "pictures": False}
    result = mousecmr_data.segment(scan, tmp_path / "out", progress=lambda e: kinds.append(e.kind), **options)
    assert result.mice["status"].tolist() == ["done"]
    assert (tmp_path / "out" / "mine" / "masks.nii.gz").is_file()
    assert kinds[:3] == ["loading", "found", "reading"]
    assert kinds[-1] == "done"
    again = mousecmr_data.segment([str(scan)], tmp_path / "out", workers=2, **options)
    assert again.mice["status"].tolist() == ["as before"]
    with pytest.raises(TypeError, match="'voxel_size'"):
        mousecmr_data.segment(scan, tmp_path / "out", voxel_size=(1.0, 0.1, 0.1))  # type: ignore[call-arg]


def test_segment_lists_every_option_with_its_default() -> None:
    parameters = inspect.signature(mousecmr_data.segment).parameters
    defaults = {f.name: f.default for f in dataclasses.fields(SegmentConfig)}
    assert {name: parameters[name].default for name in defaults} == defaults


@pytest.mark.stress
def test_segment_and_evaluate_choose_the_same_frames(phantom_cache: Path) -> None:
    from mousecmr_data.evaluation import EvaluationConfig
    from mousecmr_data.pipeline import analyze

    predictor = mousecmr_data.load_model("phantom-small", engine="eager", device="cpu")
    names = [f"Mouse{number}" for number in range(2, 2 + MICE)]
    cohort = mousecmr_data.load(mice=names, source="phantom", cache=phantom_cache)
    for name, ds in cohort.items():
        middle = ds.isel(slice=slice(3, 6)).load()
        analysis = analyze(middle, predictor, SegmentConfig(weights="phantom-small"))
        masks = np.array(analysis.ds["predicted"].values)
        scored = mousecmr_data.evaluate({name: masks}, [middle], EvaluationConfig("volume-curve")).mice[0]
        assert scored.curve is not None
        assert (scored.curve["ed_frame"], scored.curve["es_frame"]) == (
            analysis.mouse["ed_frame"],
            analysis.mouse["es_frame"],
        )
        for measure in ("edv_ul", "esv_ul", "ef_percent"):
            assert scored.predicted[measure] == pytest.approx(analysis.mouse[measure], abs=1e-3)
