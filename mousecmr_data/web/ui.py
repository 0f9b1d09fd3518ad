"""The page itself: what is where, and what each button calls. Needs gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from mousecmr_data._utils.notices import RESEARCH_ONLY
from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.pipeline.config import PUBLISHED_WEIGHTS
from mousecmr_data.web.config import SMALL_WEIGHTS
from mousecmr_data.web.html import RELOAD_HINT, SESSION_LOST, render_head, render_refusal, render_results
from mousecmr_data.web.middleware import COOKIE_NAME
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session

# MERGED web.ui: The functions behind the page's buttons: each finds the visitor's own room and hands over to the desk.


EMPTY_RESULTS: tuple[Any, ...] = ({}, "", "")
"""Viewer, tables and download, empty."""


class Callbacks:
    """``fields`` are weights, voxel size, axes and frame time, as typed."""

    def __init__(self, service: PageService) -> None:
        self.service = service

    def on_load(self, request: gr.Request) -> tuple[Any, ...]:
        """A page was opened: what its place for uploads needs to know, and its three buttons, which work from now."""
        session = self.service.sessions.open(str(request.session_hash), _get_owner(request))
        ready = [gr.Button(interactive=True) for _ in range(3)]
        return {"token": session.token, "limit_mb": self.service.config.upload_mb}, *ready

    def on_close(self, request: gr.Request) -> None:
        """A page was closed, or reloaded."""
        self.service.sessions.close_session(str(request.session_hash))

    def on_upload(self, weights: str, spacing: str, axes: str, time: str, request: gr.Request) -> str:
        """Files came, or a field changed."""
        session = self._find_session(request)
        return (
            self.service.inspect(session, weights, spacing, axes, time)
            if session
            else render_refusal(SESSION_LOST, RELOAD_HINT)
        )

    def on_example(self, weights: str, spacing: str, axes: str, time: str, request: gr.Request) -> tuple[Any, ...]:
        """The example was asked for: what was seen, and the results of before, gone."""
        session = self._find_session(request)
        if session is None:
            return render_refusal(SESSION_LOST, RELOAD_HINT), "", *EMPTY_RESULTS
        return self.service.load_example(session, weights, spacing, axes, time), "", *EMPTY_RESULTS

    def on_weights(self, weights: str, request: gr.Request) -> str:
        """Other weights were chosen."""
        session = self._find_session(request)
        return (
            self.service.describe_inspected(session, weights) if session else render_refusal(SESSION_LOST, RELOAD_HINT)
        )

    def on_remove(self, request: gr.Request) -> tuple[Any, ...]:
        """All files are to go: what was seen, the status, and the results, empty."""
        session = self._find_session(request)
        if session:
            self.service.remove_files(session)
        return "", "" if session else render_refusal(SESSION_LOST, RELOAD_HINT), *EMPTY_RESULTS

    def on_segment(
        self,
        weights: str,
        spacing: str,
        axes: str,
        time: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
    ) -> tuple[Any, ...]:
        """The button: status, viewer, tables, download."""
        session = self._find_session(request)
        if session is None:
            return render_refusal(SESSION_LOST, RELOAD_HINT), *EMPTY_RESULTS

        def report(share: float, text: str) -> None:
            progress(share, desc=text)

        said, outcome = self.service.segment(session, report, weights, spacing, axes, time)
        if outcome is None or not outcome.views:
            return said, *EMPTY_RESULTS
        link = f"mice/{session.token}/results.zip"
        size = format_bytes(outcome.zip_bytes)
        return (
            said,
            {"token": session.token, "views": outcome.views},
            render_results(outcome),
            f'<a href="{link}" download="mousecmr-results.zip">Download everything ({size} zip)</a>'
            "<p>Masks on the images' own grid (NIfTI, and DICOM SEG for DICOM), tables (CSV), movie, montage, curve, "
            "and a manifest with versions, weights and settings.</p>",
        )

    def _find_session(self, request: gr.Request) -> Session | None:
        return self.service.sessions.find(str(request.session_hash), _get_owner(request))


def _get_owner(request: gr.Request) -> str:
    """The name that this browser was given at the door."""
    inner = request.request
    return str(inner.cookies.get(COOKIE_NAME, "")) if inner is not None else ""


STATIC_FOLDER = Path(__file__).parent / "static"
FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONO_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")
WEIGHT_CHOICES = [
    (f"{PUBLISHED_WEIGHTS}: the authors' weights, trained on 90 real mice (fetched once, 156 MB)", PUBLISHED_WEIGHTS),
    (f"{SMALL_WEIGHTS}: in this package, trained on SYNTHETIC mice only; every result is marked so", SMALL_WEIGHTS),
]


def make_theme() -> gr.themes.Base:
    """System fonts and quiet colours; nothing is fetched."""
    fonts, mono = ([gr.themes.Font(f) for f in names] for names in (FONTS, MONO_FONTS))
    return gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)


def read_static(name: str) -> str:
    """A file of ``static/``."""
    return (STATIC_FOLDER / name).read_text(encoding="utf-8")


def build_page(service: PageService) -> gr.Blocks:
    """The page, not yet served."""
    bare: dict[str, Any] = {"apply_default_css": False, "elem_classes": "m-part"}
    page: gr.Blocks
    with gr.Blocks(title="Mouse hearts, segmented", analytics_enabled=False) as page:
        gr.HTML(render_head(service.config.local), elem_id="head", **bare)
        drop = gr.HTML(
            {}, html_template=read_static("drop.html"), js_on_load=read_static("drop.js"), elem_id="drop", **bare
        )
        with gr.Row():
            example = gr.Button("Load an example mouse (SYNTHETIC)", size="sm", elem_id="example", interactive=False)
            remove = gr.Button("Remove my files", size="sm", elem_id="remove", interactive=False)
        seen = gr.HTML(elem_id="seen", **bare)
        weights = gr.Radio(WEIGHT_CHOICES, value=service.config.weights, label="Weights", elem_id="weights")
        with gr.Accordion("When the files are wrong or say nothing", open=False), gr.Row():
            spacing = gr.Textbox(label="Voxel size z y x, in mm", placeholder="1.0 0.1 0.1", elem_id="spacing")
            axes = gr.Textbox(label="Axes, in the file's order (NIfTI)", placeholder="xyzt", elem_id="axes")
            time = gr.Textbox(label="Frame time, in ms", placeholder="5", elem_id="frame-time")
        start = gr.Button("Segment", variant="primary", elem_id="segment", interactive=False)
        status = gr.HTML(elem_id="status", **bare)
        viewer = gr.HTML(
            {}, html_template=read_static("viewer.html"), js_on_load=read_static("viewer.js"), elem_id="viewer", **bare
        )
        download = gr.HTML(elem_id="download", **bare)
        results = gr.HTML(elem_id="results", **bare)
        gr.HTML(f"<p>{RESEARCH_ONLY} Closing or reloading this page deletes its files.</p>", elem_id="foot", **bare)

        do, typed, shown = Callbacks(service), [spacing, axes, time], [status, viewer, results, download]
        fields = [weights, *typed]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(do.on_load, outputs=[drop, example, remove, start], **quiet)
        page.unload(do.on_close)
        look: dict[str, Any] = {"inputs": fields, "outputs": seen, "concurrency_id": "look", "concurrency_limit": 2}
        look |= {"api_visibility": "private", "show_progress": "minimal"}
        for event in (drop.uploaded, *(f.submit for f in typed), *(f.blur for f in typed)):
            event(do.on_upload, **look)
        example.click(do.on_example, **{**look, "outputs": [seen, *shown]})
        weights.change(do.on_weights, weights, seen, **quiet)
        remove.click(do.on_remove, None, [seen, *shown], **quiet)
        start.click(None, None, shown, js="() => ['', {}, '', '']", **quiet).then(
            do.on_segment, fields, shown, api_visibility="private", concurrency_limit=1, show_progress_on=status,
        )  # fmt: skip
    return page
