"""Where a file can come from, in the order of asking: the user's mirrors, then the pinned upstream URL.

``MOUSECMR_MIRROR`` lists mirrors, separated by spaces, commas or semicolons. Each is a base URL
(``https://``, ``http://``), a folder (``file://`` or a plain path) or a Hugging Face dataset
repository (``hf://datasets/ORG/NAME``, ``…@REVISION``). Every byte is checked, so any host is safe.
``MOUSECMR_UPSTREAM=0`` asks the mirrors alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from mousecmr_data.errors import DownloadError
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

MIRROR_VARIABLE = "MOUSECMR_MIRROR"
UPSTREAM_VARIABLE = "MOUSECMR_UPSTREAM"
OFFLINE_VARIABLE = "MOUSECMR_OFFLINE"


@dataclass(frozen=True)
class Source:
    """One place that may have a file."""

    urls: tuple[str, ...]
    """To be asked in turn while the answer is "no such file"."""

    @property
    def network(self) -> bool:
        """Whether asking it makes network traffic."""
        return urlsplit(self.urls[0]).scheme != "file"


def list_sources(manifest: Manifest, item: FileEntry | Weights, offline: bool = False) -> tuple[Source, ...]:
    """The sources of a file, best first. Offline, only folders remain."""
    relative = PurePosixPath(item.path)
    found = [
        Source(tuple(dict.fromkeys(f"{base}/{quote(path)}" for path in (str(relative), relative.name))))
        for base in list_mirrors()
    ]
    if manifest.file_url(item) and read_flag(UPSTREAM_VARIABLE, default=True):
        found.append(Source((manifest.file_url(item),)))
    return tuple(s for s in found if not (offline and s.network))


def list_mirrors() -> tuple[str, ...]:
    """The base URLs that ``MOUSECMR_MIRROR`` names, without a slash at the end."""
    return tuple(_parse_mirror(word) for word in re.split(r"[\s,;]+", os.environ.get(MIRROR_VARIABLE, "")) if word)


def is_offline(asked: bool | None = None) -> bool:
    """Whether network traffic is forbidden: ``asked``, else ``MOUSECMR_OFFLINE``."""
    return read_flag(OFFLINE_VARIABLE, default=False) if asked is None else asked


def read_flag(variable: str, default: bool) -> bool:
    """An environment variable as yes or no; empty counts as not set."""
    text = os.environ.get(variable, "").strip().lower()
    return default if not text else text not in ("0", "false", "no", "off")


def redact_url(url: str) -> str:
    """A URL fit to be printed: without user, password and query string, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?…' if parts.query else ''}"


def _parse_mirror(word: str) -> str:
    scheme = urlsplit(word).scheme.lower()
    if scheme in ("http", "https", "file"):
        return word.rstrip("/")
    if scheme == "hf":
        if match := re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?/?", word):
            repository, revision = match.groups()
            return f"{get_hub_url()}/datasets/{repository}/resolve/{revision or 'main'}"
        raise _make_mirror_error(word)
    if len(scheme) > 1:
        raise _make_mirror_error(word)
    return Path(word).expanduser().absolute().as_uri().rstrip("/")  # a path, or a drive letter


def get_hub_url() -> str:
    """The Hugging Face hub's address."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _make_mirror_error(word: str) -> DownloadError:
    return DownloadError(
        f"{MIRROR_VARIABLE} names {redact_url(word)!r}, which is no mirror.",
        "https://… or http://… (a base URL), file:///… or a folder, hf://datasets/ORG/NAME",
        f"export {MIRROR_VARIABLE}=https://mirror.example.org/mousecmr",
    )
