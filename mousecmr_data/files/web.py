"""Asking a URL for bytes: the one file that opens a network connection (or a mirror folder).

Redirects are followed here, step by step, so that a token never leaves its host. Reasons are
worded here too: the messages of the HTTP library may hold signed URLs or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from mousecmr_data import __version__
from mousecmr_data.files import token
from mousecmr_data.files.fault import Absent, Lasting, Passing
from mousecmr_data.files.patience import Patience, retry_after
from mousecmr_data.files.sources import shown

USER_AGENT = f"mousecmr-data/{__version__}"
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass
class Answer:
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


class _Bearer(requests.auth.AuthBase):
    """Sets the header late: given as a plain header, it would be overridden by a netrc entry."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


class Web:
    """A connection pool. One per thread."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(self, url: str, offset: int = 0, validator: str | None = None, method: str = "GET") -> Answer:
        """Ask for the bytes of ``url`` from ``offset``; with a ``validator`` only if they are still the same.

        Raises a Fault for every answer that is not 200, 206 or 416 with a range asked for.
        """
        if urlsplit(url).scheme == "file":
            return _folder_answer(url, offset)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        secret, home = token.of(url), token.origin(url)
        for _ in range(self._patience.redirects + 1):
            answer = self._request(method, url, headers, secret)
            if answer.status not in MOVED:
                return self._sorted(answer, url, bool(offset))
            answer.close()
            url = urljoin(url, answer.headers.get("location", ""))
            if urlsplit(url).scheme not in ("http", "https"):
                raise Lasting(f"redirected to {shown(url)}, which is not an address to download from")
            if token.origin(url) != home:
                secret = None  # and it does not come back, should the way lead home again
        raise Lasting(f"redirected more than {self._patience.redirects} times (a redirect loop?)")

    def _request(self, method: str, url: str, headers: Mapping[str, str], secret: str | None) -> Answer:
        try:
            response = self._session.request(
                method,
                url,
                headers=dict(headers),
                auth=_Bearer(secret) if secret else None,
                timeout=(self._patience.connect, self._patience.stall),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as e:
            raise _fault(e, url, self._patience) from None
        raw: Any = response.raw
        encoded = "content-encoding" in response.headers

        def read(size: int) -> bytes:
            try:
                # What has arrived, not a full buffer: what is not on disk is lost when the process dies.
                return bytes(raw.read1(size, decode_content=encoded))
            except (urllib3.exceptions.HTTPError, OSError) as e:
                raise _fault(e, url, self._patience) from None

        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read, response.close)

    def _sorted(self, answer: Answer, url: str, ranged: bool) -> Answer:
        status = answer.status
        if status in (200, 206) or (status == 416 and ranged):
            return answer
        answer.close()
        host = urlsplit(url).hostname
        if status in BUSY:
            wait = retry_after(answer.headers.get("retry-after"))
            raise Passing(f"HTTP {status} from {host}" + (" (rate limit)" if status == 429 else ""), wait)
        if status in (404, 410):
            raise Absent(f"HTTP {status} (no such file) at {shown(url)}")
        if status in (401, 403, 407):
            raise Lasting(f"HTTP {status} (access denied) at {shown(url)}; a token may be needed")
        raise Lasting(f"HTTP {status} at {shown(url)}")


def _folder_answer(url: str, offset: int) -> Answer:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        f = path.open("rb", buffering=0)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Absent(f"no such file: {path}") from None
    except OSError as e:
        raise Lasting(f"cannot read {path}: {e.strerror}") from None

    def read(n: int) -> bytes:
        try:
            return f.read(n)
        except OSError as e:
            raise Passing(f"reading {path}: {e.strerror}") from None

    if not 0 < offset < size:
        return Answer(200, {"content-length": str(size)}, read, f.close)
    f.seek(offset)
    span = {"content-range": f"bytes {offset}-{size - 1}/{size}", "content-length": str(size - offset)}
    return Answer(206, span, read, f.close)


def _fault(error: Exception, url: str, patience: Patience) -> Passing | Lasting:
    """A reason in our own words."""
    host = urlsplit(url).hostname or shown(url)
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Passing(f"{host} did not answer within {patience.connect:g} s", reached=False)
    if isinstance(error, requests.exceptions.SSLError) or "CertificateError" in words:
        return Lasting(f"the TLS certificate of {host} could not be verified")
    if re.search(r"timed? ?out", words, re.IGNORECASE):
        return Passing(f"{host} fell silent for {patience.stall:g} s")
    if isinstance(error, requests.exceptions.ProxyError):
        return Passing("the proxy could not be reached", reached=False)
    if re.search(r"NameResolution|getaddrinfo|Name or service not known", words):
        return Passing(f"the name {host} could not be resolved (no network?)", reached=False)
    if "refused" in words or "NewConnectionError" in words or "unreachable" in words:
        return Passing(f"no connection to {host}", reached=False)
    if "IncompleteRead" in words or "InvalidChunkLength" in words:
        return Passing(f"{host} ended the transfer early")
    if isinstance(error, (requests.ConnectionError, urllib3.exceptions.ProtocolError, OSError)) and not isinstance(
        error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)
    ):
        return Passing(f"the connection to {host} broke")
    if isinstance(error, urllib3.exceptions.HTTPError):
        return Passing(f"the answer of {host} could not be decoded")
    return Lasting(f"{shown(url)} cannot be asked ({type(error).__name__})")
