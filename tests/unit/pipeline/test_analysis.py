"""The analysis of one mouse, with a segmenter that returns given masks."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.errors import UnitsError
from mousecmr_data.formats.build import build_scan
from mousecmr_data.formats.orientation import FileGrid
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.pipeline.analysis import analyze
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.schema.variables import DIMS, EXPECTED_DICE, PREDICTED, UNPROCESSED

RADII = 5.0 + 2.0 * np.cos(np.linspace(0, 2 * np.pi, 20, endpoint=False))
"""Radii of the blood pool in each frame, in pixels."""


class FixedSegmenter:
    """A segmenter that returns ``labels``."""

    origin = SimpleNamespace(name="fixed", synthetic_training=True)

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self.labels, self.expected = labels, np.ones(labels.shape[:2], np.float32)

    def segment(self, ds: xr.Dataset, *, progress: Callable[[int], None] | None, **_: Any) -> xr.Dataset:
        attrs = {"weights": "fixed", "synthetic_training": True}
        if progress:
            progress(self.labels.shape[0] * self.labels.shape[1])
        kept = np.stack([postprocess(stack) for stack in self.labels])
        extra = {UNPROCESSED: (DIMS, self.labels), EXPECTED_DICE: (DIMS[:2], self.expected)}
        return ds.assign({PREDICTED: (DIMS, kept, attrs), **extra})


@pytest.fixture
def labels() -> NDArray[np.uint8]:
    y, x = np.mgrid[:64, :64]
    radius = np.hypot(y - 32, x - 30)
    beat = np.stack([np.where(radius < r, 2, np.where(radius < r + 4, 1, 0)) for r in RADII])
    out = np.zeros((20, 6, 64, 64), np.uint8)
    out[:, 1:5] = beat[:, None]
    return out


def dataset(
    labels: NDArray[np.uint8], spacing: tuple[float, float, float] = (1.0, 0.2, 0.2), **more: Any
) -> xr.Dataset:
    rng = np.random.default_rng(0)
    image = np.array([500, 900, 2000], np.uint16)[labels] + rng.integers(0, 300, labels.shape, np.uint16)
    image[..., :20, :20] += 500
    grid = FileGrid(labels.shape, "tzyx", "", ((1.0,),))
    step = more.pop("step", 5.0)
    z, y, x = spacing
    return build_scan(image, (z, y, x), "given", step, "given", grid, mouse="M", source="here", **more)


def test_volumes_phases_and_rates(labels: NDArray[np.uint8]) -> None:
    result = analyze(dataset(labels), FixedSegmenter(labels))  # type: ignore[arg-type]
    row, voxel = result.mouse, 0.04
    edv, esv = (np.count_nonzero(labels[f] == 2) * voxel for f in (0, 10))
    assert (row["ed_frame"], row["es_frame"]) == (0, 10)
    assert row["edv_ul"] == pytest.approx(edv, abs=1e-3)
    assert row["ef_percent"] == pytest.approx(100 * (edv - esv) / edv, abs=1e-3)
    assert row["mass_ed_mg"] == pytest.approx(np.count_nonzero(labels[0] == 1) * voxel * 1.05, abs=1e-3)
    assert row["heart_rate_bpm"] == pytest.approx(600.0)
    assert row["peak_ejection_rate_ul_s"] > 0 < row["peak_filling_rate_ul_s"]
    assert row["flags"] == ""
    assert list(result.frames.query("phase == 'ED'")["frame"]) == [0]
    assert len(result.slices) == 20 * 6
    assert result.marks[0].startswith("Masks by weights that were trained on synthetic")
    assert all(result.marks[0] in m for m in (*result.frames["marks"], *result.slices["marks"], row["marks"]))


def test_ed_and_es_are_not_taken_from_an_outlier(labels: NDArray[np.uint8]) -> None:
    labels[5] = labels[0]
    labels[5, 0] = labels[5, 1]  # one frame with one slice too many
    result = analyze(dataset(labels), FixedSegmenter(labels))  # type: ignore[arg-type]
    assert result.frames["blood_pool_ul"].idxmax() == 5
    assert result.mouse["ed_frame"] == 0
    assert "curve_jump" in result.mouse["flags"]
    assert result.frames["flags"][5] == "curve_jump"


def test_unknown_values_are_missing(labels: NDArray[np.uint8]) -> None:
    untimed = analyze(dataset(labels, step=None), FixedSegmenter(labels))  # type: ignore[arg-type]
    assert np.isnan(untimed.mouse["heart_rate_bpm"])
    assert np.isnan(untimed.mouse["peak_filling_rate_ul_s"])
    assert untimed.frames["time_ms"].isna().all()
    assert untimed.mouse["edv_ul"] > 0
    assert untimed.mouse["flags"] == "frame_time_unknown"
    one = analyze(dataset(labels[:1]), FixedSegmenter(labels[:1]))  # type: ignore[arg-type]
    assert np.isnan(one.mouse["edv_ul"])
    assert one.frames["blood_pool_ul"][0] > 0
    assert one.mouse["flags"] == "single_frame"
    stated = analyze(dataset(labels, heart_rate_bpm=432.0), FixedSegmenter(labels))  # type: ignore[arg-type]
    assert stated.mouse["heart_rate_bpm"] == 432.0
    nothing = np.zeros_like(labels)
    empty = analyze(dataset(labels), FixedSegmenter(nothing))  # type: ignore[arg-type]
    assert empty.mouse["flags"] == "heart_not_found"
    assert np.isnan(empty.mouse["ef_percent"])


def test_a_ventricle_of_several_millilitres_is_refused(labels: NDArray[np.uint8]) -> None:
    ds = dataset(labels, (3.0, 0.6, 0.6))
    large = np.full_like(labels, 2)
    with pytest.raises(UnitsError, match=r"26\.5 mL is too large for a mouse.*--spacing".replace(".*", "(.|\n)*")):
        analyze(ds, FixedSegmenter(large))  # type: ignore[arg-type]


def test_notes_of_the_reader_become_flags(labels: NDArray[np.uint8]) -> None:
    ds = dataset(labels).assign_attrs(notes="The corners are empty.")
    result = analyze(ds, FixedSegmenter(labels))  # type: ignore[arg-type]
    assert [(f.flag, f.message) for f in result.flags] == [("input_note", "The corners are empty.")]
    assert {f.flag for f in result.flags} <= set(FLAGS)


def test_progress_counts_every_slice(labels: NDArray[np.uint8]) -> None:
    counts: list[int] = []
    analyze(dataset(labels), FixedSegmenter(labels), progress=counts.append)  # type: ignore[arg-type]
    assert sum(counts) == 120


def test_uncertain_slices_are_flagged_and_in_the_table(labels: NDArray[np.uint8]) -> None:
    segmenter = FixedSegmenter(labels)
    segmenter.expected[3, 4], segmenter.expected[5, 1] = 0.5, 0.3
    result = analyze(dataset(labels), segmenter)  # type: ignore[arg-type]
    assert [(f.frame, f.slice) for f in result.flags if f.flag == "check_slice"] == [(5, 1), (3, 4)]
    row = result.slices.query("frame == 3 and slice == 4").iloc[0]
    assert row["expected_dice"] == pytest.approx(0.5) and row["flags"] == "check_slice"


def test_what_post_processing_removed_and_added_is_in_the_table_and_flagged(labels: NDArray[np.uint8]) -> None:
    class Changed(FixedSegmenter):
        def segment(self, ds: xr.Dataset, **options: Any) -> xr.Dataset:
            out = super().segment(ds, **options)
            before = out[UNPROCESSED].values.copy()
            before[2, 1], before[6, 5] = 0, before[6, 4]
            return out.assign({UNPROCESSED: (DIMS, before)})

    result = analyze(dataset(labels), Changed(labels))  # type: ignore[arg-type]
    found = {(f.flag, f.frame, f.slice) for f in result.flags}
    assert {("slice_added", 2, 1), ("slice_removed", 6, 5)} <= found
    table = result.slices.set_index(["frame", "slice"])
    assert table.loc[(2, 1), "added_mm2"] == pytest.approx(np.count_nonzero(labels[2, 1]) * 0.04)
    assert table.loc[(6, 5), "removed_mm2"] == pytest.approx(np.count_nonzero(labels[6, 4]) * 0.04)
    assert table["added_mm2"].gt(0).sum() == table["removed_mm2"].gt(0).sum() == 1


def test_one_slice_has_no_ejection_fraction(labels: NDArray[np.uint8]) -> None:
    one = np.ascontiguousarray(labels[:, 2:3])
    row = analyze(dataset(one), FixedSegmenter(one)).mouse  # type: ignore[arg-type]
    assert np.isnan(row["ef_percent"])
    assert np.isnan(row["sv_ul"])
    assert row["edv_ul"] > 0
    assert "single_slice" in row["flags"].split()


def test_what_the_reader_says_about_the_scan_becomes_flags(labels: NDArray[np.uint8]) -> None:
    attrs = {
        "incomplete": "x.dcm is damaged",
        "purpose": "an EPI",
        "heart_rate_source": "the file (HeartRate, 0018,1088)",
    }
    ds = dataset(labels, heart_rate_bpm=62.0, **attrs)
    result = analyze(ds, FixedSegmenter(labels))  # type: ignore[arg-type]
    messages = {f.flag: f.message for f in result.flags}
    assert messages["input_incomplete"] == "x.dcm is damaged"
    assert messages["not_short_axis"] == "The header says that this is an EPI."
    assert "62 /min, expected 150 to 900. It is from: the file (HeartRate" in messages["heart_rate_out_of_range"]
    assert result.mouse["heart_rate_source"] == "the file (HeartRate, 0018,1088)"
    assert set(messages) <= set(FLAGS)
