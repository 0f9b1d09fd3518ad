"""The app and its server, kept apart: ``create_app`` for whoever serves ASGI, ``launch`` for this computer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from mousecmr_data.errors import ArgumentError, MissingExtraError
from mousecmr_data.web.options import PORT, Options

if TYPE_CHECKING:
    from fastapi import FastAPI

SWEEP_SECONDS = 60
GRACE_SECONDS = 3
"""How long open pages may finish what they ask for, when the server is stopped."""
LOCAL_NAMES = ["127.0.0.1", "localhost", "[::1]", "testserver"]


def create_app(options: Options | None = None) -> FastAPI:
    """The page as an ASGI app, which cleans up after itself when it is shut down.

    Raises :class:`~mousecmr_data.errors.MissingExtraError` without gradio, and :class:`ArgumentError` for weights
    that the page does not offer.
    """
    options = options or Options()
    # Before gradio is imported: nothing is told to anyone, nothing is written outside the rooms.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as e:
        raise MissingExtraError.of("gradio", "web") from e
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from mousecmr_data.web import form, page
    from mousecmr_data.web.desk import Desk
    from mousecmr_data.web.door import Door
    from mousecmr_data.web.rooms import Rooms
    from mousecmr_data.web.routes import routes

    if options.weights not in form.OFFERED:
        raise ArgumentError(f"The page has no weights {options.weights!r}.", " or ".join(form.OFFERED))
    rooms = Rooms(options.kept_hours * 3600)
    desk = Desk(options, rooms)
    os.environ["GRADIO_TEMP_DIR"] = str(rooms.folder / "gradio")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sweeping() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await asyncio.to_thread(rooms.sweep)

        task = asyncio.create_task(sweeping())
        try:
            yield
        finally:
            task.cancel()
            rooms.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes += routes(rooms, options.upload_bytes)
    app.state.desk = desk
    blocks = page.build(desk).queue(max_size=options.waiting)
    gr.mount_gradio_app(
        app, blocks, path="/", theme=page.theme(), css=page.text("page.css"), show_error=False, footer_links=[],
        run_history=False, enable_monitoring=False, pwa=False, ssr_mode=False, mcp_server=False, max_file_size=1,
    )  # fmt: skip
    # gradio checks the paths in what a page sends only in an app that its own launch() has started.
    blocks.has_launched = True
    app.add_middleware(Door)
    if options.local:  # other names for this address are a trick of foreign pages (DNS rebinding)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES)
    return app


def launch(options: Options | None = None, port: int = PORT, *, opened: Callable[[str], object] | None = None) -> None:
    """Serve the page until it is interrupted; ``opened`` is called with its address once it can be reached.

    Raises :class:`ArgumentError` where the port is taken or the host is not this computer's.
    """
    import uvicorn

    options = options or Options()
    bare = options.host.strip("[]")
    v6 = ":" in bare
    try:
        listening = socket.create_server((bare, port), family=socket.AF_INET6 if v6 else socket.AF_INET)
    except (OSError, OverflowError) as e:
        raise ArgumentError(
            f"The page cannot be opened at {options.host}, port {port}: {e}",
            "a free port",
            f"--port {port % 65535 + 1}",
        ) from e
    with listening:
        app = create_app(options)
        if opened:
            opened(f"http://{f'[{bare}]' if v6 else bare}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
        uvicorn.Server(config).run(sockets=[listening])
