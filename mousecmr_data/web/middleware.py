"""What may come in: only the paths that the page itself asks for, each browser with a name of its own.

Gradio can take uploads, serve files, proxy, edit itself and more. The page uses none of that (see ``routes``), so it
is shut off here rather than trusted.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE_NAME = "mousecmr_page"
ALLOWED_PATHS = (
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
    "/gradio_api/info",
    "/gradio_api/startup-events",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
"""Paths of Gradio's that the page needs..."""
ALLOWED_PREFIXES = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/mice/")
"""... and folders of paths, the last of which are our own."""
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""The browser itself refuses whatever is not from this server. Gradio's page needs inline scripts and ``eval``."""


class AccessMiddleware:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path in ("", "/", *ALLOWED_PATHS) or path.startswith(ALLOWED_PREFIXES)):
            await _send_not_found(send, scope["type"])
            return
        headers = Headers(scope=scope)
        fresh = path in ("", "/") and not read_owner(headers.get("cookie", ""))
        secure = scope.get("scheme") == "https" or headers.get("x-forwarded-proto", "").startswith("https")

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                if fresh:
                    # In a Space the page is a frame of another site: only such a cookie comes back from there.
                    where = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Strict"
                    out.append("Set-Cookie", f"{COOKIE_NAME}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; {where}")
            await send(message)

        await self.app(scope, receive, marked)


def read_owner(cookies: str) -> str:
    """The browser's name in a ``Cookie`` header; empty where there is none."""
    try:
        found = SimpleCookie(cookies).get(COOKIE_NAME)
    except CookieError:
        return ""
    return found.value if found else ""


async def _send_not_found(send: Send, kind: str) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"There is nothing here."})
