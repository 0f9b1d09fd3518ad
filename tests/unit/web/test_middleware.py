"""The size of request bodies, at an app that would read any body. Needs no gradio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mousecmr_data.web.config import MB, ServerConfig
from mousecmr_data.web.middleware import MAX_BODY_BYTES, AccessMiddleware
from mousecmr_data.web.sessions import SessionStore

CHUNK = 50_000


@pytest.fixture
def sessions() -> Iterator[SessionStore]:
    store = SessionStore()
    yield store
    store.close()


class Trial:
    """One request: what the middleware took of its body, what the app behind it got, and the answer."""

    def __init__(self, sessions: SessionStore, path: str, size: int, *, declared: int | None, method: str = "POST"):
        self.taken = self.received = self.status = 0
        self.text = ""
        headers = [(b"content-length", str(declared).encode())] if declared is not None else []
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
        app = AccessMiddleware(self.read_all, ServerConfig(upload_mb=1), "", sessions)
        self.size = size
        asyncio.run(app(scope, self.receive, self.send))  # type: ignore[arg-type]

    async def receive(self) -> dict[str, Any]:
        n = min(CHUNK, self.size - self.taken)
        self.taken += n
        return {"type": "http.request", "body": bytes(n), "more_body": self.taken < self.size}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()

    async def read_all(self, _: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.received += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("declared", [200 * MB, None, 10], ids=["declared", "chunked", "false"])
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/gradio_api/queue/join", "POST"),
        ("/gradio_api/cancel", "POST"),
        ("/", "GET"),
        ("/mice/x/view/y", "GET"),
        ("/gradio_api/heartbeat/x", "GET"),
    ],
)
def test_a_large_body_is_refused_before_it_is_in_memory(
    sessions: SessionStore, path: str, method: str, declared: int | None
) -> None:
    trial = Trial(sessions, path, 200 * MB, declared=declared, method=method)
    assert trial.status == 413
    assert "larger than 65.5 kB" in trial.text
    assert trial.received == 0
    assert trial.taken <= MAX_BODY_BYTES + CHUNK


@pytest.mark.parametrize("declared", [MAX_BODY_BYTES, None])
def test_a_body_at_the_limit_passes_whole(sessions: SessionStore, declared: int | None) -> None:
    trial = Trial(sessions, "/gradio_api/queue/join", MAX_BODY_BYTES, declared=declared)
    assert (trial.status, trial.received) == (200, MAX_BODY_BYTES)


def test_uploads_have_their_own_limit(sessions: SessionStore) -> None:
    passed = Trial(sessions, "/mice/x/upload", MB, declared=MB)
    assert (passed.status, passed.received) == (200, MB)
    refused = Trial(sessions, "/mice/x/upload", MB + 1, declared=MB + 1)
    assert (refused.status, refused.taken) == (413, 0)
    assert "larger than 1.0 MB" in refused.text


@pytest.mark.parametrize("declared", ["-1", "x", "1e3", "9" * 5000])
def test_a_malformed_length_is_refused(sessions: SessionStore, declared: Any) -> None:
    assert Trial(sessions, "/gradio_api/queue/join", 10, declared=declared).status == 413


def test_ids_in_bodies_are_checked(sessions: SessionStore) -> None:
    sessions.open("page", "owner")

    class Join(Trial):
        async def receive(self) -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps({"session_hash": "page"}).encode(), "more_body": False}

    assert Join(sessions, "/gradio_api/queue/join", 0, declared=None).status == 404
    sessions.close_session("page", "owner")
    assert Join(sessions, "/gradio_api/queue/join", 0, declared=None).status == 200
