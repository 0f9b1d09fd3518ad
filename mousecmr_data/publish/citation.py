"""How to cite the article, the data and this software: BibTeX and CITATION.cff, from one source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import mousecmr_data
from mousecmr_data.phantom import COHORTS as PHANTOMS
from mousecmr_data.schema.manifest import Manifest

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SPECIAL = str.maketrans({"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "µ": r"$\mu$", "×": r"$\times$"})
_DEVELOPERS = "{The mousecmr-data developers}"
ORDER = "authors in alphabetical order, as indexed; the order in the article was not seen"


@dataclass(frozen=True)
class Software:
    """This package."""

    name: str
    version: str
    about: str
    licence: str
    authors: str
    url: str
    """Empty: the package names no page of its own."""


def software() -> Software:
    """This package, from its own metadata."""
    about = metadata.metadata("mousecmr-data")
    pages = dict(line.split(", ", 1) for line in about.get_all("Project-URL") or ())
    return Software(
        "mousecmr-data",
        mousecmr_data.__version__,
        about["Summary"],
        about["License-Expression"] or "BSD-3-Clause",
        about["Author"] or "The mousecmr-data developers",
        pages.get("Repository", ""),
    )


def bibtex(manifest: Manifest) -> dict[str, str]:
    """BibTeX entries: "paper" (where there is one), "data", "software"."""
    entries = {"paper": _paper(manifest.paper)} if manifest.paper else {}
    return {**entries, "data": _data(manifest), "software": _software(software())}


def cff(manifest: Manifest) -> str:
    """The text of CITATION.cff: this software, with the article as the preferred citation."""
    package = software()
    lines = [
        "# Written by scripts/make_citation.py from the manifests.",
        "cff-version: 1.2.0",
        'message: "If you use this software, please cite it; if you use the dataset, please cite the article below."',
        f"title: {package.name}",
        f"abstract: {_yaml(package.about)}",
        "type: software",
        f"version: {package.version}",
        f"license: {package.licence}",
        "authors:",
        f"  - name: {_yaml(package.authors)}",
    ]
    paper = manifest.paper
    if paper:
        lines += [
            "preferred-citation:",
            "  type: article",
            f"  title: {_yaml(paper['title'])}",
            f"  journal: {_yaml(paper['journal'])}",
            f"  year: {paper['year']}",
            f"  month: {_month(paper)}",
            f"  number: {_yaml(paper['article'])}",
            f"  doi: {paper['doi']}",
            f"  date-published: {_yaml(paper['published'])}",
            f"  # {ORDER[0].upper()}{ORDER[1:]}.",
            "  authors:",
            *(
                f"    - {{ given-names: {_yaml(a['given'])}, family-names: {_yaml(a['family'])} }}"
                for a in paper["authors"]
            ),
        ]
    return "\n".join(lines) + "\n"


def _paper(paper: Mapping[str, Any]) -> str:
    key = f"{paper['authors'][0]['family'].lower()}{paper['year']}mouse"
    fields = {
        "author": authors(paper),
        "title": _protected(paper["title"]),
        "journal": paper["journal"],
        "year": str(paper["year"]),
        "month": _MONTHS[_month(paper) - 1],
        "pages": paper["article"],
        "doi": paper["doi"],
        "note": f"PubMed {paper['pubmed']}; {ORDER}",
    }
    return _entry("article", key, fields, bare=("month",))


def _data(manifest: Manifest) -> str:
    released = manifest.released
    fields = {
        "author": authors(manifest.paper) if manifest.paper else _DEVELOPERS * (manifest.name in PHANTOMS),
        "title": _protected(("SYNTHETIC: " if manifest.synthetic else "") + manifest.title),
        "year": released[:4] or "",
        "howpublished": rf"\url{{{manifest.homepage}}}" if manifest.homepage else "",
        "version": manifest.version,
        "note": "; ".join(
            part
            for part in (
                "computed by a phantom, not measured on animals" if manifest.synthetic else "",
                f"released {released}" if released else "",
                f"licence {manifest.licence}",
                "no DOI",
                ORDER if manifest.paper else "",
            )
            if part
        ),
    }
    return _entry("misc", re.sub(r"[^a-z0-9]", "", manifest.name.lower()) + "data", fields)


def _software(package: Software) -> str:
    fields = {
        "author": "{" + package.authors + "}",
        "title": _protected(f"{package.name}: {package.about}"),
        "version": package.version,
        "howpublished": rf"\url{{{package.url}}}" if package.url else "",
        "note": f"Python package, licence {package.licence}",
    }
    return _entry("misc", "mousecmrdatasoftware", fields)


def authors(paper: Mapping[str, Any]) -> str:
    """The authors as BibTeX wants them."""
    return " and ".join(f"{a['family']}, {a['given']}" for a in paper["authors"])


def _entry(kind: str, key: str, fields: Mapping[str, str], bare: Sequence[str] = ()) -> str:
    width = max(map(len, fields))
    lines = []
    for name, value in fields.items():
        if value:
            text = value if name in ("howpublished", "doi") else value.translate(_SPECIAL)
            lines.append(f"  {name:{width}} = {text if name in bare else '{' + text + '}'},")
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def _protected(title: str) -> str:
    """Words with capitals inside keep them."""
    return re.sub(r"\b(?=\w*[A-Z]\w*[A-Z])\w+\b", lambda m: "{" + m[0] + "}", title)


def _month(paper: Mapping[str, Any]) -> int:
    return int(str(paper["published"]).split("-")[1])


def _yaml(text: str) -> str:
    """A quoted YAML scalar: JSON's strings are YAML's."""
    return json.dumps(str(text), ensure_ascii=False)
