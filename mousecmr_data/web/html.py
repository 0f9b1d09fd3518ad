"""Render the texts and tables of the page as HTML. Everything from files and errors is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pandas as pd

from mousecmr_data._utils.text import RESEARCH_ONLY, format_bytes, format_count, join_names
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.pipeline.analysis import SINGLE_FRAME_NUMBERS
from mousecmr_data.pipeline.quality import FLAGS
from mousecmr_data.schema import SMALL_WEIGHTS
from mousecmr_data.web.job import JobOutcome, format_duration
from mousecmr_data.web.sessions import InspectedScan

if TYPE_CHECKING:
    from mousecmr_data.web.kept import KeptRun

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
"""Limit of rows in the page's list of flags; flags.csv has all."""
KEPT_HEADS = ("started", "mice", "status", "results")
MAX_NAMES = 4
"""Most mice that a row of the kept results names."""
REVIEW_TAB = "mousecmr-review"
"""Name of the browser's tab that shows the review screen, so that a second flag leads to the same one."""
MAX_OPEN_ROWS = 12
"""Up to this number of rows, the lists of flags and of kept results are open at first."""
COLUMNS = {
    "mouse": ("mouse", ""),
    "edv_ul": ("EDV µL", "volume of the blood pool at end-diastole (ED), the frame in which it is largest"),
    "esv_ul": ("ESV µL", "volume of the blood pool at end-systole (ES), the frame in which it is smallest"),
    "sv_ul": ("SV µL", "stroke volume: EDV − ESV"),
    "ef_percent": ("EF %", "ejection fraction: SV / EDV"),
    "mass_ed_mg": ("mass ED mg", "mass of the myocardium in the ED frame"),
    "mass_es_mg": ("mass ES mg", "mass of the myocardium in the ES frame"),
    "volume_ul": ("volume µL", "volume of the blood pool of a scan with one frame"),
    "mass_mg": ("mass mg", "mass of the myocardium of a scan with one frame"),
    "heart_rate_bpm": ("heart rate /min", "beats in a minute"),
    "heart_rate_source": ("heart rate from", "where the heart rate comes from"),
    "peak_ejection_rate_edv_s": ("peak ejection EDV/s", "fastest decrease of the volume, in EDV per second"),
    "peak_filling_rate_edv_s": ("peak filling EDV/s", "fastest increase of the volume, in EDV per second"),
}
"""Heading and explanation of the columns of the table of mice, by their name in mice.csv."""
DIGITS = {"heart_rate_bpm": 0}
"""Decimals of numbers in these columns; of others: 1."""
WORDS = {
    "Frame": "One image of the beating heart at one moment. A cine has all frames of a heartbeat.",
    "Slice": "One plane across the heart, from base to apex. Each slice has all frames.",
    "ED, ES": "End-diastole and end-systole: the frames in which the left ventricle is fullest and emptiest.",
    "EDV, ESV, SV, EF": "The volumes of the blood pool at ED and ES; the stroke volume, which is their difference; and "
    "the ejection fraction, which is SV divided by EDV.",
    "Voxel size": "The size of a pixel (y, x) and the distance between slices (z), in mm. Wrong sizes make all volumes "
    "wrong.",
    "Axes": "The order in which a file stores columns (x), rows (y), slices (z) and frames (t).",
    "Weights": "The numbers that a network has learnt from masks. They decide what it draws.",
    "Mask": "Which pixels are blood pool, and which are myocardium.",
    "Flag": "A place, or a number, that needs your look before you use it.",
}
"""Words that the page cannot avoid."""


def render_head(local: bool, keeps_results: bool) -> str:
    """Return the heading; ``local``: only this computer can reach the page."""
    where = "Files stay on this computer" if local else "Files are sent to the computer that serves this page"
    end = "and are deleted when you close the page."
    if keeps_results:
        end = (
            "and are deleted when you close the page; the results of each job are kept, and everyone who may open this "
            "page sees them."
        )
    return (
        "<h1>Mouse hearts, segmented</h1><p>Left ventricle in short-axis cine MRI: masks, volumes, ejection fraction. "
        f"<strong>{RESEARCH_ONLY}</strong> {where}{'' if local else ','} {end}</p>"
    )


def render_foot() -> str:
    """Return the words that are explained."""
    words = "".join(f"<dt>{word}</dt><dd>{text}</dd>" for word, text in WORDS.items())
    return f"<details><summary>What the words mean</summary><dl>{words}</dl></details><p>{RESEARCH_ONLY}</p>"


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
        voxel = "voxel z × y × x mm"
        heads = ["mouse", "format", "size", "frames × slices", "pixels", voxel, "frame time"]
        parts.append(render_table(heads, rows, {voxel: WORDS["Voxel size"]}))
        count = format_count(len(good), "mouse")
        size = format_bytes(sum(m.bytes for m in good))
        guess = "" if is_measured else " (a guess, until the first job is done)"
        parts.append(
            f'<p class="m-expected"><b>{count}, {format_count(sum(m.images for m in good), "slice")}, {size}: '
            f"about {format_duration(seconds)}</b> with {escape(weights)}{guess}.</p>"
        )
    parts += [render_error(m.error, m.name, make_hint(m.error, weights)) for m in mice if m.error]
    parts += [f'<p class="m-expected">{escape(text)}</p>' for text in left_out]
    return f'<div class="m-seen">{"".join(parts)}</div>'


