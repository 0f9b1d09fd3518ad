import re
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from mousecmr_data.download.errors import PermanentError
from mousecmr_data.download.http import HttpClient, find_token
from mousecmr_data.download.retry import HostLimiter, RetryPolicy, retry

RAW = "https://raw.githubusercontent.com/lab/mice/abc/Data/Mouse1.h5"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOUSECMR_TOKEN", "GITHUB_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, name.lower())


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (RAW, "github_token"),
        (RAW.replace("https", "http"), None),
        (RAW.replace(".com/", ".com:444/"), None),
        (RAW.replace("raw.", "evil-raw."), None),
        (RAW.replace(".com/", ".com.evil.org/"), None),
        ("https://raw.githubusercontent.com@evil.org/x", None),
        ("https://media.githubusercontent.com/x", None),
        ("https://api.github.com/x", None),
        ("https://huggingface.co/datasets/lab/mice/resolve/main/x", "hf_token"),
        ("http://huggingface.co/x", None),
        ("https://cdn-lfs.huggingface.co/x", None),
        ("https://mirror.example.org/x", "mousecmr_token"),
        ("https://mirror.example.org:443/x", "mousecmr_token"),
        ("http://mirror.example.org/x", None),
        ("https://second.example.org/x", None),
        ("file:///etc/passwd", None),
    ],
)
def test_each_token_is_sent_to_its_own_host_only(url: str, sent: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MOUSECMR_MIRROR", "/mnt/mice hf://datasets/a/b https://mirror.example.org https://second.example.org"
    )
    assert find_token(url) == sent


def test_no_token_over_plain_http_except_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for base, sent in (
        ("http://10.0.0.7:8000", None),
        ("http://127.0.0.1:8000", "mousecmr_token"),
        ("http://localhost", "mousecmr_token"),
        ("http://[::1]:80", "mousecmr_token"),
    ):
        monkeypatch.setenv("MOUSECMR_MIRROR", base)
        assert find_token(base + "/x") == sent


def test_empty_tokens_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", " \n")
    assert find_token(RAW) is None


class Proxy(ThreadingHTTPServer):
    """A proxy that answers every request with one status, and counts the requests."""

    def __init__(self, status: int) -> None:
        self.status, self.requests = status, 0
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ProxyHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Proxy)
        self.server.requests += 1
        self.send_error(self.server.status)

    do_CONNECT = do_GET

    def log_message(self, *_: object) -> None: ...


def request(url: str, hosts: HostLimiter | None = None) -> str:
    """Return the reason for which ``url`` cannot be requested, tried as in a download."""
    policy = RetryPolicy(base_seconds=0.001)
    client = HttpClient(policy)
    try:
        with pytest.raises(PermanentError) as caught:
            retry(lambda: client.get(url), url, policy, hosts or HostLimiter(), threading.Event())
    finally:
        client.close()
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "cure"), [(407, r"_PROXY=http://USER:PASSWORD@HOST:PORT"), (403, r"NO_PROXY|MOUSECMR_TOKEN")]
)
def test_a_proxy_that_refuses_is_named_with_its_cure_and_asked_once(
    scheme: str, status: int, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, hosts = Proxy(status), HostLimiter()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://anna:secret@127.0.0.1:{proxy.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    text = request(f"{scheme}://data.example.org/Mouse1.h5", hosts)
    assert re.search(cure, text)
    assert "secret" not in text
    assert proxy.requests == 1
    if status == 407:
        assert request(f"{scheme}://data.example.org/Mouse2.h5", hosts) == text
        assert proxy.requests == 1, "a wrong password was sent for each file: accounts are locked by that"
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.parametrize(
    ("address", "cure"),
    [("socks5://127.0.0.1:9", "pip install pysocks"), ("http://:80", "is not a valid address: export HTTPS_PROXY=")],
)
def test_a_proxy_that_cannot_be_used_is_named_with_its_cure(
    address: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", _raise_as_without_pysocks)
    monkeypatch.setenv("https_proxy", address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    text = request("https://data.example.org/Mouse1.h5")
    assert cure in text
    assert "tries" not in text


def _raise_as_without_pysocks(*_: object, **__: object) -> None:
    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_an_unknown_certificate_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Proxy(404)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/x"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "localhost")
    text = request(url)
    assert "export REQUESTS_CA_BUNDLE=/path" in text
    assert "tries" not in text
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    text = request(url)
    assert "absent.pem" in text
    assert "REQUESTS_CA_BUNDLE" in text
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # the advice works
    assert "HTTP 404" in request(url)
    server.shutdown()
    server.server_close()
