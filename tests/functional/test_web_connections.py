"""Clients that connect and send nothing, or send without end, do not keep others from the page."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")

BODY = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
HALF_OPEN = {"silent": b"", "half a header": b"GET / HTTP/1.1\r\nHos", "half a body": BODY}
FILES, CONNECTIONS = 256, 300
SERVE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv.pop(1)),) * 2)
from mousecmr_data.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mousecmr serve`, whose process may open 256 files."""
    pytest.importorskip("resource", reason="limits of open files are set on Unix only")
    errors = tmp_path_factory.mktemp("serve") / "errors.txt"
    options = ["serve", "--no-browser", "--port", "0", "--weights", "phantom-small"]
    with errors.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(FILES), *options], stderr=out)
    while " is at " not in errors.read_text(encoding="utf-8"):
        assert process.poll() is None, errors.read_text(encoding="utf-8")
        time.sleep(0.1)
    yield errors.read_text(encoding="utf-8").partition(" is at ")[2].partition(" ")[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, -signal.SIGINT, 130)
    text = errors.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert "Too many open files" not in text


@pytest.mark.parametrize("sent", HALF_OPEN.values(), ids=HALF_OPEN)
def test_the_page_answers_beside_300_half_open_connections(page: str, sent: bytes) -> None:
    port = int(page.rpartition(":")[2].strip("/"))
    with ExitStack() as opened:
        for _ in range(CONNECTIONS):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(sent)
        for path in ("", "config"):
            with urllib.request.urlopen(page + path, timeout=30) as answer:
                assert answer.status == 200
                assert len(answer.read()) > 1000


@pytest.mark.parametrize(
    ("sent", "more"),
    [
        *((sent, b"") for sent in HALF_OPEN.values()),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET", b""),
        (HALF_OPEN["half a header"], b"t"),
    ],
)
def test_a_client_that_sends_no_whole_request_is_disconnected(
    sent: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    from mousecmr_data.web import connections

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        await Request(scope, receive).body()  # type: ignore[arg-type]
        await PlainTextResponse("done")(scope, receive, send)  # type: ignore[arg-type]

    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.2)
    with serve(app) as address, socket.create_connection(address, timeout=0.05) as client:
        client.sendall(sent)
        received = b"x"
        while received:
            try:
                received = client.recv(1000)
            except TimeoutError:
                client.sendall(more)
            except ConnectionError:
                break


@pytest.mark.parametrize(("body", "status"), [(b"{", b"200"), (b"{}", b"503")], ids=["half a body", "a whole one"])
def test_only_connections_that_wait_for_their_client_make_room(
    body: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests whose clients were disconnected are still being answered; they do not count."""
    from starlette.responses import PlainTextResponse

    from mousecmr_data.web import connections

    finish = threading.Event()
    begun = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["method"] == "POST":
            begun.append(scope)
            while not finish.is_set():
                await asyncio.sleep(0.05)
        await PlainTextResponse("done")(scope, receive, send)  # type: ignore[arg-type]

    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 4)
    with serve(app) as address, ExitStack() as opened:
        for sent in range(8 if status == b"200" else 4):
            client = opened.enter_context(socket.create_connection(address, timeout=30))
            client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n" + body)
            deadline = time.monotonic() + 30
            while len(begun) <= sent and time.monotonic() < deadline:
                time.sleep(0.02)
        client = opened.enter_context(socket.create_connection(address, timeout=30))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).split()[1] == status
        finish.set()


@contextmanager
def serve(app: Callable[..., Awaitable[None]]) -> Iterator[tuple[str, int]]:
    """The address of ``app``, served with the limits of the page."""
    uvicorn = pytest.importorskip("uvicorn")
    from mousecmr_data.web import connections

    options = connections.get_server_options() | {"lifespan": "off", "log_level": "critical", "timeout_keep_alive": 600}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join(60)
