"""The app and its server, kept apart: ``create_app`` for whoever serves ASGI, ``launch`` for this computer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mousecmr_data._utils.atomic import atomic_path, translate_os_error
from mousecmr_data.errors import ArgumentError, MissingExtraError, MouseCMRError
from mousecmr_data.web.config import PORT, ServerConfig
from mousecmr_data.web.middleware import read_owner
from mousecmr_data.web.sessions import Session, SessionStore

if TYPE_CHECKING:
    from fastapi import FastAPI


# MERGED web.app: Uploads into a page's room, and the pictures and the zip out of it. Names are looked up, never joined to paths.


NOT_FOUND_TEXT = "There is nothing here."
MEDIA_TYPES = {".webp": "image/webp", ".png": "image/png", ".zip": "application/zip"}
NO_STORE = {"Cache-Control": "no-store"}
FLUSH_BYTES = 1024**2


def make_routes(sessions: SessionStore, upload_bytes: int) -> list[Route]:
    """The routes below ``/mice/<token>/``. A token that is unknown, or another browser's, is a plain 404."""

    def find_session(request: Request) -> Session | None:
        return sessions.find_by_token(request.path_params["token"], read_owner(request.headers.get("cookie", "")))

    async def upload(request: Request) -> Response:
        session = find_session(request)
        if session is None:
            return PlainTextResponse(NOT_FOUND_TEXT, 404)
        try:
            drop, path = int(request.query_params["drop"]), request.query_params["path"]
            await _receive_upload(request, session, session.get_upload_path(drop, path), upload_bytes)
        except (KeyError, ValueError) as e:
            text = e.found if isinstance(e, MouseCMRError) else "This is no upload of the page."
            return PlainTextResponse(text, 413 if isinstance(e, ArgumentError) else 400)
        except ClientDisconnect:
            return PlainTextResponse("The upload broke off.", 400)
        except OSError as e:
            error = translate_os_error(e, session.uploads)
            full = isinstance(error, MouseCMRError)
            return PlainTextResponse("The disk is full." if full else "This file cannot be kept.", 507)
        return Response(status_code=204)

    async def picture(request: Request) -> Response:
        session = find_session(request)
        found = session.views.get(request.path_params["name"]) if session else None
        return _send_file(found)

    async def download(request: Request) -> Response:
        session = find_session(request)
        return _send_file(session.download if session else None, "mousecmr-results.zip")

    return [
        Route("/mice/{token}/upload", upload, methods=["POST"]),
        Route("/mice/{token}/view/{name}", picture, methods=["GET"]),
        Route("/mice/{token}/results.zip", download, methods=["GET"]),
    ]


def _send_file(path: Path | None, filename: str | None = None) -> Response:
    if path is None or not path.is_file():
        return PlainTextResponse(NOT_FOUND_TEXT, 404)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], filename=filename, headers=NO_STORE)


async def _receive_upload(request: Request, session: Session, target: Path, limit: int) -> None:
    """Write the body to ``target``, whole or not at all; raises :class:`ArgumentError` beyond the limit."""
    session.reserve_bytes(0, limit, new=True)
    written, buffer = 0, bytearray()
    try:
        with atomic_path(target, durable=False) as partial, partial.open("wb") as out:
            async for chunk in request.stream():
                written += len(chunk)
                session.reserve_bytes(len(chunk), limit)
                buffer += chunk
                if len(buffer) >= FLUSH_BYTES:
                    await run_in_threadpool(out.write, bytes(buffer))
                    buffer.clear()
            out.write(buffer)
    except BaseException:
        session.release_bytes(written)
        raise
    finally:
        if session.closed:  # closed meanwhile: nothing may stay
            session.remove_folder()


SWEEP_SECONDS = 60
GRACE_SECONDS = 3
"""How long open pages may finish what they ask for, when the server is stopped."""
LOCAL_NAMES = ["127.0.0.1", "localhost", "[::1]", "testserver"]


def create_app(options: ServerConfig | None = None) -> FastAPI:
    """The page as an ASGI app, which cleans up after itself when it is shut down.

    Raises :class:`~mousecmr_data.errors.MissingExtraError` without gradio, and :class:`ArgumentError` for weights
    that the page does not offer.
    """
    options = options or ServerConfig()
    # Before gradio is imported: nothing is told to anyone, nothing is written outside the rooms.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as e:
        raise MissingExtraError.from_module("gradio", "web") from e
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from mousecmr_data.web.middleware import AccessMiddleware
    from mousecmr_data.web.service import OFFERED_WEIGHTS, PageService
    from mousecmr_data.web.sessions import SessionStore
    from mousecmr_data.web.ui import build_page, make_theme, read_static

    if options.weights not in OFFERED_WEIGHTS:
        raise ArgumentError(f"The page has no weights {options.weights!r}.", " or ".join(OFFERED_WEIGHTS))
    sessions = SessionStore(options.kept_hours * 3600)
    service = PageService(options, sessions)
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.folder / "gradio")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sweeping() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await asyncio.to_thread(sessions.sweep)

        task = asyncio.create_task(sweeping())
        try:
            yield
        finally:
            task.cancel()
            sessions.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes += make_routes(sessions, options.upload_bytes)
    app.state.service = service
    blocks = build_page(service).queue(max_size=options.max_queue)
    gr.mount_gradio_app(
        app, blocks, path="/", theme=make_theme(), css=read_static("page.css"), show_error=False, footer_links=[],
        run_history=False, enable_monitoring=False, pwa=False, ssr_mode=False, mcp_server=False, max_file_size=1,
    )  # fmt: skip
    # gradio checks the paths in what a page sends only in an app that its own launch() has started.
    blocks.has_launched = True
    app.add_middleware(AccessMiddleware)
    if options.local:  # other names for this address are a trick of foreign pages (DNS rebinding)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES)
    return app


def launch(
    options: ServerConfig | None = None, port: int = PORT, *, opened: Callable[[str], object] | None = None
) -> None:
    """Serve the page until it is interrupted; ``opened`` is called with its address once it can be reached.

    Raises :class:`ArgumentError` where the port is taken or the host is not this computer's.
    """
    import uvicorn

    options = options or ServerConfig()
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
