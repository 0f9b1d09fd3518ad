"""Restrict access: allow only the paths that the page itself requests, and give each browser its own cookie.

Gradio can also accept uploads, serve files, act as a proxy and edit itself. The page uses none of this (see
:func:`mousecmr_data.web.app.make_routes`), so it is blocked here.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

COOKIE_NAME = "mousecmr_page"
NOT_FOUND_TEXT = "There is nothing here."
ALLOWED_PATHS = (
    *("/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(f"/gradio_api/{name}" for name in ("info", "startup-events", "queue/join", "queue/data", "cancel", "reset")),
)
"""The paths of Gradio that the page needs."""
ALLOWED_PREFIXES = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/mice/")
"""Prefixes of allowed paths; the last one is that of :func:`mousecmr_data.web.app.make_routes`."""
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""Makes the browser refuse everything from other servers. Gradio's page needs inline scripts and ``eval``."""


class AccessMiddleware:
    """ASGI middleware that checks paths, sets security headers and gives new browsers a cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path in ("", "/", *ALLOWED_PATHS) or path.startswith(ALLOWED_PREFIXES)):
            refusal = PlainTextResponse(NOT_FOUND_TEXT, 404) if scope["type"] == "http" else WebSocketClose(1008)
            await refusal(scope, receive, send)
            return
        headers = Headers(scope=scope)
        needs_cookie = path in ("", "/") and not read_owner(headers.get("cookie", ""))
        secure = scope.get("scheme") == "https" or headers.get("x-forwarded-proto", "").startswith("https")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                if needs_cookie:
                    # In a Hugging Face Space the page is a frame of another site: browsers send only such cookies back.
                    site = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Strict"
                    out.append("Set-Cookie", f"{COOKIE_NAME}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; {site}")
            await send(message)

        await self.app(scope, receive, send_with_headers)


def read_owner(cookies: str) -> str:
    """Return the browser's name in a ``Cookie`` header; empty if there is none."""
    try:
        cookie = SimpleCookie(cookies).get(COOKIE_NAME)
    except CookieError:
        return ""
    return cookie.value if cookie else ""
