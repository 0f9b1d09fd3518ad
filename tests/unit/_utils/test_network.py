"""Telemetry is off, and offline is a wall, for this process and its workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mousecmr_data._utils.network import TELEMETRY_OFF, bypass_proxy, is_local
from mousecmr_data._utils.parallel import map_in_processes

WALLED = """
import asyncio, socket, sys, threading, urllib.request
from mousecmr_data._utils.network import enforce_offline
from mousecmr_data.errors import DownloadError

def ask(*arguments):
    return socket.socket(type=socket.SOCK_DGRAM).sendto(*arguments)

enforce_offline()
enforce_offline()
ATTEMPTS = {
    "connection": lambda: socket.create_connection(("192.0.2.1", 80), 5),
    "IPv6": lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
    "error code": lambda: socket.socket().connect_ex(("192.0.2.1", 80)),
    "base class": lambda: __import__("_socket").socket().connect(("192.0.2.1", 80)),
    "datagram": lambda: ask(b"x", ("192.0.2.1", 53)),
    "flags": lambda: ask(b"x", 0, ("192.0.2.1", 53)),
    "message": lambda: socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, ("192.0.2.1", 53)),
    "name": lambda: socket.getaddrinfo("example.org", 80),
    "name as bytes": lambda: socket.getaddrinfo(b"example.org", 80),
    "old name": lambda: socket.gethostbyname("example.org"),
    "coroutine": lambda: asyncio.run(asyncio.open_connection("192.0.2.1", 80)),
}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
    except DownloadError as e:
        assert "MOUSECMR_OFFLINE" in str(e), name
    else:
        raise SystemExit(f"{name} was not refused")
try:
    urllib.request.urlopen("http://192.0.2.1/")
except OSError as e:
    assert "MOUSECMR_OFFLINE" in str(e)
with socket.create_server(("127.0.0.1", 0)) as server:  # local addresses stay open
    socket.create_connection(("localhost", server.getsockname()[1]), 5).close()
    asyncio.run(asyncio.open_connection("127.0.0.1", server.getsockname()[1]))
one, two = socket.socketpair()
one.sendall(b"x")
print("walled")
"""


def test_no_python_code_gets_past_the_wall() -> None:
    environment = {**os.environ, "MOUSECMR_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WALLED], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "walled\n", done.stderr


def connect(_: str) -> str:
    import socket

    try:
        socket.create_connection(("192.0.2.1", 80), 0.2)
    except OSError as e:
        return str(e)
    return "connected"


def test_worker_processes_are_walled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    for text in map_in_processes(connect, ["a", "b"], 2).values():
        assert "MOUSECMR_OFFLINE is set" in text


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::1%lo", True),
        ("0.0.0.0", False),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("192.168.0.1", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_local_addresses(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_local_hosts_are_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example.org")
    bypass_proxy("hub.example.org")
    assert os.environ["NO_PROXY"] == "intranet.example.org"
    bypass_proxy("127.0.0.1")
    bypass_proxy("127.0.0.1")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intranet.example.org,127.0.0.1"


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("datasets", "import mousecmr_data.adapters.huggingface"),
        ("huggingface_hub", "import mousecmr_data.export.hub"),
        ("gradio", "from mousecmr_data.web.app import create_app; create_app()"),
        ("onnxruntime", "import mousecmr_data.inference.engines.onnx"),
    ],
)
def test_telemetry_is_off_before_a_package_is_imported(package: str, use: str) -> None:
    """The variables are read when the package is imported."""
    pytest.importorskip(package)
    code = f"""
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {package!r}:
            print({list(TELEMETRY_OFF)} == [k for k in {list(TELEMETRY_OFF)} if k in os.environ])
            raise SystemExit
sys.meta_path.insert(0, Finder())
{use}
"""
    environment = {k: v for k, v in os.environ.items() if k not in TELEMETRY_OFF}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("before", ["", "import openvino"], ids=["first import", "imported before"])
def test_openvino_makes_no_identifier(before: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    pytest.importorskip("openvino_telemetry")
    code = f"""
import os
os.environ["HOME"] = {str(tmp_path / "other")!r}  # where OpenVINO itself would write
{before}
os.environ["HOME"] = {str(tmp_path / "home")!r}
from mousecmr_data._utils.network import import_openvino
openvino = import_openvino()
from openvino.tools.ovc import convert_impl, telemetry_utils, utils
print({{m.tm.__name__ for m in (convert_impl, telemetry_utils, utils)}})
"""
    for name in ("home", "other"):
        (tmp_path / name).mkdir()
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "{'openvino.tools.ovc.telemetry_stub'}\n", done.stderr
    assert list((tmp_path / "home").iterdir()) == []
