"""Create the page as an ASGI app (:func:`create_app`), or serve it on this computer (:func:`launch`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mousecmr_data._utils.atomic import DISK_FULL, atomic_path
from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.schema import PORT
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.middleware import NOT_FOUND_TEXT, OWNER
from mousecmr_data.web.sessions import RESULTS_FOLDER, Session, SessionStore, Uploads

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mousecmr_data.web.kept import KeptResults


MEDIA_TYPES = {".webp": "image/webp", ".png": "image/png"}
NO_STORE = {"Cache-Control": "no-store"}
FLUSH_BYTES = 1024**2
SWEEP_SECONDS = 60
MAX_GRADIO_STATES = 100
"""Number of pages whose state Gradio keeps, also after they were closed; its own limit is 10000, some 0.1 MB each."""


def make_routes(sessions: SessionStore, upload_bytes: int) -> list[Route]:
    """Return the routes below ``/mice/<token>/``: uploads and pictures of a session.

    An unknown token, or the token of another browser, gives 404. Names are looked up and never joined to paths.
    """

    def find_session(request: Request) -> Session | None:
        return sessions.find_by_token(request.path_params["token"], request.scope[OWNER])

    async def upload(request: Request) -> Response:
        session = find_session(request)
        if session is None:
            return PlainTextResponse(NOT_FOUND_TEXT, 404)
        try:
            drop, path = int(request.query_params["drop"]), request.query_params["path"]
            with session.hold_folder():
                await _receive_upload(request, session.uploads, drop, path, upload_bytes)
        except (KeyError, ValueError) as e:
            text = e.found if isinstance(e, MouseCMRError) else "This is not an upload of the page."
            return PlainTextResponse(text, 413 if isinstance(e, ArgumentError) else 400)
        except ClientDisconnect:
            return PlainTextResponse("The upload was interrupted.", 400)
        except OSError as e:
            text = "The disk is full." if e.errno in DISK_FULL else "This file cannot be stored."
            return PlainTextResponse(text, 507)
        return Response(status_code=204)

    async def view(request: Request) -> Response:
        session = find_session(request)
        return _send_file(session.views.get(request.path_params["name"]) if session else None)

    return [
        Route("/mice/{token}/upload", upload, methods=["POST"]),
        Route("/mice/{token}/view/{name}", view, methods=["GET"]),
    ]


def make_review_routes(sessions: SessionStore, options: ServerConfig, kept: KeptResults | None = None) -> list[Route]:
    """Return the routes of the review screen and the zip of each session; 404 as for :func:`make_routes`.

    Results in ``kept`` are for every browser that opened the page.
    """
    from mousecmr_data.web.review import ReviewedFolder
    from mousecmr_data.web.review import make_routes as make_folder_routes

    # The weights stay on this computer and are offered to every visitor: only for the one who sits at it.
    tuning: dict[str, Any] = {"may_tune": options.local, "cache": options.cache}

    def find_folder(request: Request) -> ReviewedFolder | None:
        token, owner = request.path_params["token"], request.scope[OWNER]
        run = kept.find_by_token(token) if kept and owner else None
        if kept and run and not kept.is_running(run):
            archive = sessions.folder / f"{secrets.token_hex(8)}.zip"
            return ReviewedFolder(run.folder, archive, lambda: run.lock, is_archive_temporary=True, **tuning)
        session = sessions.find_by_token(token, owner)
        if session is None or session.download is None:
            return None
        results = session.folder / RESULTS_FOLDER
        return ReviewedFolder(results, session.download, session.hold_results, **tuning)

    return make_folder_routes(find_folder)


def _send_file(path: Path | None) -> Response:
    if path is None or not path.is_file():
        return PlainTextResponse(NOT_FOUND_TEXT, 404)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=NO_STORE)


async def _receive_upload(request: Request, uploads: Uploads, drop: int, path: str, limit: int) -> None:
    """Write the body of the request to ``path`` in ``uploads``, whole or not at all.

    Raises :class:`ArgumentError` beyond ``limit`` bytes.
    """
    target = uploads.get_path(drop, path)
    uploads.reserve_bytes(0, limit, new=True)
    written, buffer = 0, bytearray()
    try:
        with atomic_path(target, durable=False) as partial, partial.open("wb") as out:
            async for chunk in request.stream():
                written += len(chunk)
                uploads.reserve_bytes(len(chunk), limit)
                buffer += chunk
                if len(buffer) >= FLUSH_BYTES:
                    await run_in_threadpool(out.write, bytes(buffer))
                    buffer.clear()
            out.write(buffer)
    except BaseException:
        uploads.release_bytes(written)
        raise


def create_app(options: ServerConfig | None = None) -> FastAPI:
    """Return the page as an ASGI app, which removes all its files when it is shut down.

    ``app.state.token`` is the token that the page's link must hold (``?token=``); empty if none is needed.
    Raises :class:`ArgumentError` for weights that the page does not offer, and
    :class:`~mousecmr_data.errors.OutputError` for a folder of kept results that cannot be written.
    """
    options = options or ServerConfig()
    import gradio as gr
    from fastapi import FastAPI

    from mousecmr_data.web.kept import KeptResults
    from mousecmr_data.web.middleware import AccessMiddleware
    from mousecmr_data.web.service import PageService, list_offered_weights
    from mousecmr_data.web.sessions import SessionStore
    from mousecmr_data.web.ui import build_page, make_theme, read_static

    offered = list_offered_weights(options.cache)
    if options.weights not in offered:
        raise ArgumentError(f"The page has no weights {options.weights!r}.", " or ".join(offered))
    token = options.token
    if token is None:
        token = "" if options.local else secrets.token_urlsafe(32)
    kept = KeptResults(options.keep) if options.keep else None
    sessions = SessionStore(options.kept_hours * 3600, keeps_jobs=kept is not None)
    service = PageService(options, sessions, kept=kept)
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.folder / "gradio")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sweep_regularly() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await asyncio.to_thread(sessions.sweep)

        task = asyncio.create_task(sweep_regularly())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.to_thread(service.jobs.close)
            sessions.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes += [*make_routes(sessions, options.upload_bytes), *make_review_routes(sessions, options, kept)]
    app.state.service, app.state.token = service, token
    blocks = build_page(service).queue(max_size=options.max_queue)
    blocks.state_session_capacity = MAX_GRADIO_STATES
    gr.mount_gradio_app(
        app, blocks, path="/", root_path=options.prefix or None, theme=make_theme(), css=read_static("page.css"),
        show_error=False, footer_links=[], run_history=False, enable_monitoring=False, pwa=False, ssr_mode=False,
        mcp_server=False, max_file_size=1,
    )  # fmt: skip
    # gradio checks the paths in requests only if its own launch() has started the app.
    blocks.has_launched = True
    app.add_middleware(AccessMiddleware, config=options, token=token, sessions=sessions)
    return app


def launch(
    options: ServerConfig | None = None, port: int = PORT, *, opened: Callable[[str], object] | None = None
) -> None:
    """Serve the page until it is interrupted; ``opened`` is called with its link as soon as it can be reached.

    The link holds the token, if there is one. Raises :class:`ArgumentError` if the port is in use or the host is not an
    address of this computer.
    """
    from mousecmr_data.web.connections import open_listener, serve

    options = options or ServerConfig()
    with open_listener(options.host, port) as listener:
        app = create_app(options)
        if opened:
            host = options.host.strip("[]")
            name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
            query = f"?token={app.state.token}" if app.state.token else ""
            opened(f"http://{name}:{listener.getsockname()[1]}{options.prefix}/{query}")
        serve(app, listener)
