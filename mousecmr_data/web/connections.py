"""Limit the connections of the page's server, and the time for which one waits for its client.

A process may have 256 files open on some systems, and each connection is one. Clients that connect and send nothing,
or send or read slowly without end, would otherwise use up all of them, and nobody could open the page.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.h11_impl import H11Protocol

from mousecmr_data.errors import ArgumentError

MAX_CONNECTIONS = 128
"""An open page uses two, and up to six while it loads."""
BACKLOG = 32
"""Limit of connections that wait to be accepted, and that are accepted at a time."""
PATIENCE_SECONDS = 30.0
"""A client that should send or read, and did not for this time, is disconnected."""
GRACE_SECONDS = 3
"""Time in which open pages may finish their requests when the server is stopped."""


class LimitedProtocol(H11Protocol):
    """The HTTP protocol of uvicorn, which closes connections that wait too long for their client.

    When there are more than ``MAX_CONNECTIONS``, the one that waits longest is closed at once; if none waits, the new
    one is answered 503. The option ``limit_concurrency`` of uvicorn would count requests of closed connections too.
    """

    _since = 0.0
    """Since when the client should send or read, if it should (in seconds of the event loop's clock)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; make room if there are too many connections."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self.loop.call_later(PATIENCE_SECONDS, self._check)
        if len(self.connections) > MAX_CONNECTIONS:
            others = [c for c in self.connections if isinstance(c, LimitedProtocol) and c is not self]
            longest = max(others, key=LimitedProtocol.get_waiting_seconds)
            if longest.get_waiting_seconds() > 0:
                longest.transport.abort()
                self.connections.discard(longest)
            else:
                self.app = service_unavailable

    def data_received(self, data: bytes) -> None:
        """Read on; a piece of a body is progress, a piece of a header is not."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait until the client reads."""
        self._since = self.loop.time()
        super().pause_writing()

    def shutdown(self) -> None:
        """Let a request that is being answered finish; do not wait for the client."""
        if self.get_waiting_seconds() > 0:
            self.transport.abort()
        else:
            super().shutdown()

    def get_waiting_seconds(self) -> float:
        """Return for how long the client should have sent or read something; 0 if it need not."""
        should_send = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.flow.read_paused
        return self.loop.time() - self._since if should_send or self.flow.write_paused else 0.0

    def _check(self) -> None:
        if self.transport.is_closing():
            return
        left = PATIENCE_SECONDS - self.get_waiting_seconds()
        if left <= 0:
            self.transport.abort()
        else:
            self.loop.call_later(left, self._check)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens at ``host``, an address of this computer; port 0: any free one.

    Raises :class:`ArgumentError` if the port is in use or the host is no such address.
    """
    address = host.strip("[]")
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except (OSError, OverflowError) as e:
        text = f"The page cannot be opened at {host}, port {port}: {e}"
        raise ArgumentError(text, "a free port", f"--port {port % 65535 + 1}") from e


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve ``app`` within these limits until it is interrupted."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS, **get_server_options())
    uvicorn.Server(config).run(sockets=[listener])


def get_server_options() -> dict[str, Any]:
    """Return the options of ``uvicorn.Config`` that belong to these limits."""
    return {"http": LimitedProtocol, "ws": "none", "backlog": BACKLOG}
