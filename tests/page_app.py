"""The page's app for a test, which leaves nothing of gradio's behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mousecmr_data.inference.predictor import load_model
from mousecmr_data.web.app import create_app
from mousecmr_data.web.config import ServerConfig


@contextmanager
def page_app(options: ServerConfig) -> Iterator[Any]:
    """The app, with phantom-small computed eagerly: loading an engine takes longer than a small mouse.

    gradio makes an event loop for every lock where none is running, and closes none: one is running here, in a
    thread of its own, because playwright keeps that of the main thread busy.
    """

    async def made() -> Any:
        return create_app(options)

    with ThreadPoolExecutor(1) as thread:
        app = thread.submit(asyncio.run, made()).result()
    app.state.service.predictors["phantom-small"] = load_model("phantom-small", engine="eager", device="cpu")
    yield app
