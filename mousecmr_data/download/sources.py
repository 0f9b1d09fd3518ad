"""List the sources of a file in the order of use: the user's mirrors, then the pinned upstream URL.

``MOUSECMR_MIRROR`` lists mirrors, separated by spaces, commas or semicolons. Each is a base URL (``https://``,
``http://``), a folder (``file://`` or a plain path) or a Hugging Face dataset repository
(``hf://datasets/ORG/NAME``, ``…@REVISION``). Every byte is verified, so any host is safe.
``MOUSECMR_UPSTREAM=0`` restricts downloads to the mirrors.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from mousecmr_data.errors import DownloadError, MissingDataError, MouseCMRError
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

MIRROR_VARIABLE = "MOUSECMR_MIRROR"


@dataclass(frozen=True)
class Source:
    """A mirror or upstream host that may have a file."""

    urls: tuple[str, ...]
    """Tried in order while the answer is "no such file"."""

    @property
    def network(self) -> bool:
        """Return whether using this source makes network traffic."""
        return urlsplit(self.urls[0]).scheme != "file"


def list_sources(manifest: Manifest, item: FileEntry | Weights, offline: bool = False) -> tuple[Source, ...]:
    """Return the sources of a file in the order of use; with ``offline``, folders only."""
    relative = PurePosixPath(item.path)
    sources = [
        Source(tuple(dict.fromkeys(f"{base}/{quote(path)}" for path in (str(relative), relative.name))))
        for base in list_mirrors()
    ]
    if manifest.file_url(item) and read_flag("MOUSECMR_UPSTREAM", default=True):
        sources.append(Source((manifest.file_url(item),)))
    return tuple(s for s in sources if not (offline and s.network))


def list_mirrors() -> tuple[str, ...]:
    """Return the base URLs in ``MOUSECMR_MIRROR``, without a slash at the end."""
    return tuple(_parse_mirror(word) for word in re.split(r"[\s,;]+", os.environ.get(MIRROR_VARIABLE, "")) if word)


def is_offline(offline: bool | None = None) -> bool:
    """Return whether network traffic is forbidden: ``offline``, or ``MOUSECMR_OFFLINE`` if it is None."""
    return read_flag("MOUSECMR_OFFLINE", default=False) if offline is None else offline


def check_online(what: str, error: type[MouseCMRError] = MissingDataError) -> None:
    """Raise ``error`` if ``MOUSECMR_OFFLINE`` forbids the network traffic that ``what`` needs."""
    if is_offline():
        raise error(f"{what} needs a network, which MOUSECMR_OFFLINE forbids.", None, "unset MOUSECMR_OFFLINE")


def read_flag(variable: str, default: bool) -> bool:
    """Return an environment variable as True or False; empty counts as not set."""
    text = os.environ.get(variable, "").strip().lower()
    return default if not text else text not in ("0", "false", "no", "off")


def redact_url(url: str) -> str:
    """Return a URL without user, password and query string, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?…' if parts.query else ''}"


def _parse_mirror(word: str) -> str:
    scheme = urlsplit(word).scheme.lower()
    if scheme in ("http", "https", "file"):
        return word.rstrip("/")
    if len(scheme) <= 1:  # a path, with a drive letter or without
        return Path(word).expanduser().absolute().as_uri().rstrip("/")
    match = re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?/?", word)
    if match is None:
        raise DownloadError(
            f"{MIRROR_VARIABLE} names {redact_url(word)!r}, which is not a mirror.",
            "https://… or http://… (a base URL), file:///… or a folder, hf://datasets/ORG/NAME",
            f"export {MIRROR_VARIABLE}=https://mirror.example.org/mousecmr",
        )
    repository, revision = match.groups()
    return f"{get_hub_url()}/datasets/{repository}/resolve/{revision or 'main'}"


def get_hub_url() -> str:
    """Return the base URL of the Hugging Face hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
