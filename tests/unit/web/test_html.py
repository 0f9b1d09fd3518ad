"""The HTML of the results."""

import pandas as pd
import pytest

from mousecmr_data.dataset.model import FRAME_TIME_HINT, SPACING_HINT
from mousecmr_data.errors import UnitsError
from mousecmr_data.web.html import render_error, render_results
from mousecmr_data.web.job import JobOutcome


def test_a_flag_of_several_frames_is_one_row() -> None:
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    rows = [("m", "slice", k, 7, "islands_removed", f"{k} voxels", "") for k in (0, 1, 2, 5)]
    rows += [
        ("m", "slice", 5, 8, "islands_removed", "40 voxels", ""),
        ("m", "mouse", None, None, "dark_blood", "d", ""),
    ]
    flags = pd.DataFrame(rows, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    html = render_results(JobOutcome([{"mouse": "m", "status": "done", "marks": "mark"}], flags, {}))
    assert "what to look at (3)" in html
    assert "<td>0–2, 5</td>" in html
    assert html.count("islands_removed") == 2
    assert html.count("dark_blood") == 1


def test_flags_of_the_whole_mouse_stand_first_and_are_never_folded() -> None:
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    rows: list[tuple[object, ...]] = [("m", "slice", 0, k, "islands_removed", f"{k} voxels", "") for k in range(20)]
    rows.append(("m", "mouse", None, None, "input_incomplete", "x.dcm was refused", ""))
    flags = pd.DataFrame(rows, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    html = render_results(JobOutcome([{"mouse": "m", "status": "done", "marks": ""}], flags, {}))
    assert "<details open>" in html
    assert html.index("x.dcm was refused") < html.index("islands_removed")


@pytest.mark.parametrize(
    "hint", [SPACING_HINT, FRAME_TIME_HINT, "say it: --axes tzyx  (x column, y row; Python: axes='tzyx')"]
)
def test_errors_speak_of_the_fields_of_the_page(hint: str) -> None:
    html = render_error(UnitsError("M1 does not say its voxel size.", "sizes in mm", hint))
    assert not [word for word in ("--", "Python", "mousecmr segment") if word in html]
    assert any(field in html for field in ("Voxel size", "Frame time", "Axes"))
