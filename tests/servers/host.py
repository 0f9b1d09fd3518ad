"""A host on 127.0.0.1 that serves files as real hosts do, and misbehaves on demand.

It records every request and counts every byte of body that it sent. A fault is a function
``(exchange) -> None`` that answers one request in its own way; ``Host.faults`` queues them by path.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

TIMEOUT = 20.0
"""Seconds after which a handler gives up on a client, so that no test can hang on a thread."""


@dataclass
class Request:
    """One request that the host got."""

    method: str
    path: str
    headers: dict[str, str]
    moment: float = field(default_factory=time.monotonic)


@dataclass
class Served:
    """A file of the host."""

    body: bytes
    etag: str | None = None

    def __post_init__(self) -> None:
        if self.etag is None:
            self.etag = f'"{hashlib.md5(self.body).hexdigest()}"'


Fault = Callable[["Exchange"], None]


@dataclass
class Host:
    """``with Host({"Data/Mouse1.h5": b"..."}) as host: ... host.url``."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True
    """Whether a Content-Length is sent; without, the end of the connection ends the body."""
    rate: float | None = None
    """Bytes per second of the whole host; None: no limit."""
    chunk: int = 1 << 16

    def __post_init__(self) -> None:
        self.served = {path: Served(body) for path, body in self.files.items()}
        self.requests: list[Request] = []
        self.connections = 0
        self.sent: dict[str, int] = defaultdict(int)
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.closing = threading.Event()
        self._clock = threading.Lock()
        self._due = 0.0
        self._count = threading.Lock()

    def __enter__(self) -> Self:
        host = self

        class Handler(Exchange):
            pass

        Handler.host = host
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def template(self) -> str:
        """The template for a manifest's ``url``."""
        return self.url + "/{version}/{path}"

    def gets(self, path: str | None = None) -> list[Request]:
        """Return the GET requests, of one path or of all."""
        return [r for r in self.requests if r.method == "GET" and (path is None or r.path.endswith(path))]

    def fail(self, path: str, *faults: Fault) -> None:
        """Answer the next requests for ``path`` with these faults, one each."""
        self.faults[path].extend(faults)

    def fail_always(self, path: str, fault: Fault) -> None:
        """Answer every request for ``path`` with this fault."""
        self.always[path] = fault

    def throttle(self, size: int) -> None:
        """Wait until ``size`` bytes may be sent."""
        if self.rate is None:
            return
        with self._clock:
            now = time.monotonic()
            self._due = max(self._due, now) + size / self.rate
            wait = self._due - now
        self.closing.wait(wait)

    def count(self, path: str, size: int) -> None:
        with self._count:
            self.sent[path] += size


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    host: Host
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT

    def setup(self) -> None:
        super().setup()
        with self.host._count:
            self.host.connections += 1

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.split("?")[0].lstrip("/")
        self.host.requests.append(Request(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        self.name = next((n for n in self.host.served if path == n or path.endswith("/" + n)), path)
        queue = self.host.faults[self.name]
        fault = queue.popleft() if queue and self.command == "GET" else self.host.always.get(self.name)
        try:
            if fault is not None:
                fault(self)
            elif self.name in self.host.served:
                self.send_file()
            else:
                self.refuse(404)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    @property
    def file(self) -> Served:
        return self.host.served[self.name]

    @property
    def offset(self) -> int:
        """The start of the requested range; 0 without one."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0

    def send_file(self) -> None:
        """Answer as a well-behaved host does."""
        part = re.fullmatch(r"bytes=(\d*)-(\d+)", self.headers.get("Range", ""))
        if part and self.host.ranges:
            self.send_part(part[1], int(part[2]))
            return
        body, offset, valid = self.file.body, self.offset, self.headers.get("If-Range")
        if not self.host.ranges or (valid is not None and valid != self.file.etag):
            offset = 0
        if offset >= len(body) > 0:
            self.refuse(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        headers = {"ETag": self.file.etag or ""}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{len(body) - 1}/{len(body)}"
        self.head(206 if offset else 200, len(body) - offset if self.host.lengths else None, headers)
        self.body(body[offset:])

    def send_part(self, first: str, last: int) -> None:
        """Send a closed range, or the last bytes if no first one is given."""
        body = self.file.body
        start, stop = (int(first), min(last + 1, len(body))) if first else (max(0, len(body) - last), len(body))
        headers = {"ETag": self.file.etag or "", "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}
        self.head(206, stop - start, headers)
        self.body(body[start:stop])

    def head(self, status: int, length: int | None, headers: Mapping[str, str] | None = None) -> None:
        """Send status line and headers. Without a length, the connection is closed after the body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send bytes at the host's rate, and count them."""
        if self.command == "HEAD":
            return
        view, step = memoryview(data), self.host.chunk
        for start in range(0, len(view), step):
            if self.host.closing.is_set():
                self.close_connection = True
                return
            piece = view[start : start + step]
            self.host.throttle(len(piece))
            self.host.count(self.name, len(piece))
            self.wfile.write(piece)

    def refuse(self, status: int, headers: Mapping[str, str] | None = None, text: bytes = b"no\n") -> None:
        self.head(status, len(text), headers)
        if self.command != "HEAD":
            self.wfile.write(text)

    def cut(self) -> None:
        """Reset the connection (RST)."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True  # cut() closed it

    def log_message(self, format: str, *args: object) -> None:
        pass
