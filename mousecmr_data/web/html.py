"""What the page says, as HTML. Everything that came from a file or an error is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from mousecmr_data._utils.notices import RESEARCH_ONLY
from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.web.job import JobOutcome, format_duration
from mousecmr_data.web.sessions import InspectedScan

SESSION_LOST = "The connection to this page was lost, and its files were deleted."
RELOAD_HINT = "reload the page, and drop them again"
MAX_FLAG_ROWS = 40
"""Rows of the table of flags on the page; the file has all."""
MAX_OPEN_ROWS = 12
"""Up to so many are shown unasked."""
COLUMNS = {
    "mouse": "mouse",
    "edv_ul": "EDV µL",
    "esv_ul": "ESV µL",
    "sv_ul": "SV µL",
    "ef_percent": "EF %",
    "mass_ed_mg": "mass ED mg",
    "mass_es_mg": "mass ES mg",
    "heart_rate_bpm": "heart rate /min",
    "heart_rate_source": "heart rate from",
    "peak_ejection_rate_edv_s": "peak ejection EDV/s",
    "peak_filling_rate_edv_s": "peak filling EDV/s",
}
"""Columns of the table of mice, by their names in mice.csv."""


def render_head(local: bool) -> str:
    """The heading."""
    where = (
        "Files stay on this computer and are deleted when you close the page."
        if local
        else "Files go to the computer that serves this page, and are deleted when you close it."
    )
    return (
        "<h1>Mouse hearts, segmented</h1><p>Left ventricle in short-axis cine MRI: masks, volumes, ejection fraction. "
        f"<strong>{RESEARCH_ONLY}</strong> {where}</p>"
    )


def render_error(e: MouseCMRError, name: str = "", hint: str = "") -> str:
    """A refusal: what was found, what was expected, what to do."""
    who = f"<b>{escape(name)}</b>: " if name and not e.found.startswith(name) else ""
    rest = "".join(
        f"<p><span>{label}</span> {escape(text)}</p>"
        for label, text in (("Expected:", e.expected), ("Next:", e.next_step), ("On this page:", hint))
        if text
    )
    return f'<div class="m-box m-bad" role="alert"><p>{who}{escape(e.found)}</p>{rest}</div>'


def render_refusal(found: str, next_step: str = "") -> str:
    """A refusal that no error of the library stands for."""
    return render_error(MouseCMRError(found, next_step=next_step or None))


def make_hint(e: MouseCMRError, weights: str) -> str:
    """The way on that the page itself offers, where the error names an option of the command line."""
    text = str(e)
    if "--weights" in text and weights != "phantom-small":
        return "choose phantom-small under Weights; its results are marked, in every table, file and picture."
    fields = [
        name
        for option, name in (("--spacing", "Voxel size"), ("--axes", "Axes"), ("--frame-time", "Frame time"))
        if option in text
    ]
    return f"fill in {' or '.join(fields)} under “When the files are wrong or say nothing”." if fields else ""


def render_inspected(mice: Sequence[InspectedScan], seconds: float, learnt: bool, weights: str) -> str:
    """What was uploaded: a row a mouse, and how long it will take."""
    if not mice:
        return ""
    good, bad = [m for m in mice if m.error is None], [m for m in mice if m.error is not None]
    parts = []
    if good:
        rows = [
            [
                m.name + (" (SYNTHETIC)" if m.synthetic and "SYNTHETIC" not in m.name else ""),
                m.kind,
                format_bytes(m.bytes),
                f"{m.frames} × {m.slices}",
                f"{m.shape_yx[1]} × {m.shape_yx[0]}",
                " × ".join(f"{v:g}" for v in (m.voxel_mm or ())),
                "not known" if m.frame_ms is None else f"{m.frame_ms:g} ms",
            ]
            for m in good
        ]
        heads = ["mouse", "format", "size", "frames × slices", "pixels", "voxel z × y × x mm", "frame time"]
        parts.append(render_table(heads, rows))
        images = sum(m.images for m in good)
        guess = "" if learnt else " (a guess, until the first job is done)"
        what = "1 mouse" if len(good) == 1 else f"{len(good)} mice"
        parts.append(
            f'<p class="m-expected"><b>{what}, {images:,} slices, {format_bytes(sum(m.bytes for m in good))}: '
            f"about {format_duration(seconds)}</b> with {escape(weights)}{guess}.</p>"
        )
    parts += [render_error(m.error, m.name, make_hint(m.error, weights)) for m in bad if m.error]
    return f'<div class="m-seen">{"".join(parts)}</div>'


def render_finished(o: JobOutcome) -> str:
    """The line below the button when a job is done."""
    good = sum(r["status"] != "failed" for r in o.mice)
    failed = [render_error(e, name, make_hint(e, "")) for name, e in o.errors.items()]
    if not good:
        return "".join(failed)
    what = "1 mouse" if len(o.mice) == 1 else f"{good} of {len(o.mice)} mice"
    return f'<p class="m-done">{what} in {o.seconds:.1f} s.</p>{"".join(failed)}'


def render_results(o: JobOutcome) -> str:
    """The tables: numbers of the mice, and the flags, under the sentences that mark them."""
    good = [r for r in o.mice if r["status"] != "failed"]
    if not good:
        return ""
    marks = "".join(f"<li>{escape(m)}</li>" for m in dict.fromkeys(r["marks"] for r in good))
    mice = render_table(list(COLUMNS.values()), [[r.get(c) for c in COLUMNS] for r in good])
    every = _group_flags(o.flags)
    rows = every[:MAX_FLAG_ROWS]
    more = len(every) - len(rows)
    flags = (
        render_table(["mouse", "slice", "frames", "flag", "what was seen (first)"], rows, FLAGS)
        + (f"<p>{more} more are in flags.csv.</p>" if more > 0 else "")
        if rows
        else "<p>None was raised. That does not mean that everything is right: look at the masks.</p>"
    )
    return (
        f'<ul class="m-marks">{marks}</ul><h3>Numbers</h3>{mice}'
        f"<details {'open' if len(rows) <= MAX_OPEN_ROWS else ''}><summary>Flags: what to look at ({len(every)})</summary>"
        f"{flags}</details>"
    )


def _group_flags(flags: pd.DataFrame) -> list[list[Any]]:
    """A row for each mouse, slice and flag, in the order they come: frames as ranges, what was seen in the first."""
    return [
        [mouse, place, _format_ranges(rows["frame"].dropna().astype(int).tolist()), flag, rows["message"].iloc[0]]
        for (mouse, place, flag), rows in flags.groupby(["mouse", "slice", "flag"], sort=False, dropna=False)
    ]


def _format_ranges(frames: Sequence[int]) -> str | None:
    """0, 1, 2, 5 as "0–2, 5"; None where there are none."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs) or None


def render_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], titles: dict[str, str] | None = None) -> str:
    """A table; numbers to the right, missing ones as a dash. ``titles``: explanations of words in it."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(f"<tr>{''.join(_render_cell(v, titles or {}) for v in row)}</tr>" for row in rows)
    return f'<div class="m-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _render_cell(value: Any, titles: dict[str, str]) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "nan")
    if missing:
        return "<td>–</td>"
    if isinstance(value, str):
        title = f' title="{escape(titles[value])}"' if value in titles else ""
        return f"<td{title}>{escape(value)}</td>"
    return (
        f'<td class="m-number">{value:.1f}</td>' if isinstance(value, float) else f'<td class="m-number">{value}</td>'
    )
