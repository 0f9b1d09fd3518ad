"""Which secret belongs to which host. A token goes to its own host and nowhere else.

| variable | host |
|---|---|
| ``MOUSECMR_TOKEN`` | the first http(s) mirror of ``MOUSECMR_MIRROR`` |
| ``GITHUB_TOKEN`` | raw.githubusercontent.com |
| ``HF_TOKEN`` | the Hugging Face hub (``HF_ENDPOINT``) |

A token travels over TLS only (or to this very machine), and is dropped at a redirect that leaves
the host, the port or TLS.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from mousecmr_data.files import sources

GITHUB = ("https", "raw.githubusercontent.com", 443)

Origin = tuple[str, str, int]
"""Scheme, host and port of a URL."""


def origin(url: str) -> Origin:
    """The origin of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def of(url: str) -> str | None:
    """The token to send with a request for ``url``, or None."""
    asked = origin(url)
    if asked[0] != "https" and not _this_machine(asked[1]):
        return None
    hub = origin(sources.hub())
    mirror = next((o for o in map(origin, sources.mirrors()) if o[0] in ("http", "https") and o != hub), None)
    for owner, variable in ((mirror, "MOUSECMR_TOKEN"), (GITHUB, "GITHUB_TOKEN"), (hub, "HF_TOKEN")):
        if asked == owner and (token := os.environ.get(variable, "").strip()):
            return token
    return None


def _this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
