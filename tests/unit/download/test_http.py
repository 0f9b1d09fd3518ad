import re
import shutil
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from mousecmr_data.download.http import (
    Cancelled,
    HostLimiter,
    HttpClient,
    PermanentError,
    RetryPolicy,
    TransientError,
    find_token,
    parse_retry_after,
    retry,
)

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


URL = "http://host.example.org/x"
FAST = RetryPolicy(max_attempts=4, base_seconds=0.001, max_retry_after=2.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("-1", None), ("soon", None), ("1.5", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    assert parse_retry_after(format_datetime(soon, usegmt=True)) == pytest.approx(60, abs=2)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_backoff_doubles_up_to_a_ceiling_with_jitter() -> None:
    retry_policy = RetryPolicy(base_seconds=1.0, max_seconds=8.0)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (50, 8)):
        waits = {retry_policy.compute_wait(failures) for _ in range(50)}
        assert len(waits) > 1
        assert longest / 2 <= min(waits)
        assert max(waits) <= longest


def attempts(*outcomes: object) -> tuple[list[int], object]:
    """Return an attempt that has these outcomes in turn, and its count of calls."""
    left, calls = list(outcomes), [0]

    def attempt() -> object:
        calls[0] += 1
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return calls, attempt


def test_retries_end() -> None:
    calls, attempt = attempts(*[TransientError("no")] * 10)
    with pytest.raises(PermanentError, match=r"no \(4 tries\)"):
        retry(attempt, URL, FAST, HostLimiter(), threading.Event())  # type: ignore[arg-type]
    assert calls == [4]


def test_progress_resets_the_count_of_failures() -> None:
    calls, attempt = attempts(*[TransientError("cut")] * 10, "done")
    assert retry(attempt, URL, FAST, HostLimiter(), threading.Event(), has_progressed=lambda: True) == "done"  # type: ignore[arg-type]
    assert calls == [11]


def test_permanent_errors_are_not_retried() -> None:
    calls, attempt = attempts(PermanentError("gone"))
    with pytest.raises(PermanentError, match="gone"):
        retry(attempt, URL, FAST, HostLimiter(), threading.Event())  # type: ignore[arg-type]
    assert calls == [1]


def test_a_requested_wait_applies_to_the_host() -> None:
    hosts = HostLimiter()
    _, attempt = attempts(TransientError("429", wait=0.2), "done")
    delays: dict[str, float] = {}

    def on_wait(text: str) -> None:
        delays[text] = hosts.get_delay("host.example.org")

    assert retry(attempt, URL, FAST, hosts, threading.Event(), on_wait) == "done"  # type: ignore[arg-type]
    assert list(delays) == ["429; trying again in 0.2 s"]
    assert 0.1 < delays["429; trying again in 0.2 s"] <= 0.2, "all transfers from this host wait"
    hosts.delay("a.org", 5.0)
    hosts.delay("a.org", 1.0)
    assert 4.0 < hosts.get_delay("a.org") <= 5.0
    assert hosts.get_delay("b.org") == 0.0


def test_a_host_that_asks_for_too_long_a_wait_is_not_tried_again() -> None:
    hosts = HostLimiter()
    _, attempt = attempts(TransientError("429", wait=3600))
    with pytest.raises(PermanentError, match="asks to wait 3600 s"):
        retry(attempt, URL, FAST, hosts, threading.Event())  # type: ignore[arg-type]
    calls, attempt = attempts("never called")
    with pytest.raises(PermanentError, match="3600"):
        retry(attempt, URL, FAST, hosts, threading.Event())  # type: ignore[arg-type]
    assert calls == [0]


def test_waiting_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    _, attempt = attempts(TransientError("busy", wait=2.0))
    with pytest.raises(Cancelled):
        retry(attempt, URL, FAST, HostLimiter(), stop)  # type: ignore[arg-type]
