"""The page's app for tests, served, and a browser; the app leaves no event loops of gradio open."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

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


CHROMIUM = next((p for p in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if p.exists()), None)
ARGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
IN_BROWSER = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
    # warnings of gradio
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of a module whose tests open the page in Chromium."""


@contextmanager
def served_page(options: ServerConfig) -> Iterator[tuple[str, Any]]:
    """Serve the app; yield its host and port, and its service."""
    import uvicorn

    with page_app(options) as app, socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", app.state.service
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
        assert not app.state.service.sessions.folder.exists()


@contextmanager
def open_chromium() -> Iterator[Any]:
    """Start Debian's Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield chromium
        chromium.close()
