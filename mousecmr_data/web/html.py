"""Render the texts and tables of the page as HTML. Everything from files and errors is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from mousecmr_data._utils.text import RESEARCH_ONLY, format_bytes
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.schema import SMALL_WEIGHTS
from mousecmr_data.web.job import JobOutcome, format_duration
from mousecmr_data.web.sessions import InspectedScan

OVERRIDES_LABEL = "When the files are wrong or incomplete"
"""Heading of the fields that override what the files state."""
FIELDS = {
    "--spacing": "Voxel size",
    "--axes": "Axes",
    "--frame-time": "Frame time",
    "--frames": "Frames",
    "--fill": "Fill value",
}
"""First words of those fields, by their option of the command line."""
MAX_FLAG_ROWS = 40
"""Limit of rows in the page's table of flags; flags.csv has all."""
MAX_OPEN_ROWS = 12
"""Up to this number of rows, the table of flags is open at first."""
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
"""Headings of the table of mice, by the column's name in mice.csv."""


def render_head(local: bool) -> str:
    """Return the heading; ``local``: only this computer can reach the page."""
    where = (
        "Files stay on this computer and are deleted when you close the page."
        if local
        else "Files are sent to the computer that serves this page, and are deleted when you close it."
    )
    return (
        "<h1>Mouse hearts, segmented</h1><p>Left ventricle in short-axis cine MRI: masks, volumes, ejection fraction. "
        f"<strong>{RESEARCH_ONLY}</strong> {where}</p>"
    )


TOKEN_NEEDED = "This page opens only with the link that “mousecmr serve” printed when it was started."


