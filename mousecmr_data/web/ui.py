"""The page: its layout, and the callbacks of its buttons and fields. Needs gradio."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import gradio as gr

from mousecmr_data._utils.text import format_bytes
from mousecmr_data.inference.predictor import list_own_models
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.web.html import (
    OVERRIDES_LABEL,
    WORDS,
    render_cancelled,
    render_flags,
    render_foot,
    render_head,
    render_links,
    render_progress,
    render_refusal,
    render_results,
)
from mousecmr_data.web.middleware import OWNER
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session

EMPTY_RESULTS: tuple[Any, ...] = ("", "", {}, "")
"""Values of no links, no table, an empty viewer and no flags."""
SESSION_CLOSED = render_refusal(
    "The connection was lost and the files were deleted.", "reload the page and drop the files again"
)
"""Shown if the session of the page was closed."""
POLL_SECONDS = 0.3
"""Time between two looks at a running job."""
KEPT_SECONDS = 5
"""Time between two looks at the kept results."""


class Callbacks:
    """The functions behind the page's events; each works on the visitor's own session.

    ``fields`` are weights, voxel size, axes, frame time, frames and fill value, as typed.
    """

    def __init__(self, service: PageService) -> None:
        self.service = service

    def on_load(self, weights: str, request: gr.Request) -> tuple[Any, ...]:
        """Open a session; return the settings of the drop zone, the three buttons, which are enabled now, the weights
        with a note about the chosen ones, and the kept results."""
        owner = _get_owner(request)
        session = self.service.sessions.open(str(request.session_hash), owner)
        buttons = [gr.Button(interactive=True) for _ in range(3)]
        about = {"token": session.token, "limit_mb": self.service.config.upload_mb}
        choices = gr.Radio(make_weight_choices(self.service))
        return about, *buttons, choices, self.service.describe_weights(weights), self.service.describe_kept(owner)

    def on_close(self, request: gr.Request) -> None:
        """Close the session of a page that was closed or reloaded."""
        self.service.sessions.close_session(str(request.session_hash), _get_owner(request))

    def on_upload(
        self, weights: str, spacing: str, axes: str, time: str, frames: str, fill: str, request: gr.Request
    ) -> str:
        """Return a description of the uploads, after an upload or a change of a field."""
        session = self._find_session(request)
        return self.service.inspect(session, weights, spacing, axes, time, frames, fill) if session else SESSION_CLOSED

    def on_example(
        self, weights: str, spacing: str, axes: str, time: str, frames: str, fill: str, request: gr.Request
    ) -> tuple[Any, ...]:
        """Load the example; return its description, and an empty status and results."""
        session = self._find_session(request)
        text = (
            self.service.load_example(session, weights, spacing, axes, time, frames, fill)
            if session
            else SESSION_CLOSED
        )
        return text, "", *EMPTY_RESULTS

    def on_weights(self, weights: str, request: gr.Request) -> tuple[str, str]:
        """Return the description of the uploads for other weights, and the note about these."""
        session = self._find_session(request)
        text = self.service.describe_inspected(session, weights) if session else SESSION_CLOSED
        return text, self.service.describe_weights(weights)

    def on_remove(self, request: gr.Request) -> tuple[Any, ...]:
        """Cancel the job and remove all files; return an empty description, the status, and empty results."""
        session = self._find_session(request)
        if session:
            session.remove_files()
        return "", "" if session else SESSION_CLOSED, *EMPTY_RESULTS

    def on_start(self) -> tuple[Any, ...]:
        """Return the buttons while a job runs, and an empty status and results."""
        return *_make_job_buttons(running=True), "", *EMPTY_RESULTS

    def on_segment(
        self, weights: str, spacing: str, axes: str, time: str, frames: str, fill: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Segment the uploads; yield status, links, tables, viewer, flags, and the uploads, folded after the job."""
        session = self._find_session(request)
        if session is None:
            yield SESSION_CLOSED, *EMPTY_RESULTS, gr.skip()
            return
        progress, service = (0.0, ""), self.service
        asks = service.kept is None

        def report(share: float, text: str) -> None:
            nonlocal progress
            progress = share, text

        job = service.segment(session, report, weights, spacing, axes, time, frames, fill)
        shown = None
        while not job.done():
            before = service.jobs.count_before(job)
            waiting = f"In the queue: {before} {'job' if before == 1 else 'jobs'} before yours."
            if shown != (shown := (0.0, waiting) if before else progress):
                yield render_progress(*shown, asks=asks), *EMPTY_RESULTS, gr.skip()
            wait([job], POLL_SECONDS)
        if job.cancelled():
            yield render_cancelled(not asks), *EMPTY_RESULTS, gr.skip()
            return
        status, outcome = job.result()
        if outcome is None or not outcome.views:
            yield status, *EMPTY_RESULTS, gr.skip()
            return
        views = {"token": session.token, "views": outcome.views}
        tables = render_links(outcome), render_results(outcome), views, render_flags(outcome)
        yield status, *tables, gr.Accordion(open=False)

    def on_end(self, weights: str, request: gr.Request) -> tuple[Any, ...]:
        """Return the buttons after a job, the note about the weights, and the kept results."""
        kept = self.service.describe_kept(_get_owner(request))
        return *_make_job_buttons(running=False), self.service.describe_weights(weights), kept

    def on_cancel(self, request: gr.Request) -> None:
        """Cancel the job of this page."""
        session = self._find_session(request)
        if session and session.job:
            session.job.cancel()

    def on_kept(self, shown: str, request: gr.Request) -> tuple[Any, ...]:
        """Return the kept results twice, to show and to remember, unless they are as ``shown``: then the page keeps
        what is focused or folded."""
        text = self.service.describe_kept(_get_owner(request))
        return (gr.skip(), gr.skip()) if text == shown else (text, text)

    def on_cancel_kept(self, request: gr.Request, event: gr.EventData) -> str:
        """Cancel a job whose page was closed; return the kept results."""
        owner = _get_owner(request)
        self.service.cancel_kept(event.token, owner)
        return self.service.describe_kept(owner)

    def _find_session(self, request: gr.Request) -> Session | None:
        return self.service.sessions.find(str(request.session_hash), _get_owner(request))


