"""The licence an edition comes under: that of its manifest, and no other."""

from __future__ import annotations

from pathlib import Path

from mousecmr_data.publish.edition import Edition

_TEXTS = Path(__file__).parent / "licences"
_HUB = {
    "GPL-3.0": "gpl-3.0",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
}
"""Names of licences on the hub, by their SPDX name."""


def text(edition: Edition) -> str:
    """The text of LICENSE: the licence itself where we have its text, else what it is called."""
    name = edition.manifest.licence
    path = _TEXTS / f"{name}.txt"
    head = f"{edition.title}\nLicence of the data: {name}\n"
    if path.is_file():
        return f"{head}\n{path.read_text(encoding='utf-8')}"
    return f"{head}Its text is not part of this folder: see {url(name) or edition.manifest.homepage or 'its owner'}.\n"


def hub(name: str) -> dict[str, str]:
    """The licence as the hub's metadata want it."""
    if name in _HUB:
        return {"license": _HUB[name]}
    return {"license": "other", "license_name": "".join(c if c.isalnum() else "-" for c in name.lower())}


def url(name: str) -> str:
    """The page of a licence with an SPDX name; empty for others."""
    return f"https://spdx.org/licenses/{name}.html" if name in _HUB else ""
