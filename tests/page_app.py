"""The page's app for tests; it leaves no event loops of gradio open."""

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
    """Yield the app, with phantom-small computed eagerly: loading an engine takes longer than a small mouse.

    Where no event loop is running, gradio makes one for every lock and never closes it. Here one is running, in a
    separate thread, because playwright uses that of the main thread.
    """

    async def create() -> Any:
        return create_app(options)

    with ThreadPoolExecutor(1) as thread:
        app = thread.submit(asyncio.run, create()).result()
    app.state.service.predictors["phantom-small"] = load_model("phantom-small", engine="eager", device="cpu")
    yield app
