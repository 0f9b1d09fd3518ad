"""List the sources of a file in the order of use: the user's mirrors, then the pinned upstream URL.

``MOUSECMR_MIRROR`` lists mirrors, separated by spaces, commas or semicolons. Each is a base URL (``https://``,
``http://``), a folder (``file://`` or a plain path) or a Hugging Face dataset repository
(``hf://datasets/ORG/NAME``, ``…@REVISION``). Every byte is verified, so any host is safe.
``MOUSECMR_UPSTREAM=0`` restricts downloads to the mirrors.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from mousecmr_data._utils.environment import read_flag
from mousecmr_data.errors import ManifestError
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

MIRROR_VARIABLE = "MOUSECMR_MIRROR"
MAX_URL_LENGTH = 200
"""Characters of a URL that are shown in messages."""


@dataclass(frozen=True)
class Source:
    """A mirror or upstream host that may have a file."""

    urls: tuple[str, ...]
    """Tried in order while the answer is "no such file"."""
    problem: str = ""
    """Why it cannot be used, if its address is not valid; it has no URLs then."""

    @property
    def network(self) -> bool:
        """Return whether using this source makes network traffic."""
        return bool(self.urls) and urlsplit(self.urls[0]).scheme != "file"


def list_sources(manifest: Manifest, item: FileEntry | Weights, offline: bool = False) -> tuple[Source, ...]:
    """Return the sources of a file in the order of use; with ``offline``, none that needs a network."""
    relative = PurePosixPath(item.path)
    sources = []
    for word in _list_mirror_words():
        try:
            base = _parse_mirror(word)
        except ValueError as e:
            sources.append(Source((), f"{MIRROR_VARIABLE} names {redact_url(word)!r}, which is not a mirror ({e})"))
            continue
        urls = dict.fromkeys(f"{base}/{quote(path)}" for path in (str(relative), relative.name))
        sources.append(Source(tuple(urls)))
    if read_flag("MOUSECMR_UPSTREAM", default=True):
        try:
            if url := manifest.file_url(item):
                check_url(url)
                sources.append(Source((url,)))
        except ManifestError as e:
            sources.append(Source((), e.found))
        except ValueError as e:
            sources.append(Source((), f"the manifest names the URL {redact_url(url)!r}, which is not valid ({e})"))
    return tuple(s for s in sources if not (offline and s.network))


def list_mirrors() -> tuple[str, ...]:
    """Return the valid base URLs in ``MOUSECMR_MIRROR``, without a slash at the end."""
    bases = []
    for word in _list_mirror_words():
        with suppress(ValueError):
            bases.append(_parse_mirror(word))
    return tuple(bases)


def check_url(url: str, schemes: tuple[str, ...] = ("http", "https", "file")) -> None:
    """Raise ValueError, with the reason, if ``url`` is not a valid URL of one of ``schemes``."""
    parts = urlsplit(url)
    _ = parts.port  # ValueError if it is not a number up to 65535
    if parts.scheme not in schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{s}://' for s in schemes)}")
    if not url.isprintable() or " " in url:
        raise ValueError("it holds spaces or control characters")
    if parts.scheme != "file" and not parts.hostname:
        raise ValueError("it names no host")


def redact_url(url: str) -> str:
    """Return a URL, valid or not, for messages: without user, password and query string, which may hold secrets."""
    base, _, query = url.partition("#")[0].partition("?")
    base = re.sub(r"^([^/]*//)[^/]*@", r"\1", base) + ("?…" if query else "")
    shown = "".join(c if c.isprintable() else "�" for c in base[:MAX_URL_LENGTH])
    return shown + ("…" if len(base) > MAX_URL_LENGTH else "")


def _list_mirror_words() -> list[str]:
    return [word for word in re.split(r"[\s,;]+", os.environ.get(MIRROR_VARIABLE, "")) if word]


def _parse_mirror(word: str) -> str:
    """Return the base URL of a mirror; ValueError says what is wrong with ``word``."""
    scheme = urlsplit(word).scheme.lower()
    if len(scheme) <= 1:  # a path, with a drive letter or without
        return Path(word).expanduser().absolute().as_uri().rstrip("/")
    base = word.rstrip("/")
    if scheme == "hf":
        match = re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?", base)
        if match is None:
            raise ValueError("expected hf://datasets/ORG/NAME or hf://datasets/ORG/NAME@REVISION")
        repository, revision = match.groups()
        base = f"{get_hub_url()}/datasets/{repository}/resolve/{revision or 'main'}"
    elif scheme not in ("http", "https", "file"):
        raise ValueError("expected https://… or http://…, file:///… or a folder, or hf://datasets/ORG/NAME")
    check_url(base)
    return base


def get_hub_url() -> str:
    """Return the base URL of the Hugging Face hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
