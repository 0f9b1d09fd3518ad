"""Which requests the app accepts. Needs gradio, but no browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_app import page_app

from mousecmr_data.errors import ArgumentError
from mousecmr_data.web.app import create_app, launch
from mousecmr_data.web.config import MB, ServerConfig
from mousecmr_data.web.middleware import COOKIE_NAME
from mousecmr_data.web.sessions import Session, SessionStore

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
testclient = pytest.importorskip("starlette.testclient")
TestClient = testclient.TestClient
pytestmark = [  # warnings of gradio and the test client
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with page_app(ServerConfig(upload_mb=1)) as app, TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def sessions(client: TestClient) -> SessionStore:
    store: SessionStore = client.app.state.service.sessions  # type: ignore[attr-defined]
    return store


@pytest.fixture
def session(client: TestClient, sessions: SessionStore) -> Iterator[Session]:
    client.cookies.clear()
    client.get("/")
    yield sessions.open("session", client.cookies[COOKIE_NAME])
    sessions.close_session("session")


def send(client: TestClient, session: Session, path: str, content: bytes) -> int:
    return client.post(f"/mice/{session.token}/upload", params={"drop": 0, "path": path}, content=content).status_code


def test_the_page_loads_nothing_from_other_servers(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "HttpOnly" in page.headers["set-cookie"]
    assert "SameSite=Strict" in page.headers["set-cookie"]
    assert "fonts.googleapis" not in page.text


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
def test_paths_that_the_page_does_not_need_are_blocked(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.post(path, files={"files": b"x"}).status_code in (404, 405)


def test_other_host_names_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_upload_and_download_are_for_one_browser(client: TestClient, session: Session) -> None:
    assert send(client, session, "scan/mouse.nii", b"images") == 204
    (folder,) = session.list_inputs()
    assert (folder / "mouse.nii").read_bytes() == b"images"
    picture, archive = session.folder / "m0-0.png", session.folder / "results.zip"
    for path in (picture, archive):
        path.write_bytes(b"result")
    session.views, session.download = {"m0-0.png": picture}, archive
    addresses = [f"/mice/{session.token}/view/m0-0.png", f"/mice/{session.token}/results.zip"]
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


def test_upload_limits_leave_nothing_behind(client: TestClient, session: Session) -> None:
    assert send(client, session, "large.nii", bytes(MB + 1)) == 413
    assert send(client, session, "../out.nii", b"x") == 400
    assert [p for p in session.folder.rglob("*") if p.is_file()] == []
    assert send(client, session, "fits.nii", bytes(MB)) == 204  # refused uploads do not count
    assert client.post(f"/mice/{session.token}/upload", content=b"x").status_code == 400


def test_a_path_in_a_field_is_not_opened(client: TestClient, session: Session, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    value = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    config = client.get("/config").json()
    number = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == 4)
    body = {"data": [value] * 4, "fn_index": number, "session_hash": "session", "event_data": None}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "session"}) as response:
        text = "".join(response.iter_text())
    assert "process_completed" in text
    assert "secret" not in text.replace(str(secret), "")
    copies = [p for p in session.folder.parent.rglob("secret") if p.is_file()]
    assert copies == []


def test_other_weights_are_not_offered() -> None:
    with pytest.raises(ArgumentError, match="no weights"):
        create_app(ServerConfig(weights="/etc/passwd"))


def test_a_port_in_use_is_named_in_the_error() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port {port}"):
            launch(ServerConfig(), port)