def render_token_page() -> str:
    """Return the whole page for visitors without the token."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Mouse hearts, segmented</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto 0;padding:0 1.2rem}"
        "h1{font-size:1.6rem;font-weight:600}code{overflow-wrap:anywhere}</style>"
        f"<h1>A link is needed</h1><p>{TOKEN_NEEDED} It is in the window in which the program runs, and looks like "
        "this:</p><p><code>http://computer:7860/?token=…</code></p><p>Copy the whole link, or ask the person who "
        "started the program for it. Links of earlier starts do not work any more.</p></html>"
    )


def render_error(e: MouseCMRError, name: str = "", hint: str = "") -> str:
    """Return a box with what was found, what was expected, what to do next, and a hint for this page."""
    found, expected, next_step = (_translate_options(text or "") for text in (e.found, e.expected, e.next_step))
    label = f"<b>{escape(name)}</b>: " if name and not e.found.startswith(name) else ""
    parts = (("Expected:", expected), ("Next:", next_step), ("On this page:", hint))
    rest = "".join(f"<p><span>{heading}</span> {escape(text)}</p>" for heading, text in parts if text)
    return f'<div class="m-box m-bad" role="alert"><p>{label}{escape(found)}</p>{rest}</div>'


def _translate_options(text: str) -> str:
    """Return a sentence for people of the command line in the words of the page."""
    text = re.sub(r"[(;]\s*Python: (?:[^()]|\([^()]*\))*", lambda m: "(" if m[0].endswith("(") else "", text)
    text = re.sub(
        r"mousecmr segment (?=--)|\(\)|(?<=\S)\s*\)$", lambda m: ")" if m[0] == ")" and "(" in text else "", text
    )
    for option, field in FIELDS.items():
        text = text.replace(option, f"{field}:")
    return " ".join(text.split())


def render_refusal(found: str, next_step: str = "") -> str:
    """Return an error box for a message of the page itself."""
    return render_error(MouseCMRError(found, next_step=next_step or None))


def make_hint(e: MouseCMRError, weights: str) -> str:
    """Return what to do on the page if the error names an option of the command line; else an empty text."""
    text = str(e)
    if "--weights" in text and weights != SMALL_WEIGHTS:
        return f"choose {SMALL_WEIGHTS} under Weights; its results are marked in every table, file and picture."
    fields = " or ".join(field for option, field in FIELDS.items() if option in text)
    return f"fill in {fields} under “{OVERRIDES_LABEL}”." if fields else ""


def render_inspected(
    mice: Sequence[InspectedScan], seconds: float, is_measured: bool, weights: str, left_out: Sequence[str] = ()
) -> str:
    """Return the table of uploaded mice, the expected time, the errors, and the sentences ``left_out``.

    ``is_measured``: the expected time is not a first guess.
    """
    if not mice:
        return ""
    good = [m for m in mice if m.error is None]
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
                "unknown" if m.frame_ms is None else f"{m.frame_ms:g} ms",
            ]
            for m in good
        ]
        heads = ["mouse", "format", "size", "frames × slices", "pixels", "voxel z × y × x mm", "frame time"]
        parts.append(render_table(heads, rows))
        count = "1 mouse" if len(good) == 1 else f"{len(good)} mice"
        size = format_bytes(sum(m.bytes for m in good))
        guess = "" if is_measured else " (a guess, until the first job is done)"
        parts.append(
            f'<p class="m-expected"><b>{count}, {sum(m.images for m in good):,} slices, {size}: '
            f"about {format_duration(seconds)}</b> with {escape(weights)}{guess}.</p>"
        )
    parts += [render_error(m.error, m.name, make_hint(m.error, weights)) for m in mice if m.error]
    parts += [f'<p class="m-expected">{escape(text)}</p>' for text in left_out]
    return f'<div class="m-seen">{"".join(parts)}</div>'


def render_finished(outcome: JobOutcome) -> str:
    """Return the status line of a finished job, and the errors of its mice."""
    good = sum(row["status"] != "failed" for row in outcome.mice)
    errors = "".join(render_error(e, name, make_hint(e, "")) for name, e in outcome.errors.items())
    if not good:
        return errors
    count = "1 mouse" if len(outcome.mice) == 1 else f"{good} of {len(outcome.mice)} mice"
    return f'<p class="m-done">{count} in {outcome.seconds:.1f} s.</p>{errors}'


def render_results(outcome: JobOutcome) -> str:
    """Return the notices, the table of mice, and the table of flags with one row per mouse, slice and flag."""
    good = [row for row in outcome.mice if row["status"] != "failed"]
    if not good:
        return ""
    marks = "".join(f"<li>{escape(m)}</li>" for m in dict.fromkeys(row["marks"] for row in good))
    mice = render_table(list(COLUMNS.values()), [[row.get(c) for c in COLUMNS] for row in good])
    groups = outcome.flags.groupby(["mouse", "slice", "flag"], sort=False, dropna=False)
    rows = [
        [mouse, slice_, _format_ranges(group["frame"].dropna().astype(int).tolist()), flag, group["message"].iloc[0]]
        for (mouse, slice_, flag), group in sorted(groups, key=lambda g: g[1]["level"].iloc[0] != "mouse")
    ]
    flags = render_table(["mouse", "slice", "frames", "flag", "first message"], rows[:MAX_FLAG_ROWS], FLAGS)
    if len(rows) > MAX_FLAG_ROWS:
        flags += f"<p>{len(rows) - MAX_FLAG_ROWS} more are in flags.csv.</p>"
    if not rows:
        flags = "<p>No flag was raised. That does not mean that everything is correct: look at the masks.</p>"
    opened = "open" if len(rows) <= MAX_OPEN_ROWS or (outcome.flags["level"] == "mouse").any() else ""
    return (
        f'<ul class="m-marks">{marks}</ul><h3>Numbers</h3>{mice}'
        f"<details {opened}><summary>Flags: what to look at ({len(rows)})</summary>{flags}</details>"
    )


def _format_ranges(frames: Sequence[int]) -> str | None:
    """Return 0, 1, 2, 5 as "0–2, 5"; None if there are no frames."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs) or None


def render_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], titles: dict[str, str] | None = None) -> str:
    """Return a table; missing values are dashes. ``titles`` are tooltips, by the text of their cells."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(f"<tr>{''.join(_render_cell(v, titles or {}) for v in row)}</tr>" for row in rows)
    return f'<div class="m-table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _render_cell(value: Any, titles: dict[str, str]) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "nan"):
        return "<td>–</td>"
    if isinstance(value, str):
        title = f' title="{escape(titles[value])}"' if value in titles else ""
        return f"<td{title}>{escape(value)}</td>"
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return f'<td class="m-number">{text}</td>'
