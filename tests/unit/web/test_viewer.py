import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.pipeline.analysis import AnalysisResult
from mousecmr_data.pipeline.quality import Flag
from mousecmr_data.schema.labels import COLOURS, Label
from mousecmr_data.schema.variables import PREDICTED
from mousecmr_data.web import viewer
from mousecmr_data.web.viewer import INSIDE_ALPHA, write_viewer

SIZES = PhysicalSizes((1.0, 0.1, 0.1), "given", 5.0, "given")


def result(n_frames: int = 5, side: int = 40) -> AnalysisResult:
    """A bright square in a ring; frame f is brighter than the one before."""
    images = np.zeros((n_frames, 2, side, side), np.uint16)
    labels = np.zeros(images.shape, np.uint8)
    labels[:, 1, 8:20, 10:30] = Label.MYOCARDIUM
    labels[:, 1, 12:16, 16:24] = Label.BLOOD_POOL
    images += (np.arange(n_frames)[:, None, None, None] * 100).astype(np.uint16)
    ds = build_dataset(images, None, (), SIZES, {"mouse": "m", "synthetic": False})
    ds = ds.assign({PREDICTED: (("frame", "slice", "y", "x"), labels)})
    frames = pd.DataFrame(
        {"phase": ["ED", "", "ES", "", ""][:n_frames], "blood_pool_ul": 3.0, "blood_pool_smoothed_ul": np.nan},
        index=range(n_frames),
    )
    flags = (Flag("at_edge", "cut", 1, 1), Flag("dark_blood", "dark"))
    return AnalysisResult("m", ds, {"ed_frame": 0, "weights": "w"}, frames, pd.DataFrame(), flags, ("mark",), 1.0)


def tile(path: Path, about: dict[str, int], frame: int, mode: str) -> np.ndarray:
    picture = np.asarray(Image.open(path).convert(mode))
    row, column = divmod(frame, about["columns"])
    y, x = row * about["height"], column * about["width"]
    return picture[y : y + about["height"], x : x + about["width"]]


def test_frames_and_masks_are_where_the_viewer_expects_them(tmp_path: Path) -> None:
    data = write_viewer(result(), tmp_path, "m0")
    about = data.about
    assert (about["frames"], about["slices"], about["start"]) == (5, 2, {"frame": 0, "slice": 1})
    assert set(data.files) == {"m0-0.webp", "m0-0.png", "m0-1.webp", "m0-1.png"}
    greys = [tile(data.files["m0-1.webp"], about, f, "L").mean() for f in range(5)]
    assert greys == sorted(greys)
    assert greys[4] - greys[0] > 200
    masks = tile(data.files["m0-1.png"], about, 3, "RGBA")
    assert masks[0, 0].tolist()[3] == 0
    assert masks[8, 10].tolist() == [*colour(Label.MYOCARDIUM), 255]
    assert masks[10, 20].tolist() == [*colour(Label.MYOCARDIUM), INSIDE_ALPHA]
    assert masks[12, 16].tolist() == [*colour(Label.BLOOD_POOL), 255]
    assert masks[13, 20].tolist() == [*colour(Label.BLOOD_POOL), INSIDE_ALPHA]
    assert not tile(data.files["m0-0.png"], about, 3, "RGBA").any()


def colour(label: Label) -> list[int]:
    return [int(COLOURS[label][k : k + 2], 16) for k in (1, 3, 5)]


def test_the_viewer_data_are_json(tmp_path: Path) -> None:
    about = json.loads(json.dumps(write_viewer(result(), tmp_path, "m0").about, allow_nan=False))
    assert about["smoothed_ul"][0] is None
    assert about["flags"] == [{"frame": 1, "slice": 1, "flag": "at_edge", "message": "cut"}]
    assert about["time_ms"] == [0, 5, 10, 15, 20]
    left, top, right, bottom = about["heart"]
    assert left <= 10 < 30 <= right
    assert top <= 8 < 20 <= bottom


def test_large_pictures_are_shown_at_a_lower_resolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "MAX_PIXELS", 5 * 20 * 20)
    data = write_viewer(result(), tmp_path, "m0")
    assert (data.about["shrunk"], data.about["height"], data.about["pixel_mm"]) == (2, 20, pytest.approx(0.2))
    assert tile(data.files["m0-1.png"], data.about, 0, "RGBA")[5, 10, 3] > 0


def test_one_frame_is_enough(tmp_path: Path) -> None:
    one = result(1)
    assert isinstance(one.ds, xr.Dataset)
    assert write_viewer(one, tmp_path, "m0").about["columns"] == 1
