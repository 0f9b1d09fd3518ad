"""Asking a URL for bytes: the one file that opens a network connection (or a mirror folder).

Redirects are followed here, step by step, so that a token never leaves its host. Reasons are
worded here too: the messages of the HTTP library may hold signed URLs or tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from mousecmr_data._version import __version__
from mousecmr_data.download.errors import NotFoundError, PermanentError, TransientError
from mousecmr_data.download.retry import RetryPolicy, parse_retry_after
from mousecmr_data.download.sources import get_hub_url, list_mirrors, redact_url

# MERGED download.http: Which secret belongs to which host. A token goes to its own host and nowhere else.
#
# | variable | host |
# |---|---|
# | ``MOUSECMR_TOKEN`` | the first http(s) mirror of ``MOUSECMR_MIRROR`` |
# | ``GITHUB_TOKEN`` | raw.githubusercontent.com |
# | ``HF_TOKEN`` | the Hugging Face hub (``HF_ENDPOINT``) |
#
# A token travels over TLS only (or to this very machine), and is dropped at a redirect that leaves
# the host, the port or TLS.


GITHUB_ORIGIN = ("https", "raw.githubusercontent.com", 443)

UrlOrigin = tuple[str, str, int]
"""Scheme, host and port of a URL."""


def get_origin(url: str) -> UrlOrigin:
    """The origin of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def find_token(url: str) -> str | None:
    """The token to send with a request for ``url``, or None."""
    asked = get_origin(url)
    if asked[0] != "https" and not _is_loopback(asked[1]):
        return None
    hub = get_origin(get_hub_url())
    mirror = next((o for o in map(get_origin, list_mirrors()) if o[0] in ("http", "https") and o != hub), None)
    for owner, variable in ((mirror, "MOUSECMR_TOKEN"), (GITHUB_ORIGIN, "GITHUB_TOKEN"), (hub, "HF_TOKEN")):
        if asked == owner and (token := os.environ.get(variable, "").strip()):
            return token
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


USER_AGENT = f"mousecmr-data/{__version__}"
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


@dataclass
class Response:
    """A host's answer, open for reading. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    read: Callable[[int], bytes]
    """At most so many bytes, as soon as some are there; empty at the end."""
    close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _BearerAuth(requests.auth.AuthBase):
    """Sets the header late: given as a plain header, it would be overridden by a netrc entry."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


class HttpClient:
    """A connection pool. One per thread."""

    def __init__(self, retry_policy: RetryPolicy) -> None:
        self._retry_policy = retry_policy
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, url: str, offset: int = 0, validator: str | None = None, method: str = "GET") -> Response:
        """Ask for the bytes of ``url`` from ``offset``; with a ``validator`` only if they are still the same.

        Raises a Fault for every answer that is not 200, 206 or 416 with a range asked for.
        """
        if urlsplit(url).scheme == "file":
            return _open_local_file(url, offset)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        secret, home = find_token(url), get_origin(url)
        for _ in range(self._retry_policy.redirects + 1):
            answer = self._request(method, url, headers, secret)
            if answer.status not in REDIRECT_STATUSES:
                return self._check_status(answer, url, bool(offset))
            answer.close()
            url = urljoin(url, answer.headers.get("location", ""))
            if urlsplit(url).scheme not in ("http", "https"):
                raise PermanentError(f"redirected to {redact_url(url)}, which is not an address to download from")
            if get_origin(url) != home:
                secret = None  # and it does not come back, should the way lead home again
        raise PermanentError(f"redirected more than {self._retry_policy.redirects} times (a redirect loop?)")

    def _request(self, method: str, url: str, headers: Mapping[str, str], secret: str | None) -> Response:
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers),
                auth=_BearerAuth(secret) if secret else None,
                timeout=(self._retry_policy.connect_timeout, self._retry_policy.read_timeout),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as e:
            raise _classify_error(e, url, self._retry_policy) from None
        raw: Any = response.raw
        encoded = "content-encoding" in response.headers

        def read(size: int) -> bytes:
            try:
                # What has arrived, not a full buffer: what is not on disk is lost when the process dies.
                return bytes(raw.read1(size, decode_content=encoded))
            except (urllib3.exceptions.HTTPError, OSError) as e:
                raise _classify_error(e, url, self._retry_policy) from None

        return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read, response.close)

    def _check_status(self, answer: Response, url: str, ranged: bool) -> Response:
        status = answer.status
        if status in (200, 206) or (status == 416 and ranged):
            return answer
        answer.close()
        host = urlsplit(url).hostname
        if status in TRANSIENT_STATUSES:
            wait = parse_retry_after(answer.headers.get("retry-after"))
            raise TransientError(f"HTTP {status} from {host}" + (" (rate limit)" if status == 429 else ""), wait)
        if status in (404, 410):
            raise NotFoundError(f"HTTP {status} (no such file) at {redact_url(url)}")
        if status in (401, 403, 407):
            raise PermanentError(f"HTTP {status} (access denied) at {redact_url(url)}; a token may be needed")
        raise PermanentError(f"HTTP {status} at {redact_url(url)}")


def _open_local_file(url: str, offset: int) -> Response:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        f = path.open("rb", buffering=0)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFoundError(f"no such file: {path}") from None
    except OSError as e:
        raise PermanentError(f"cannot read {path}: {e.strerror}") from None

    def read(n: int) -> bytes:
        try:
            return f.read(n)
        except OSError as e:
            raise TransientError(f"reading {path}: {e.strerror}") from None

    if not 0 < offset < size:
        return Response(200, {"content-length": str(size)}, read, f.close)
    f.seek(offset)
    span = {"content-range": f"bytes {offset}-{size - 1}/{size}", "content-length": str(size - offset)}
    return Response(206, span, read, f.close)


def _classify_error(error: Exception, url: str, retry_policy: RetryPolicy) -> TransientError | PermanentError:
    """A reason in our own words."""
    host = urlsplit(url).hostname or redact_url(url)
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return TransientError(f"{host} did not answer within {retry_policy.connect_timeout:g} s", reached=False)
    if isinstance(error, requests.exceptions.SSLError) or "CertificateError" in words:
        return PermanentError(f"the TLS certificate of {host} could not be verified")
    if re.search(r"timed? ?out", words, re.IGNORECASE):
        return TransientError(f"{host} fell silent for {retry_policy.read_timeout:g} s")
    if isinstance(error, requests.exceptions.ProxyError):
        return TransientError("the proxy could not be reached", reached=False)
    if re.search(r"NameResolution|getaddrinfo|Name or service not known", words):
        return TransientError(f"the name {host} could not be resolved (no network?)", reached=False)
    if "refused" in words or "NewConnectionError" in words or "unreachable" in words:
        return TransientError(f"no connection to {host}", reached=False)
    if "IncompleteRead" in words or "InvalidChunkLength" in words:
        return TransientError(f"{host} ended the transfer early")
    if isinstance(error, (requests.ConnectionError, urllib3.exceptions.ProtocolError, OSError)) and not isinstance(
        error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)
    ):
        return TransientError(f"the connection to {host} broke")
    if isinstance(error, urllib3.exceptions.HTTPError):
        return TransientError(f"the answer of {host} could not be decoded")
    return PermanentError(f"{redact_url(url)} cannot be asked ({type(error).__name__})")