def render_missing_weights(name: str, size: int, command: str, is_offline: bool) -> str:
    """Return what to do about weights that are not on this computer; ``command`` downloads ``size`` bytes."""
    download = f"“Segment” downloads them first ({format_bytes(size)}); or type" if not is_offline else "type"
    offline = " The network is switched off for this program (MOUSECMR_OFFLINE)." if is_offline else ""
    return (
        f'<div class="m-box m-note" role="status"><p><b>The weights {escape(name)} are not on this computer.</b>'
        f"{offline} There are two ways on:</p><ul><li>Get them: {download} <code>{escape(command)}</code> in a "
        "terminal of the computer that serves this page.</li>"
        f"<li>Or choose {SMALL_WEIGHTS}: it is here, but was trained on SYNTHETIC mice only, and every result says so."
        "</li></ul></div>"
    )


def render_progress(share: float, text: str, *, asks: bool) -> str:
    """Return the progress of a job, ``share`` 0 to 1; ``asks``: the browser asks before it leaves the page."""
    return (
        f'<div class="m-progress"{" data-ask" * asks}><p>{escape(text)}</p>'
        f'<progress max="1" value="{share:.3f}" aria-label="Progress of the job"></progress></div>'
    )


def render_finished(outcome: JobOutcome, *, asks: bool) -> str:
    """Return the status line of a finished job, and the errors of its mice; ``asks`` as in :func:`render_progress`."""
    good = sum(row["status"] != "failed" for row in outcome.mice)
    errors = "".join(render_error(e, name, make_hint(e, "")) for name, e in outcome.errors.items())
    if not good:
        return errors
    count = "1 mouse" if len(outcome.mice) == 1 else f"{good} of {len(outcome.mice)} mice"
    return f'<p class="m-done"{" data-ask" * asks}>{count} in {outcome.seconds:.1f} s.</p>{errors}'


def render_cancelled(keeps_results: bool) -> str:
    """Return the status line of a cancelled job."""
    rest = " The mice that were finished before are kept." if keeps_results else ""
    return f'<p class="m-cancelled">Cancelled.{rest}</p>'


def render_links(outcome: JobOutcome) -> str:
    """Return the links to the review screen and to the zip."""
    folder = f"mice/{outcome.token}/review"
    size = "" if outcome.zip_bytes is None else f"{format_bytes(outcome.zip_bytes)} "
    return (
        f'<p class="m-actions"><a href="{folder}/results.zip" download="mousecmr-results.zip">Download everything '
        f'({size}zip)</a> <a href="{folder}/" target="{REVIEW_TAB}" class="m-review">Review and correct</a></p>'
        "<p>The zip holds masks on the grid of the images (NIfTI, and DICOM SEG for DICOM), tables (CSV), movie, "
        "montage, curve, and a manifest with versions, weights and settings. After a review, with your corrections; "
        "the numbers on this page stay those of the network.</p>"
    )


def render_results(outcome: JobOutcome) -> str:
    """Return the notices and the table of mice."""
    good = [row for row in outcome.mice if row["status"] != "failed"]
    if not good:
        return ""
    marks = "".join(f"<li>{escape(m)}</li>" for m in dict.fromkeys(row["marks"] for row in good))
    columns = [c for c in COLUMNS if c not in SINGLE_FRAME_NUMBERS or any(pd.notna(row.get(c)) for row in good)]
    rows = [[_format_number(row.get(c), DIGITS.get(c, 1)) for c in columns] for row in good]
    mice = render_table([COLUMNS[c][0] for c in columns], rows, dict(COLUMNS.values()))
    return f'<ul class="m-marks">{marks}</ul><h2>Numbers</h2>{mice}'


def render_flags(outcome: JobOutcome) -> str:
    """Return the flags, one sentence per mouse, slice and flag, which leads to its place on the review screen."""
    if not any(row["status"] != "failed" for row in outcome.mice):
        return ""
    groups = outcome.flags.groupby(["mouse", "slice", "flag"], sort=False, dropna=False)
    rows = [
        _render_flag(outcome.token, str(mouse), slice_, str(flag), group["frame"].dropna().astype(int).tolist(), group)
        for (mouse, slice_, flag), group in sorted(groups, key=_rank_flags)
    ]
    text = f'<ul class="m-flags">{"".join(rows[:MAX_FLAG_ROWS])}</ul>'
    if len(rows) > MAX_FLAG_ROWS:
        text += f"<p>{len(rows) - MAX_FLAG_ROWS} more are in flags.csv.</p>"
    if not rows:
        text = "<p>No flag was raised. That does not mean that everything is correct: look at the masks.</p>"
    opened = " open" if len(rows) <= MAX_OPEN_ROWS or (outcome.flags["level"] == "mouse").any() else ""
    return f"<details{opened}><summary>Flags: what to look at ({len(rows)})</summary>{text}</details>"


