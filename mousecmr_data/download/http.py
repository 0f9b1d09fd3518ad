"""Request bytes from a URL or from a file of a mirror folder, for all downloads of this package, and retry.

Waiting times: back-off, ``Retry-After``, and limits per host that all transfers share.
Redirects are followed here, step by step, so that a token never leaves its host. Error messages are written
here, because those of the HTTP library may contain signed URLs or tokens.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from mousecmr_data._utils.network import is_local
from mousecmr_data._version import __version__
from mousecmr_data.download.sources import check_url, get_hub_url, list_mirrors, redact_url

Result = TypeVar("Result")

GITHUB_ORIGIN = ("https", "raw.githubusercontent.com", 443)
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
HTTP_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
"""What the HTTP libraries raise for answers and addresses that they cannot read, beside RequestException."""


class TransferError(Exception):
    """A transfer failed. ``str()`` is a readable reason without tokens and signed query strings."""


class TransientError(TransferError):
    """A failure that may pass: retry this URL. ``wait``: the seconds that the host asked to wait."""

    def __init__(self, reason: str, wait: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait = wait
        self.reached = reached
        """Whether the host answered at all."""


class PermanentError(TransferError):
    """This URL will not deliver the file: try the next source."""

    def __init__(self, reason: str, concerns_host: bool = False) -> None:
        super().__init__(reason)
        self.concerns_host = concerns_host
        """Whether no file can be requested from the host: a proxy refuses, a certificate is unknown."""


class NotFoundError(PermanentError):
    """The host does not have the file."""


class ChecksumMismatch(PermanentError):
    """The host delivered bytes that do not match the manifest."""


class Cancelled(Exception):
    """Ctrl-C was pressed or the run was stopped; received bytes stay on disk for the next run."""


@dataclass(frozen=True)
class RetryPolicy:
    """Limits and waiting times of retries. All times are in seconds."""

    max_attempts: int = 6
    """Attempts of one URL without progress before the next source is tried."""
    base_seconds: float = 0.5
    """First back-off; doubles with each failure."""
    max_seconds: float = 30.0
    """Longest back-off, unless the host asks for a longer one."""
    max_retry_after: float = 300.0
    """Longest ``Retry-After`` that is accepted; a host that asks for more is not tried again."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """Longest time without a byte in the middle of an answer."""
    redirects: int = 5

    def compute_wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row: exponential, with jitter to spread clients."""
        return random.uniform(0.5, 1.0) * min(self.max_seconds, self.base_seconds * 2.0 ** (failures - 1))


DEFAULT_RETRY_POLICY = RetryPolicy()


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header (a number or an HTTP date) asks for, or None."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        time_of_retry = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if time_of_retry.tzinfo is None:
        time_of_retry = time_of_retry.replace(tzinfo=UTC)
    return max(0.0, (time_of_retry - datetime.now(UTC)).total_seconds())


class HostLimiter:
    """Delays and bans of hosts, shared by the transfers of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._ban_reasons: dict[str, str] = {}

    def delay(self, host: str, seconds: float) -> None:
        """Delay all requests to ``host`` by ``seconds`` from now: an answer 429 applies to all transfers."""
        with self._lock:
            self._not_before[host] = max(self._not_before.get(host, 0.0), time.monotonic() + seconds)

    def get_delay(self, host: str) -> float:
        """Return the seconds until a request to ``host`` is allowed."""
        with self._lock:
            return max(0.0, self._not_before.get(host, 0.0) - time.monotonic())

    def ban(self, host: str, reason: str) -> None:
        """Stop requests to ``host`` for this run: it is unreachable, or asks for too long a wait."""
        with self._lock:
            self._ban_reasons[host] = reason

    def get_ban_reason(self, host: str) -> str | None:
        """Return why ``host`` is banned, or None."""
        with self._lock:
            return self._ban_reasons.get(host)


def get_origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; raises ValueError if it is not valid."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def find_token(url: str) -> str | None:
    """Return the token to send with a request for ``url``, or None.

    Each token is sent to one host only: ``MOUSECMR_TOKEN`` to the first http(s) mirror of ``MOUSECMR_MIRROR``,
    ``GITHUB_TOKEN`` to raw.githubusercontent.com, ``HF_TOKEN`` to the Hugging Face hub (``HF_ENDPOINT``). It is
    sent only over TLS (or to this machine), and dropped at a redirect that changes the host, the port or TLS.
    """
    origin = get_origin(url)
    if origin[0] != "https" and not is_local(origin[1]):
        return None
    hub = None
    with suppress(ValueError):
        hub = get_origin(get_hub_url())
    mirror = next((o for o in map(get_origin, list_mirrors()) if o[0] in ("http", "https") and o != hub), None)
    for owner, variable in ((mirror, "MOUSECMR_TOKEN"), (GITHUB_ORIGIN, "GITHUB_TOKEN"), (hub, "HF_TOKEN")):
        if origin == owner and (token := os.environ.get(variable, "").strip()):
            return token
    return None


def parse_size(text: str | None) -> int | None:
    """Return a number of bytes from a header, or None if it is no such number: hosts send anything."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


