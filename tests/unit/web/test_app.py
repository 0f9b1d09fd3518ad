"""Which requests the app accepts. Needs gradio, but no browser."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from page_app import page_app

from mousecmr_data.cli.main import main
from mousecmr_data.errors import ArgumentError
from mousecmr_data.web.app import create_app, launch
from mousecmr_data.web.config import MB, ServerConfig
from mousecmr_data.web.middleware import COOKIE_NAME, HEARTBEAT
from mousecmr_data.web.sessions import RESULTS_FOLDER, Session, SessionStore

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
testclient = pytest.importorskip("starlette.testclient")
TestClient = partial(testclient.TestClient, base_url="http://127.0.0.1:7860")
Client = Any
pytestmark = [  # warnings of gradio and the test client
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with page_app(ServerConfig(upload_mb=1)) as app, TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def sessions(client: Client) -> SessionStore:
    store: SessionStore = client.app.state.service.sessions  # type: ignore[attr-defined]
    return store


@pytest.fixture
def session(client: Client, sessions: SessionStore) -> Iterator[Session]:
    client.cookies.clear()
    client.get("/")
    owner = client.cookies[COOKIE_NAME].rpartition(".")[0]
    yield sessions.open("session", owner)
    sessions.close_session("session", owner)


def send(client: Client, session: Session, path: str, content: bytes) -> int:
    return client.post(f"/mice/{session.token}/upload", params={"drop": 0, "path": path}, content=content).status_code


def test_the_page_loads_nothing_from_other_servers(client: Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "HttpOnly" in page.headers["set-cookie"]
    assert "SameSite=Lax" in page.headers["set-cookie"]
    assert "fonts.googleapis" not in page.text
    assert page.text.index("beforeunload") < page.text.index("</head>"), "it must come before Gradio's own listener"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/run/predict",
        "/gradio_api/call/segmented",
        "/gradio_api/vibe-edit/",
        "/monitoring",
        "/docs",
        "/mice/x/view/y",
    ],
)
def test_paths_that_the_page_does_not_need_are_blocked(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.post(path, files={"files": b"x"}).status_code in (404, 405)


def test_other_host_names_are_refused(client: Client) -> None:
    for host in ("evil.example", "testserver", "127.0.0.1.evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 400
    assert [client.get("/", headers={"host": h}).status_code for h in ("localhost:7860", "[::1]:7860")] == [200, 200]


def test_upload_and_download_are_for_one_browser(client: Client, session: Session) -> None:
    assert send(client, session, "scan/mouse.nii", b"images") == 204
    (folder,) = session.uploads.list_inputs()
    assert (folder / "mouse.nii").read_bytes() == b"images"
    picture, archive = session.folder / "m0-0.png", session.folder / "results.zip"
    for path in (picture, archive):
        path.write_bytes(b"result")
    (session.folder / RESULTS_FOLDER).mkdir()
    session.views, session.download = {"m0-0.png": picture}, archive
    addresses = [f"/mice/{session.token}/view/m0-0.png", f"/mice/{session.token}/review/results.zip"]
    responses = [client.get(a) for a in addresses]
    assert [r.content for r in responses] == [b"result"] * 2
    assert {r.headers["cache-control"] for r in responses} == {"no-store"}
    assert client.get(f"/mice/{session.token}/view/..%2fin%2fscan").status_code == 404
    own_cookies = dict(client.cookies)
    for cookies in ({}, {COOKIE_NAME: "another"}):
        client.cookies.clear()
        client.cookies.update(cookies)
        assert [client.get(a).status_code for a in addresses] == [404, 404]
        assert send(client, session, "more.nii", b"x") == 404
    client.cookies.clear()
    client.cookies.update(own_cookies)
    session.remove_files()
    assert [client.get(a).status_code for a in addresses] == [404, 404]


def test_upload_limits_leave_nothing_behind(client: Client, session: Session) -> None:
    assert send(client, session, "large.nii", bytes(MB + 1)) == 413
    assert send(client, session, "../out.nii", b"x") == 400
    assert [p for p in session.folder.rglob("*") if p.is_file()] == []
    assert send(client, session, "fits.nii", bytes(MB)) == 204  # refused uploads do not count
    assert client.post(f"/mice/{session.token}/upload", content=b"x").status_code == 400


def test_only_a_full_disk_is_called_full(client: Client, session: Session) -> None:
    assert send(client, session, "a", b"x") == 204
    params = {"drop": 0, "path": "a/b"}  # below a file
    response = client.post(f"/mice/{session.token}/upload", params=params, content=b"x")
    assert (response.status_code, response.text) == (507, "This file cannot be stored.")


def test_a_path_in_a_field_is_not_opened(client: Client, session: Session, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    value = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    config = client.get("/config").json()
    number = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == 6)
    body = {"data": [value] * 6, "fn_index": number, "session_hash": "session", "event_data": None}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "session"}) as response:
        text = "".join(response.iter_text())
    assert "process_completed" in text
    assert "secret" not in text.replace(str(secret), "")
    copies = [p for p in session.folder.parent.rglob("secret") if p.is_file()]
    assert copies == []


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """The page as other computers reach it, with a token."""
    with page_app(ServerConfig(host="0.0.0.0")) as app, TestClient(app, follow_redirects=False) as client:
        yield client


def test_in_a_network_the_page_opens_with_its_link_only(shared: Client) -> None:
    token = shared.app.state.token
    assert len(token) >= 43
    for query in ("", "?token=", "?token=wrong", "?token=%C3%A4"):
        page = shared.get(f"/{query}")
        assert page.status_code == 403
        assert "mousecmr serve” printed" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "set-cookie" not in page.headers
    for path in ("/config", "/gradio_api/info", "/mice/x/view/y", "/assets/x.js"):
        assert (shared.get(path).status_code, shared.get(f"{path}?token={token}").status_code) == (403, 403)
    entered = shared.get(f"/?token={token}")
    assert entered.status_code == 303
    assert entered.headers["location"] == "./"  # the token leaves the address bar
    assert [shared.get(p).status_code for p in ("/", "/config")] == [200, 200]
    owner, _, signature = shared.cookies[COOKIE_NAME].rpartition(".")
    for forged in ("x", f"x.{signature}", f"{owner}.{signature[:-1]}", f"{owner}."):
        shared.cookies.clear()
        shared.cookies[COOKIE_NAME] = forged
        assert shared.get("/config").status_code == 403


@pytest.mark.parametrize(("config", "needed"), [(ServerConfig(), False), (ServerConfig(token="secret"), True)])
def test_on_this_computer_a_token_is_optional(config: ServerConfig, needed: bool) -> None:
    with page_app(config) as app, TestClient(app) as client:
        assert client.get("/").status_code == (403 if needed else 200)
        assert client.get("/?token=secret").status_code == 200


def test_only_a_named_site_may_frame_the_page() -> None:
    site = "https://huggingface.co"
    with page_app(ServerConfig(host="0.0.0.0", token="", framed_by=site)) as app, TestClient(app) as client:
        page = client.get("/", headers={"x-forwarded-proto": "https"})
        assert page.headers["content-security-policy"].endswith(f"frame-ancestors {site}")
        assert "SameSite=None; Partitioned; Secure" in page.headers["set-cookie"]


def test_the_page_of_another_browser_cannot_be_closed_by_its_id(
    client: Client, session: Session, sessions: SessionStore
) -> None:
    def list_answers() -> list[int]:
        body = {"session_hash": "session", "fn_index": 0, "event_id": "x", "data": []}
        answers = [client.post(f"/gradio_api/{name}", json=body) for name in ("queue/join", "cancel")]
        answers += [client.get("/gradio_api/queue/data?session_hash=session"), client.get(f"{HEARTBEAT}session")]
        return [a.status_code for a in answers]

    client.cookies.clear()
    assert list_answers() == [404] * 4
    client.get("/")  # another browser, with a cookie of its own
    assert list_answers() == [404] * 4
    assert not session.closed
    assert sessions.find("session", session.owner) is session


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"data":', b"null", b"\xff" * 100, b'{"session_hash": [1], "data": []}']
)
def test_malformed_bodies_are_refused(client: Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert client.post("/gradio_api/queue/join", content=body, headers=headers).status_code in (400, 422)


def test_other_weights_are_not_offered() -> None:
    with pytest.raises(ArgumentError, match="no weights"):
        create_app(ServerConfig(weights="/etc/passwd"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--no-browser"], r"at http://127\.0\.0\.1:\d+/  "),
        (["--no-browser", "--token"], r"at http://127\.0\.0\.1:\d+/\?token=[\w-]{43}  "),
        (["--host", "0.0.0.0"], r"at http://[\w.-]+:\d+/\?token=[\w-]{43}  .*\n.*with this link only.*not encrypted"),
        (["--host", "0.0.0.0", "--no-token"], r"at http://[\w.-]+:\d+/  .*\n.*without a password.*not encrypted"),
    ],
)
def test_the_link_is_printed_with_its_token(words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(options: ServerConfig) -> Any:
        with page_app(options) as app:
            return app

    monkeypatch.setattr("mousecmr_data.web.app.create_app", create)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    result = CliRunner().invoke(main, ["serve", "--port", "0", *words])
    assert result.exit_code == 0, result.output
    assert re.search(expected, result.output), result.output


def test_a_port_in_use_is_named_in_the_error() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port {port}"):
            launch(ServerConfig(), port)


def test_the_page_below_a_path() -> None:
    """A proxy may leave the path in requests, and pass on the name under which the browser knows it."""
    with page_app(ServerConfig(root_path="/proxy/7860/")) as app, TestClient(app) as client:
        for path in ("/", "/proxy/7860/"):
            client.cookies.clear()
            page = client.get(path, headers={"host": "hub.example"})
            assert page.status_code == 200
            assert '"root":"/proxy/7860"' in page.text
            assert "Path=" not in page.headers["set-cookie"], "it belongs to the folder that the browser shows"
        assert client.get("/proxy/7860?a=b", follow_redirects=False).headers["location"] == "/proxy/7860/?a=b"
        assert client.get("/proxy/7860/docs").status_code == 404
        hosts = {"hub.example:443": 200, "localhost:7860": 200, "evil.example:7860": 400, "evil.example:x": 400}
        assert {h: client.get("/", headers={"host": h}).status_code for h in hosts} == hosts


@pytest.mark.parametrize("path", ["proxy", "/a b", "//x", "/x;y", "/x\ny"])
def test_root_paths_that_are_none(path: str) -> None:
    with pytest.raises(ArgumentError, match="--root-path /proxy/7860"):
        ServerConfig(root_path=path)