def _make_job_buttons(*, running: bool) -> tuple[Any, ...]:
    """Return “Segment”, “Load an example mouse” and “Cancel” while a job of this page is running, or else."""
    return gr.Button(interactive=not running), gr.Button(interactive=not running), gr.Button(visible=running)


def _get_owner(request: gr.Request) -> str:
    """Return the name of the browser, which :class:`~mousecmr_data.web.middleware.AccessMiddleware` found."""
    inner = request.request
    return str(inner.scope.get(OWNER, "")) if inner is not None else ""


FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")


CANCEL_KEPT = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-cancel]");
  if (button) trigger("cancelled", { token: button.dataset.cancel });
});"""


def make_weight_choices(service: PageService) -> list[tuple[str, str]]:
    """Return a text about each of the weights that the page offers, and its name; the owner's file is loaded."""
    published = load_manifest().weights[PUBLISHED_WEIGHTS]
    about = f"the authors' weights, trained on {published.trained_on.partition(' (')[0]}"
    small = f"{SMALL_WEIGHTS}: in this package, trained on SYNTHETIC mice only; every result says so"
    size = format_bytes(published.size)
    choices = [(f"{published.name}: {about} ({size} download)", published.name), (small, SMALL_WEIGHTS)]
    for name, card in list_own_models(service.config.cache).items():
        mark = ", and before on SYNTHETIC mice" if card.synthetic_training or card.synthetic_ancestry else ""
        choices.append((f"{name}: your own, tuned on {card.weights.trained_on.partition(' (')[0]}{mark}", name))
    if own := service.config.own_weights:
        origin = service.get_predictor(service.parse(own.name, "", "", "")).origin
        mark = ", SYNTHETIC mice only" if origin.synthetic_training else ""
        choices.append((f"{own.name}: {origin.name}, trained on {origin.trained_on}{mark}", own.name))
    return choices


def make_theme() -> gr.themes.Base:
    """Return a theme with system fonts, so that no font is downloaded, and colours of enough contrast (WCAG AA)."""
    fonts, mono = ([gr.themes.Font(f) for f in names] for names in (FONTS, MONO_FONTS))
    theme = gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)
    soft = dict.fromkeys(
        ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color"), "*neutral_600"
    )
    soft |= {f"{name}_dark": "*neutral_300" for name in soft}
    links = {"link_text_color": "*primary_800", "link_text_color_dark": "*primary_300"}
    buttons = {f"button_primary_background_fill{end}": "*primary_700" for end in ("", "_dark")}
    buttons |= {f"button_primary_background_fill_hover{end}": "*primary_800" for end in ("", "_dark")}
    return theme.set(**soft, **links, **buttons)


