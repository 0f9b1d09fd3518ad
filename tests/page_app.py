"""The page's app for a test, which leaves nothing of gradio's behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mousecmr_data import baseline
from mousecmr_data.web.options import Options
from mousecmr_data.web.server import create_app


@contextmanager
def page_app(options: Options) -> Iterator[Any]:
    """The app, with phantom-small computed eagerly: loading an engine takes longer than a small mouse.

    gradio makes an event loop for every lock where there is none, and closes none: it gets one.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        app = create_app(options)
        app.state.desk.segmenters._loaded["phantom-small"] = baseline.load(
            "phantom-small", engine="eager", device="cpu"
        )
        yield app
    finally:
        asyncio.set_event_loop(None)
        loop.close()
