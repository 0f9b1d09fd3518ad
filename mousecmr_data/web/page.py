"""The page itself: what is where, and what each button calls. Needs gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from mousecmr_data.pipeline.analysis import PUBLISHED_WEIGHTS, RESEARCH_ONLY
from mousecmr_data.web import words
from mousecmr_data.web.desk import Desk
from mousecmr_data.web.handlers import Handlers
from mousecmr_data.web.options import SMALL

STATIC = Path(__file__).parent / "static"
FONTS = ("system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")
WEIGHTS = [
    (f"{PUBLISHED_WEIGHTS}: the authors' weights, trained on 90 real mice (fetched once, 156 MB)", PUBLISHED_WEIGHTS),
    (f"{SMALL}: in this package, trained on SYNTHETIC mice only; every result is marked so", SMALL),
]


def theme() -> gr.themes.Base:
    """System fonts and quiet colours; nothing is fetched."""
    fonts, mono = ([gr.themes.Font(f) for f in names] for names in (FONTS, MONO))
    return gr.themes.Base(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)


def text(name: str) -> str:
    """A file of ``static/``."""
    return (STATIC / name).read_text(encoding="utf-8")


def build(desk: Desk) -> gr.Blocks:
    """The page, not yet served."""
    bare: dict[str, Any] = {"apply_default_css": False, "elem_classes": "m-part"}
    page: gr.Blocks
    with gr.Blocks(title="Mouse hearts, segmented", analytics_enabled=False) as page:
        gr.HTML(words.head(desk.options.local), elem_id="head", **bare)
        drop = gr.HTML({}, html_template=text("drop.html"), js_on_load=text("drop.js"), elem_id="drop", **bare)
        with gr.Row():
            example = gr.Button("Load an example mouse (SYNTHETIC)", size="sm", elem_id="example", interactive=False)
            remove = gr.Button("Remove my files", size="sm", elem_id="remove", interactive=False)
        seen = gr.HTML(elem_id="seen", **bare)
        weights = gr.Radio(WEIGHTS, value=desk.options.weights, label="Weights", elem_id="weights")
        with gr.Accordion("When the files are wrong or say nothing", open=False), gr.Row():
            spacing = gr.Textbox(label="Voxel size z y x, in mm", placeholder="1.0 0.1 0.1", elem_id="spacing")
            axes = gr.Textbox(label="Axes, in the file's order (NIfTI)", placeholder="xyzt", elem_id="axes")
            time = gr.Textbox(label="Frame time, in ms", placeholder="5", elem_id="frame-time")
        start = gr.Button("Segment", variant="primary", elem_id="segment", interactive=False)
        status = gr.HTML(elem_id="status", **bare)
        viewer = gr.HTML({}, html_template=text("viewer.html"), js_on_load=text("viewer.js"), elem_id="viewer", **bare)
        download = gr.HTML(elem_id="download", **bare)
        results = gr.HTML(elem_id="results", **bare)
        gr.HTML(f"<p>{RESEARCH_ONLY} Closing or reloading this page deletes its files.</p>", elem_id="foot", **bare)

        do, typed, shown = Handlers(desk), [spacing, axes, time], [status, viewer, results, download]
        fields = [weights, *typed]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(do.entered, outputs=[drop, example, remove, start], **quiet)
        page.unload(do.left)
        look: dict[str, Any] = {"inputs": fields, "outputs": seen, "concurrency_id": "look", "concurrency_limit": 2}
        look |= {"api_visibility": "private", "show_progress": "minimal"}
        for event in (drop.uploaded, *(f.submit for f in typed), *(f.blur for f in typed)):
            event(do.looked, **look)
        example.click(do.example, **{**look, "outputs": [seen, *shown]})
        weights.change(do.estimated, weights, seen, **quiet)
        remove.click(do.removed, None, [seen, *shown], **quiet)
        start.click(None, None, shown, js="() => ['', {}, '', '']", **quiet).then(
            do.segmented, fields, shown, api_visibility="private", concurrency_limit=1, show_progress_on=status,
        )  # fmt: skip
    return page