@dataclass
class Response:
    """An open response of a host, to be closed. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    read: Callable[[int], bytes]
    """Read at most so many bytes, as soon as some have arrived; empty at the end."""
    close: Callable[[], None]


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """Return None: requests would read the address of a redirect even if it need not follow it, and fail."""
        return None


class HttpClient:
    """A connection pool; use one per thread."""

    def __init__(self, retry_policy: RetryPolicy) -> None:
        self._retry_policy = retry_policy
        self._session = _Session()
        self._session.headers.update({"User-Agent": f"mousecmr-data/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, url: str, offset: int = 0, validator: str | None = None, method: str = "GET") -> Response:
        """Request the bytes of ``url`` from ``offset``; with a ``validator``, only if the file is unchanged.

        Raises TransferError for every status other than 200, 206, or 416 to a range request.
        """
        if urlsplit(url).scheme == "file":
            return _open_local_file(url, offset)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        token, first_origin = find_token(url), get_origin(url)
        for _ in range(self._retry_policy.redirects + 1):
            response = self._request(method, url, headers, token)
            if response.status not in REDIRECT_STATUSES:
                return _check_status(response, url, bool(offset))
            response.close()
            location = response.headers.get("location", "")
            try:
                url = urljoin(url, location)
                check_url(url, ("http", "https"))
            except ValueError:
                text = f"redirected to {redact_url(location)!r}, which is not an address for downloads"
                raise PermanentError(text) from None
            if get_origin(url) != first_origin:
                token = None  # it stays dropped, even if a later redirect leads back
        raise PermanentError(f"redirected more than {self._retry_policy.redirects} times (a redirect loop?)")

    def _request(self, method: str, url: str, headers: Mapping[str, str], token: str | None) -> Response:
        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # Here, because a netrc entry would override a plain header.
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        host = urlsplit(url).hostname or ""
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers),
                auth=authorize if token else None,
                timeout=(self._retry_policy.connect_timeout, self._retry_policy.read_timeout),
                allow_redirects=False,
                stream=True,
                # What is sent to this computer, tokens too, must not leave it through a proxy.
                proxies={"no_proxy": host} if is_local(host) else None,
            )
        except (*HTTP_ERRORS, OSError) as e:  # a RequestException, or a missing file of REQUESTS_CA_BUNDLE
            raise _classify_error(e, url, self._retry_policy) from None
        raw: Any = response.raw
        encoded = "content-encoding" in response.headers

        def read(size: int) -> bytes:
            try:
                # Read what has arrived, not a full buffer: bytes not yet on disk are lost if the process is killed.
                return bytes(raw.read1(size, decode_content=encoded))
            except (*HTTP_ERRORS, OSError) as e:
                raise _classify_error(e, url, self._retry_policy) from None

        return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read, response.close)


def _check_status(response: Response, url: str, is_range: bool) -> Response:
    status = response.status
    if status in (200, 206) or (status == 416 and is_range):
        return response
    response.close()
    if status in TRANSIENT_STATUSES:
        reason = f"HTTP {status} from {urlsplit(url).hostname}" + (" (rate limit)" if status == 429 else "")
        raise TransientError(reason, parse_retry_after(response.headers.get("retry-after")))
    if status in (404, 410):
        raise NotFoundError(f"HTTP {status} (no such file) at {redact_url(url)}")
    if status == 407:
        raise _make_proxy_error("407", url)
    if status in (401, 403):
        raise PermanentError(
            f"HTTP {status} (access denied) at {redact_url(url)}: a token may be needed (GITHUB_TOKEN for GitHub, "
            "HF_TOKEN for Hugging Face, MOUSECMR_TOKEN for your mirror), or a firewall refuses the address (export "
            "MOUSECMR_MIRROR=… names another)"
        )
    raise PermanentError(f"HTTP {status} at {redact_url(url)}")


def _open_local_file(url: str, offset: int) -> Response:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        file = path.open("rb", buffering=0)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFoundError(f"no such file: {path}") from None
    except OSError as e:
        raise PermanentError(f"cannot read {path}: {e.strerror}") from None
    except ValueError:  # a null character
        raise NotFoundError(f"no such file: {redact_url(url)}") from None

    def read(n: int) -> bytes:
        try:
            return file.read(n)
        except OSError as e:
            raise TransientError(f"reading {path}: {e.strerror}") from None

    if not 0 < offset < size:
        return Response(200, {"content-length": str(size)}, read, file.close)
    file.seek(offset)
    headers = {"content-range": f"bytes {offset}-{size - 1}/{size}", "content-length": str(size - offset)}
    return Response(206, headers, read, file.close)


def _describe_proxy(url: str) -> str:
    """Return the address of the proxy for ``url``, without password, and the variable that names it."""
    proxies = requests.utils.get_environ_proxies(url)
    address = requests.utils.select_proxy(url, proxies) or ""
    return f"the proxy {redact_url(address)} ({urlsplit(url).scheme.upper()}_PROXY)"


def _make_proxy_error(what: str, url: str) -> PermanentError:
    """Return the error for a proxy that does not pass the request on; ``what`` is its HTTP status, or a problem."""
    proxy, variable, host = _describe_proxy(url), f"{urlsplit(url).scheme.upper()}_PROXY", urlsplit(url).hostname
    reasons = {
        "407": f"{proxy} wants a user and a password: export {variable}=http://USER:PASSWORD@HOST:PORT",
        "SOCKS support": f"{proxy} is a SOCKS proxy, which needs another package: pip install pysocks",
        "InvalidProxyURL": f"{proxy} is not a valid address: export {variable}=http://HOST:PORT",
    }
    refusal = f"{proxy} refuses connections to {host} (HTTP {what}): ask for access to it; without the proxy: export "
    return PermanentError(reasons.get(what, f"{refusal}NO_PROXY={host}"), concerns_host=True)


def _classify_error(error: Exception, url: str, retry_policy: RetryPolicy) -> TransientError | PermanentError:
    """Return the error to raise, with a reason that holds no secrets."""
    host = urlsplit(url).hostname or redact_url(url)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return TransientError(f"{host} did not answer within {retry_policy.connect_timeout:g} s", reached=False)
    if "CERTIFICATE_VERIFY_FAILED" in text or "CertificateError" in text:
        return PermanentError(
            f"the TLS certificate of {host} could not be verified; if your network has a certificate of its own: "
            "export REQUESTS_CA_BUNDLE=/path/to/its-certificates.pem",
            concerns_host=True,
        )
    if isinstance(error, requests.exceptions.SSLError):
        return PermanentError(f"no TLS connection to {host}")
    if "CA certificate bundle" in text:
        return PermanentError(f"{error}; REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names it", concerns_host=True)
    if match := re.search(r"Tunnel connection failed: (\d+)|(SOCKS support|InvalidProxyURL)", text):
        return _make_proxy_error(match[1] or match[2], url)
    if re.search(r"timed? ?out", text, re.IGNORECASE):
        return TransientError(f"{host} sent nothing for {retry_policy.read_timeout:g} s")
    if isinstance(error, requests.exceptions.ProxyError):
        return TransientError(f"{_describe_proxy(url)} could not be reached", reached=False)
    if re.search(r"NameResolution|getaddrinfo|Name or service not known", text):
        return TransientError(f"the name {host} could not be resolved (no network?)", reached=False)
    if "refused" in text or "NewConnectionError" in text or "unreachable" in text:
        return TransientError(f"no connection to {host}", reached=False)
    if isinstance(error, ValueError):
        return PermanentError(f"{redact_url(url)} cannot be requested ({type(error).__name__})")
    if "IncompleteRead" in text or "InvalidChunkLength" in text:
        return TransientError(f"{host} ended the transfer early")
    if isinstance(error, (requests.ConnectionError, urllib3.exceptions.ProtocolError, OSError)):
        return TransientError(f"the connection to {host} was lost")
    if isinstance(error, (urllib3.exceptions.HTTPError, http.client.HTTPException)):
        return TransientError(f"the answer of {host} could not be decoded")
    return PermanentError(f"{redact_url(url)} cannot be requested ({type(error).__name__})")


def raise_if_stopped(stop: threading.Event, seconds: float = 0.0) -> None:
    """Wait ``seconds``; raise Cancelled as soon as ``stop`` is set."""
    if stop.wait(seconds):
        raise Cancelled


def retry(
    attempt: Callable[[], Result],
    url: str,
    retry_policy: RetryPolicy,
    hosts: HostLimiter,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _: None,
    has_progressed: Callable[[], bool] = lambda: False,
) -> Result:
    """Return the result of ``attempt``, which requests ``url``, and retry it after transient errors.

    ``on_wait`` is called before each wait with its reason and length. ``has_progressed`` returns whether the last
    attempt got further than all before it; if so, its failure counts as the first. Raises PermanentError after
    the last attempt.
    """
    host = urlsplit(url).netloc
    failures = 0
    while True:
        while (delay := hosts.get_delay(host)) > 0:
            raise_if_stopped(stop, delay)
        if reason := hosts.get_ban_reason(host):
            raise PermanentError(reason)
        try:
            return attempt()
        except PermanentError as e:
            if e.concerns_host:
                hosts.ban(host, str(e))
            raise
        except TransientError as e:
            failures = 1 if has_progressed() else failures + 1
            if e.wait is not None and e.wait > retry_policy.max_retry_after:
                reason = f"{e}; it asks to wait {e.wait:.0f} s"
                hosts.ban(host, reason)
                raise PermanentError(reason) from e
            if failures >= retry_policy.max_attempts:
                if not e.reached:
                    hosts.ban(host, str(e))
                raise PermanentError(f"{e} ({failures} tries)") from e
            wait = retry_policy.compute_wait(failures)
            if e.wait is not None:
                hosts.delay(host, e.wait)
                wait = max(wait, e.wait)
            on_wait(f"{e}; trying again in {wait:.1f} s")
            raise_if_stopped(stop, wait)
