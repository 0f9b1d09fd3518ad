"""The HTML of the results."""

import re

import pandas as pd
import pytest

from mousecmr_data.dataset.model import FRAME_TIME_HINT, SPACING_HINT
from mousecmr_data.errors import UnitsError
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.web.html import render_error, render_flags, render_results
from mousecmr_data.web.job import JobOutcome


def test_a_flag_of_several_frames_is_one_sentence_that_leads_to_its_first_frame() -> None:
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    rows = [("m", "slice", k, 7, "islands_removed", f"{k} voxels", "") for k in (0, 1, 2, 5)]
    rows += [
        ("m", "slice", 5, 8, "islands_removed", "40 voxels", ""),
        ("m", "mouse", None, None, "dark_blood", "d", ""),
    ]
    flags = pd.DataFrame(rows, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    html = render_flags(JobOutcome([{"mouse": "m", "status": "done", "marks": "mark"}], flags, {}, "token"))
    assert "what to look at (3)" in html
    assert html.count("<li>") == 3
    link = '<a href="mice/token/review/#mouse=m&amp;slice=7&amp;frame=0" target="mousecmr-review">'
    assert f"{link}m, slice 7, frames 0–2, 5</a>: 0 voxels" in html
    assert FLAGS["islands_removed"] in html
    assert 'review/#mouse=m" ' in html, "a flag of the whole mouse leads to it"


def test_numbers_end_at_the_right_with_sensible_digits_and_explained_units() -> None:
    row = {"mouse": "7T", "status": "done", "marks": "", "edv_ul": 61.26, "heart_rate_bpm": 467.29, "ef_percent": None}
    html = render_results(JobOutcome([row | {"heart_rate_source": "assumed"}], pd.DataFrame(), {}))
    assert '<td class="m-number" data-head="EDV µL">61.3</td>' in html
    assert '<td class="m-number" data-head="heart rate /min">467</td>' in html
    assert '<td data-head="mouse">7T</td>' in html and '<td data-head="heart rate from">assumed</td>' in html
    head = re.search(r'<th scope="col" class="m-number"><abbr title="([^"]*)">EDV µL</abbr>', html)
    assert head is not None and "end-diastole (ED)" in head[1]


def test_flags_of_the_whole_mouse_stand_first_and_are_never_folded() -> None:
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    rows: list[tuple[object, ...]] = [("m", "slice", 0, k, "islands_removed", f"{k} voxels", "") for k in range(20)]
    rows.append(("m", "slice", 0, 3, "check_slice", "The network is not sure.", ""))
    rows.append(("m", "mouse", None, None, "input_incomplete", "x.dcm was refused", ""))
    flags = pd.DataFrame(rows, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    html = render_flags(JobOutcome([{"mouse": "m", "status": "done", "marks": ""}], flags, {}))
    assert "<details open>" in html
    assert html.index("x.dcm was refused") < html.index("not sure.") < html.index("islands_removed")


@pytest.mark.parametrize(
    "hint", [SPACING_HINT, FRAME_TIME_HINT, "say it: --axes tzyx  (x column, y row; Python: axes='tzyx')"]
)
def test_errors_speak_of_the_fields_of_the_page(hint: str) -> None:
    html = render_error(UnitsError("M1 does not say its voxel size.", "sizes in mm", hint))
    assert not [word for word in ("--", "Python", "mousecmr segment") if word in html]
    assert any(field in html for field in ("Voxel size", "Frame time", "Axes"))
