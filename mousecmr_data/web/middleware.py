"""Restrict access: the token of the link, the paths that the page requests, the size of bodies, a cookie per browser.

Gradio can also accept uploads, serve files, act as a proxy and edit itself. The page uses none of this (see
:func:`mousecmr_data.web.app.make_routes`), so it is blocked here.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mousecmr_data._utils.text import format_bytes
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.html import TOKEN_NEEDED, render_token_page
from mousecmr_data.web.sessions import SessionStore

COOKIE_NAME = "mousecmr_page"
OWNER = "mousecmr.owner"
"""Key of a request's ASGI scope: the name of the browser that sent it, empty if it has no cookie."""
NOT_FOUND_TEXT = "There is nothing here."
UNKNOWN_HOST_TEXT = (
    "This is not a name of this computer. Behind a reverse proxy: mousecmr serve --root-path /PATH (see docs/web.md)."
)
GRADIO_ROOT = "x-gradio-server"
"""Header from which Gradio takes the address of the page, if it is given."""
MAX_BODY_BYTES = 64 * 1024
"""Limit of a body that is not an upload; the page sends less than 2 kB."""
MAX_MASK_BYTES = 4 * 1024**2
"""Limit of the mask of one slice that the review screen sends, a byte for each pixel."""
ALLOWED_PATHS = (
    *("/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(f"/gradio_api/{name}" for name in ("info", "startup-events", "queue/join", "queue/data", "cancel", "reset")),
)
"""The paths of Gradio that the page needs."""
HEARTBEAT = "/gradio_api/heartbeat/"
ALLOWED_PREFIXES = ("/assets/", "/static/", "/svelte/", HEARTBEAT, "/mice/")
"""Prefixes of allowed paths; the last one is that of :func:`mousecmr_data.web.app.make_routes`."""
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
"""Makes the browser refuse everything from other servers; the sites that may frame the page follow. Gradio's page needs
inline scripts and ``eval``."""
REVIEW_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
"""The same for the review screen, which has no inline scripts or styles."""
REVIEW_PATH = re.compile("/mice/[^/]+/review/.*")


ASK_SCRIPT = b"""<script>
window.addEventListener("beforeunload", (e) => {
  if (!document.querySelector("[data-ask]")) return;
  e.preventDefault();
  e.stopImmediatePropagation();
});
</script>"""
"""Asks before a page with results or a running job is left. It is in the page's head, so that it comes before Gradio's
own listener, which would disconnect at once, also if the answer is to stay."""
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


class AccessMiddleware:
    """ASGI middleware that refuses what the page does not need, sets headers and gives new browsers a cookie.

    ``token`` is the secret of the page's link; empty: none is needed.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, token: str, sessions: SessionStore) -> None:
        self.app, self.config, self.token, self.sessions = app, config, token, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self.app if scope["type"] == "lifespan" else WebSocketClose(1008))(scope, receive, send)
            return
        prefix = self.config.prefix
        plain = unquote(prefix)
        if prefix and scope["path"] == plain:  # links in the page are relative to a path that ends with a slash
            query = scope.get("query_string", b"").decode("latin-1")
            await RedirectResponse(f"{prefix}/{'?' * bool(query)}{query}", 307)(scope, receive, send)
            return
        if prefix and scope["path"].startswith(f"{plain}/"):  # a proxy that leaves it there
            scope = {**scope, "path": scope["path"].removeprefix(plain), "root_path": ""}
            scope["raw_path"] = scope["path"].encode()
        if prefix:  # Gradio would make the address of the page from the Host, which a proxy may have changed
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers[GRADIO_ROOT] = prefix
            del headers["x-forwarded-host"]
            scope = {**scope, "headers": headers.raw}
        is_page = scope["path"] in ("", "/")
        if is_page:  # not compressed: a script is added
            headers = MutableHeaders(raw=list(scope["headers"]))
            del headers["accept-encoding"]
            scope = {**scope, "headers": headers.raw}
        request = Request(scope, receive)
        owner = self._read_owner(request.headers.get("cookie", ""))
        new_owner = "" if owner or not self._may_enter(request) else secrets.token_urlsafe(32)
        scope[OWNER] = owner or new_owner
        secure = scope.get("scheme") == "https" or request.headers.get("x-forwarded-proto", "").startswith("https")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                policy = REVIEW_POLICY if REVIEW_PATH.fullmatch(scope["path"]) else CONTENT_SECURITY_POLICY
                out["Content-Security-Policy"] = policy + (self.config.framed_by or "'none'")
                out["X-Content-Type-Options"] = "nosniff"
                out["Referrer-Policy"] = "no-referrer"
                if is_page:
                    del out["Content-Length"]
                if new_owner:
                    # Browsers send the cookie of a frame in another site back only with these attributes.
                    site = "SameSite=None; Partitioned" if secure and self.config.framed_by else "SameSite=Lax"
                    # Without a path it belongs to the folder of the page in the browser, below a proxy's path too.
                    value = f"{new_owner}.{self._sign(new_owner)}; HttpOnly; {site}"
                    out.append("Set-Cookie", f"{COOKIE_NAME}={value}{'; Secure' if secure else ''}")
            elif is_page:
                message = {**message, "body": message.get("body", b"").replace(b"<head>", b"<head>" + ASK_SCRIPT, 1)}
            await send(message)

        try:
            refusal, receive = await self._check(request, receive, bool(new_owner))
        except ClientDisconnect:
            return
        await (refusal or self.app)(scope, receive, send_with_headers)

    async def _check(self, request: Request, receive: Receive, is_new: bool) -> tuple[Response | None, Receive]:
        """Return the refusal of the request, if any, and a function that receives its body."""
        path = request.scope.get("path", "")
        is_page = path in ("", "/")
        if not self._is_known_host(request):
            return PlainTextResponse(UNKNOWN_HOST_TEXT, 400), receive
        if not (is_page or path in ALLOWED_PATHS or path.startswith(ALLOWED_PREFIXES)):
            return PlainTextResponse(NOT_FOUND_TEXT, 404), receive
        if self.token and not request.scope[OWNER]:
            return HTMLResponse(render_token_page(), 403) if is_page else PlainTextResponse(TOKEN_NEEDED, 403), receive
        if self.token and is_new:  # without the token, which would stay in the address bar
            return RedirectResponse("./", 303), receive
        is_upload = path.startswith("/mice/") and path.endswith("/upload")
        is_mask = request.method == "PUT" and REVIEW_PATH.fullmatch(path) is not None
        limit = self.config.upload_bytes if is_upload else MAX_MASK_BYTES if is_mask else MAX_BODY_BYTES
        declared = request.headers.get("content-length", "0")
        body: bytes | None = b""
        if not declared.isdecimal() or len(declared) > 15 or int(declared) > limit:
            body = None
        elif not is_upload:  # the route counts the bytes of an upload
            body = await _read_body(request, limit)
        if body is None:
            text = f"This request is larger than {format_bytes(limit)}, the limit of this address."
            return PlainTextResponse(text, 413), receive
        hashes = _list_session_hashes(request, b"" if is_mask else body)
        if any(self.sessions.is_of_another(h, request.scope[OWNER]) for h in hashes):
            return PlainTextResponse(NOT_FOUND_TEXT, 404), receive
        if is_upload:
            return None, receive
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return None, replay

    def _is_known_host(self, request: Request) -> bool:
        """Return whether the page may be shown under the ``Host`` of the request.

        On this computer, other names for its address are an attack by other pages (DNS rebinding). Their browser states
        the port of this server, because it connects to it; a browser that connects to a proxy states the proxy's.
        """
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}")
            name, port = host.hostname or "", host.port
        except ValueError:
            return False
        own = (request.scope.get("server") or ("", None))[1]
        is_proxied = bool(self.config.root_path) and port != own and own not in (80, 443)
        return not self.config.local or name in ("", *LOCAL_NAMES, self.config.host.strip("[]")) or is_proxied

    def _may_enter(self, request: Request) -> bool:
        """Return whether a browser without a cookie gets one: it opens the page, with the token if there is one."""
        given = request.query_params.get("token", "")
        return request.scope.get("path", "") in ("", "/") and (not self.token or _are_equal(given, self.token))

    def _sign(self, owner: str) -> str:
        return hmac.digest(self.token.encode(), owner.encode(), "sha256").hex()

    def _read_owner(self, cookies: str) -> str:
        """Return the browser's name in a ``Cookie`` header; empty if there is none that this server signed."""
        try:
            cookie = SimpleCookie(cookies).get(COOKIE_NAME)
        except CookieError:
            return ""
        owner, _, signature = (cookie.value if cookie else "").rpartition(".")
        return owner if _are_equal(signature, self._sign(owner)) else ""


async def _read_body(request: Request, limit: int) -> bytes | None:
    """Return the body, or None if it has more than ``limit`` bytes; no more are kept in memory."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return body


def _are_equal(a: str, b: str) -> bool:
    return secrets.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


def _list_session_hashes(request: Request, body: bytes) -> list[str]:
    """Return the names of Gradio sessions in a request: in its path, its query and its JSON body."""
    hashes = request.query_params.getlist("session_hash")
    path = request.scope.get("path", "")
    if path.startswith(HEARTBEAT):
        hashes.append(path.removeprefix(HEARTBEAT))
    if body:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            return hashes  # the route refuses it
        if isinstance(values, dict):
            hashes.append(str(values.get("session_hash", "")))
    return hashes
