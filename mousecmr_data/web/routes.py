"""Uploads into a page's room, and the pictures and the zip out of it. Names are looked up, never joined to paths."""

from __future__ import annotations

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mousecmr_data._utils.atomic import translate_os_error
from mousecmr_data.errors import ArgumentError, MouseCMRError
from mousecmr_data.web.door import owner_in
from mousecmr_data.web.rooms import Room, Rooms

NOT_HERE = "There is nothing here."
TYPES = {".webp": "image/webp", ".png": "image/png", ".zip": "application/zip"}
NO_STORE = {"Cache-Control": "no-store"}
FLUSH = 1024**2


def routes(rooms: Rooms, upload_bytes: int) -> list[Route]:
    """The routes below ``/mice/<token>/``. A token that is unknown, or another browser's, is a plain 404."""

    def room_of(request: Request) -> Room | None:
        return rooms.by_token(request.path_params["token"], owner_in(request.headers.get("cookie", "")))

    async def upload(request: Request) -> Response:
        room = room_of(request)
        if room is None:
            return PlainTextResponse(NOT_HERE, 404)
        try:
            drop, path = int(request.query_params["drop"]), request.query_params["path"]
            await _receive(request, room, room.place(drop, path), upload_bytes)
        except (KeyError, ValueError) as e:
            text = e.found if isinstance(e, MouseCMRError) else "This is no upload of the page."
            return PlainTextResponse(text, 413 if isinstance(e, ArgumentError) else 400)
        except ClientDisconnect:
            return PlainTextResponse("The upload broke off.", 400)
        except OSError as e:
            error = translate_os_error(e, room.uploads)
            full = isinstance(error, MouseCMRError)
            return PlainTextResponse("The disk is full." if full else "This file cannot be kept.", 507)
        return Response(status_code=204)

    async def picture(request: Request) -> Response:
        room = room_of(request)
        found = room.views.get(request.path_params["name"]) if room else None
        return _sent(found)

    async def download(request: Request) -> Response:
        room = room_of(request)
        return _sent(room.download if room else None, "mousecmr-results.zip")

    return [
        Route("/mice/{token}/upload", upload, methods=["POST"]),
        Route("/mice/{token}/view/{name}", picture, methods=["GET"]),
        Route("/mice/{token}/results.zip", download, methods=["GET"]),
    ]


def _sent(path: Path | None, filename: str | None = None) -> Response:
    if path is None or not path.is_file():
        return PlainTextResponse(NOT_HERE, 404)
    return FileResponse(path, media_type=TYPES[path.suffix], filename=filename, headers=NO_STORE)


async def _receive(request: Request, room: Room, target: Path, limit: int) -> None:
    """Write the body to ``target``, whole or not at all; raises :class:`ArgumentError` beyond the limit."""
    partial = target.with_name(f".{target.name}.part")
    await run_in_threadpool(target.parent.mkdir, parents=True, exist_ok=True)
    room.admit(0, limit, new=True)
    written, buffer = 0, bytearray()
    try:
        with partial.open("wb") as out:
            async for chunk in request.stream():
                written += len(chunk)
                room.admit(len(chunk), limit)
                buffer += chunk
                if len(buffer) >= FLUSH:
                    await run_in_threadpool(out.write, bytes(buffer))
                    buffer.clear()
            out.write(buffer)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        room.give_back(written)
        raise
    finally:
        if room.left:  # closed meanwhile: nothing may stay
            room.clear_away()
