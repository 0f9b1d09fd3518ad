"""The page: its layout, and the callbacks of its buttons and fields. Needs gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from mousecmr_data._utils.text import RESEARCH_ONLY, format_bytes
from mousecmr_data.inference.predictor import list_own_models
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.web.html import OVERRIDES_LABEL, render_head, render_refusal, render_results
from mousecmr_data.web.middleware import OWNER
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session

EMPTY_RESULTS: tuple[Any, ...] = ({}, "", "")
"""Values of an empty viewer, empty tables and no download."""
SESSION_CLOSED = render_refusal(
    "The connection was lost and the files were deleted.", "reload the page and drop the files again"
)
"""Shown if the session of the page was closed."""


class Callbacks:
    """The functions behind the page's events; each works on the visitor's own session.

    ``fields`` are weights, voxel size, axes, frame time, frames and fill value, as typed.
    """

    def __init__(self, service: PageService) -> None:
        self.service = service

    def on_load(self, request: gr.Request) -> tuple[Any, ...]:
        """Open a session; return the settings of the drop zone, the three buttons, enabled now, and the weights."""
        session = self.service.sessions.open(str(request.session_hash), _get_owner(request))
        buttons = [gr.Button(interactive=True) for _ in range(3)]
        weights = gr.Radio(make_weight_choices(self.service))
        return {"token": session.token, "limit_mb": self.service.config.upload_mb}, *buttons, weights

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

    def on_weights(self, weights: str, request: gr.Request) -> str:
        """Return the description of the uploads for other weights."""
        session = self._find_session(request)
        return self.service.describe_inspected(session, weights) if session else SESSION_CLOSED

    def on_remove(self, request: gr.Request) -> tuple[Any, ...]:
        """Remove all files; return an empty description, the status, and empty results."""
        session = self._find_session(request)
        if session:
            self.service.remove_files(session)
        return "", "" if session else SESSION_CLOSED, *EMPTY_RESULTS

    def on_segment(
        self,
        weights: str,
        spacing: str,
        axes: str,
        time: str,
        frames: str,
        fill: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        """Segment the uploads; return status, viewer, tables and download link."""
        session = self._find_session(request)
        if session is None:
            return SESSION_CLOSED, *EMPTY_RESULTS

        def report(share: float, text: str) -> None:
            progress(share, desc=text)

        status, outcome = self.service.segment(session, report, weights, spacing, axes, time, frames, fill)
        if outcome is None or not outcome.views:
            return status, *EMPTY_RESULTS
        folder = f"mice/{session.token}/review"
        size = format_bytes(outcome.zip_bytes)
        review = f'<p><a href="{folder}/" target="_blank" rel="noopener" class="m-review">Review and correct</a></p>'
        return (
            status + review,
            {"token": session.token, "views": outcome.views},
            render_results(outcome),
            f'<a href="{folder}/results.zip" download="mousecmr-results.zip">Download everything ({size} zip)</a>'
            "<p>Masks on the grid of the images (NIfTI, and DICOM SEG for DICOM), tables (CSV), movie, montage, curve, "
            "and a manifest with versions, weights and settings. After a review, with your corrections; the numbers "
            "on this page stay those of the network.</p>",
        )

    def _find_session(self, request: gr.Request) -> Session | None:
        return self.service.sessions.find(str(request.session_hash), _get_owner(request))


def _get_owner(request: gr.Request) -> str:
    """Return the name of the browser, which :class:`~mousecmr_data.web.middleware.AccessMiddleware` found."""
    inner = request.request
    return str(inner.scope.get(OWNER, "")) if inner is not None else ""


FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")


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
    """Return a theme with system fonts, so that no font is downloaded."""
    fonts, mono = ([gr.themes.Font(f) for f in names] for names in (FONTS, MONO_FONTS))
    return gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)


def read_static(name: str) -> str:
    """Return the text of a file in ``static/``."""
    return Path(__file__).with_name("static").joinpath(name).read_text(encoding="utf-8")


def build_page(service: PageService) -> gr.Blocks:
    """Return the page, not yet served."""
    html: dict[str, Any] = {"apply_default_css": False, "elem_classes": "m-part"}
    page: gr.Blocks
    with gr.Blocks(title="Mouse hearts, segmented", analytics_enabled=False) as page:
        gr.HTML(render_head(service.config.local), elem_id="head", **html)
        drop = gr.HTML(
            {}, html_template=read_static("drop.html"), js_on_load=read_static("drop.js"), elem_id="drop", **html
        )
        with gr.Row():
            example = gr.Button("Load an example mouse (SYNTHETIC)", size="sm", elem_id="example", interactive=False)
            remove = gr.Button("Remove my files", size="sm", elem_id="remove", interactive=False)
        description = gr.HTML(elem_id="seen", **html)
        own = service.config.own_weights
        chosen = own.name if own else service.config.weights
        weights = gr.Radio(make_weight_choices(service), value=chosen, label="Weights", elem_id="weights")
        with gr.Accordion(OVERRIDES_LABEL, open=False), gr.Row():
            spacing = gr.Textbox(label="Voxel size z y x, in mm", placeholder="1.0 0.1 0.1", elem_id="spacing")
            axes = gr.Textbox(label="Axes, in the file's order (NIfTI)", placeholder="xyzt", elem_id="axes")
            time = gr.Textbox(label="Frame time, in ms", placeholder="5", elem_id="frame-time")
            frames = gr.Textbox(label="Frames, if in one axis with the slices", placeholder="20", elem_id="frames")
            fill = gr.Textbox(label="Fill value, for pixels that are NaN", placeholder="0", elem_id="fill")
        start = gr.Button("Segment", variant="primary", elem_id="segment", interactive=False)
        status = gr.HTML(elem_id="status", **html)
        viewer = gr.HTML(
            {}, html_template=read_static("viewer.html"), js_on_load=read_static("viewer.js"), elem_id="viewer", **html
        )
        download = gr.HTML(elem_id="download", **html)
        results = gr.HTML(elem_id="results", **html)
        gr.HTML(f"<p>{RESEARCH_ONLY} Closing or reloading this page deletes its files.</p>", elem_id="foot", **html)

        callbacks, overrides = Callbacks(service), [spacing, axes, time, frames, fill]
        fields, outputs = [weights, *overrides], [status, viewer, results, download]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(callbacks.on_load, outputs=[drop, example, remove, start, weights], **hidden)
        page.unload(callbacks.on_close)
        inspect: dict[str, Any] = {"inputs": fields, "api_visibility": "private", "show_progress": "minimal"}
        inspect |= {"concurrency_id": "inspect", "concurrency_limit": 2}
        for event in (drop.uploaded, *(f.submit for f in overrides), *(f.blur for f in overrides)):
            event(callbacks.on_upload, outputs=description, **inspect)
        example.click(callbacks.on_example, outputs=[description, *outputs], **inspect)
        weights.change(callbacks.on_weights, weights, description, **hidden)
        remove.click(callbacks.on_remove, None, [description, *outputs], **hidden)
        start.click(None, None, outputs, js="() => ['', {}, '', '']", **hidden).then(
            callbacks.on_segment, fields, outputs, api_visibility="private", concurrency_limit=1,
            show_progress_on=status,
        )  # fmt: skip
    return page