def _rank_flags(group: tuple[Any, pd.DataFrame]) -> tuple[bool, bool]:
    """Return the order: flags of the whole mouse, then slices of which the network is not sure, then the rest."""
    first = group[1].iloc[0]
    return first["level"] != "mouse", first["flag"] != "check_slice"


def _render_flag(token: str, mouse: str, slice_: Any, flag: str, frames: Sequence[int], group: pd.DataFrame) -> str:
    place: dict[str, object] = {} if pd.isna(slice_) else {"slice": int(slice_)}
    words = [mouse, *(f"{name} {value}" for name, value in place.items())]
    if frames:
        words.append(f"frame{'s' * (len(frames) > 1)} {_format_ranges(frames)}")
        place["frame"] = int(group["frame"].dropna().iloc[0])
    address = f"mice/{token}/review/#{urlencode({'mouse': mouse, **place})}"
    why = FLAGS.get(flag, "")
    return (
        f'<li><a href="{escape(address)}" target="{REVIEW_TAB}">{escape(", ".join(words))}</a>: '
        f"{escape(str(group['message'].iloc[0]))} <span>({escape(flag)}: {escape(why)})</span></li>"
    )


def render_kept(runs: Sequence[tuple[KeptRun, bool]], owner: str, folder: str = "") -> str:
    """Return the list of kept results, with whether each job is still running; the ``owner`` of a job may cancel it."""
    rows = []
    for run, is_running in runs:
        mice, failed, is_finished = run.list_mice()
        links = f'<a href="mice/{run.token}/review/" target="{REVIEW_TAB}">Review</a> ' if mice else ""
        links += f'<a href="mice/{run.token}/review/results.zip" download>Zip</a>' if mice or failed else ""
        status = "finished" if is_finished else "unfinished: the job or the program was stopped"
        if is_running:
            links = f'<button type="button" data-cancel="{run.token}">Cancel</button>' if run.owner == owner else ""
            status = f"running: {run.progress}" if run.job else "running, by another program"
        status += f"; failed: {join_names(failed, MAX_NAMES)}" if failed else ""
        names = join_names(mice, MAX_NAMES) if mice else "none yet" if is_running else "none"
        cells = [escape(run.date), escape(names), escape(status), f"<span>{links}</span>"]
        rows.append("".join(f'<td data-head="{h}">{cell}</td>' for h, cell in zip(KEPT_HEADS, cells, strict=True)))
    head = "".join(f'<th scope="col">{h}</th>' for h in KEPT_HEADS)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = (
        '<div class="m-table" tabindex="0" role="group" aria-label="Kept results"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    where = f" In {escape(folder)}, one folder for each job." if folder else ""
    about = f"<p>{where} They stay when the page is closed; everyone who may open this page sees them.</p>"
    opened = " open" if len(rows) <= MAX_OPEN_ROWS else ""
    return (
        f"<details{opened}><summary>Results kept on this computer ({len(rows)})</summary>{about}"
        f"{table if rows else '<p>There are none yet.</p>'}</details>"
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


def _format_number(value: Any, digits: int) -> Any:
    return f"{value:.{digits}f}" if isinstance(value, float) and math.isfinite(value) else value


def render_table(
    heads: Sequence[str], rows: Sequence[Sequence[Any]], explanations: Mapping[str, str] | None = None
) -> str:
    """Return a table; missing values are dashes, and columns of numbers end at the right.

    The first column has the names of the rows. ``explanations`` are tooltips of headings.
    """
    explanations = explanations or {}
    texts = [["–" if pd.isna(v) else str(v) for v in row] for row in rows]
    columns = zip(*texts, strict=True)
    numbers = [k > 0 and all(re.match(r"–|-?\d|unknown", t) for t in column) for k, column in enumerate(columns)]
    classes = [' class="m-number"' * n for n in numbers]
    titles = [f' title="{escape(explanations.get(head, ""))}"' * bool(explanations.get(head)) for head in heads]
    cells = [f"<abbr{t}>{escape(h)}</abbr>" if t else escape(h) for h, t in zip(heads, titles, strict=True)]
    head = "".join(f'<th scope="col"{c}>{h}</th>' for h, c in zip(cells, classes, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{c} data-head="{escape(h)}">{escape(t)}</td>' for t, h, c in zip(row, heads, classes, strict=True)
        )
        + "</tr>"
        for row in texts
    )
    return (
        '<div class="m-table" tabindex="0" role="group" aria-label="Table"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
