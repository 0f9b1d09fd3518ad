"""A reverse proxy that shows another server below a path, as Jupyter, nginx and Open OnDemand do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OWN_HEADERS = ("connection", "transfer-encoding", "date", "server")
BLOCK = 1 << 16


@contextmanager
def reverse_proxy(target: str, prefix: str, *, strip: bool, keep_host: bool) -> Iterator[str]:
    """Yield the address ``http://localhost:PORT`` at which ``target`` (host:port) is shown below ``prefix``.

    ``strip``: remove the prefix from requests; ``keep_host``: pass the browser's ``Host`` on, not the target's.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix) if strip else self.path
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "host")}
            connection = http.client.HTTPConnection(target)
            headers["Host"] = self.headers["Host"] if keep_host else target
            connection.request(self.command, path, body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in OWN_HEADERS:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):  # the browser closed the page
                while block := answer.read1(BLOCK):
                    self.wfile.write(block)
                    self.wfile.flush()
            connection.close()

        do_GET = do_POST = do_HEAD = pass_on

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