def read_static(name: str) -> str:
    """Return the text of a file in ``static/``."""
    return Path(__file__).with_name("static").joinpath(name).read_text(encoding="utf-8")


def build_page(service: PageService) -> gr.Blocks:
    """Return the page, not yet served."""
    html: dict[str, Any] = {"apply_default_css": False, "elem_classes": "m-part"}
    page: gr.Blocks
    with gr.Blocks(title="Mouse hearts, segmented", analytics_enabled=False) as page:
        gr.HTML(render_head(service.config.local, service.kept is not None), elem_id="head", **html)
        with gr.Accordion("Files and settings", elem_id="inputs") as inputs:
            drop = gr.HTML(
                {}, html_template=read_static("drop.html"), js_on_load=read_static("drop.js"), elem_id="drop", **html
            )
            with gr.Row():
                example = gr.Button(
                    "Load an example mouse (SYNTHETIC)", size="sm", elem_id="example", interactive=False
                )
                remove = gr.Button("Remove my files", size="sm", elem_id="remove", interactive=False)
            description = gr.HTML(elem_id="seen", **html)
            own = service.config.own_weights
            chosen = own.name if own else service.config.weights
            weights = gr.Radio(
                make_weight_choices(service), value=chosen, label="Weights", info=WORDS["Weights"], elem_id="weights"
            )
            note = gr.HTML(elem_id="note", **html)
            with gr.Accordion(OVERRIDES_LABEL, open=False), gr.Row():
                spacing = gr.Textbox(label="Voxel size z y x, in mm", placeholder="1.0 0.1 0.1", elem_id="spacing")
                axes = gr.Textbox(label="Axes, in the file's order (NIfTI)", placeholder="xyzt", elem_id="axes")
                time = gr.Textbox(label="Frame time, in ms", placeholder="5", elem_id="frame-time")
                frames = gr.Textbox(label="Frames, if in one axis with the slices", placeholder="20", elem_id="frames")
                fill = gr.Textbox(label="Fill value, for pixels that are NaN", placeholder="0", elem_id="fill")
            start = gr.Button("Segment", variant="primary", elem_id="segment", interactive=False)
        with gr.Row(elem_id="running"):
            status = gr.HTML(elem_id="status", **html)
            cancel = gr.Button("Cancel", size="sm", scale=0, min_width=100, elem_id="cancel", visible=False)
        links = gr.HTML(elem_id="download", **html)
        results = gr.HTML(elem_id="results", **html)
        viewer = gr.HTML(
            {}, html_template=read_static("viewer.html"), js_on_load=read_static("viewer.js"), elem_id="viewer", **html
        )
        flags = gr.HTML(elem_id="flags", **html)
        kept = gr.HTML(js_on_load=CANCEL_KEPT, elem_id="kept", visible=service.kept is not None, **html)
        gr.HTML(render_foot(), elem_id="foot", **html)

        callbacks, overrides = Callbacks(service), [spacing, axes, time, frames, fill]
        fields, buttons = [weights, *overrides], [start, example, cancel]
        outputs = [status, links, results, viewer, flags]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(callbacks.on_load, weights, [drop, example, remove, start, weights, note, kept], **hidden)
        page.unload(callbacks.on_close)
        inspect: dict[str, Any] = {"inputs": fields, "api_visibility": "private", "show_progress": "minimal"}
        inspect |= {"concurrency_id": "inspect", "concurrency_limit": 2}
        for event in (drop.uploaded, *(f.submit for f in overrides), *(f.blur for f in overrides)):
            event(callbacks.on_upload, outputs=description, **inspect)
        example.click(callbacks.on_example, outputs=[description, *outputs], **inspect)
        weights.change(callbacks.on_weights, weights, [description, note], **hidden)
        remove.click(callbacks.on_remove, None, [description, *outputs], **hidden)
        job = start.click(callbacks.on_start, None, [*buttons, *outputs], **hidden)
        job = job.then(callbacks.on_segment, fields, [*outputs, inputs], concurrency_limit=None, **hidden)
        job.then(callbacks.on_end, weights, [*buttons, note, kept], **hidden)
        cancel.click(callbacks.on_cancel, None, None, **hidden)
        kept.cancelled(callbacks.on_cancel_kept, None, kept, **hidden)
        if service.kept is not None:
            shown = gr.State("")
            gr.Timer(KEPT_SECONDS).tick(callbacks.on_kept, shown, [kept, shown], **hidden)
    return page
