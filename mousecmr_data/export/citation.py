"""How to cite the article, the data and this software: BibTeX and CITATION.cff, from one source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from mousecmr_data._version import __version__
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


def get_software() -> Software:
    """This package, from its own metadata."""
    about = metadata.metadata("mousecmr-data")
    pages = dict(line.split(", ", 1) for line in about.get_all("Project-URL") or ())
    return Software(
        "mousecmr-data",
        __version__,
        about["Summary"],
        about["License-Expression"] or "BSD-3-Clause",
        about["Author"] or "The mousecmr-data developers",
        pages.get("Repository", ""),
    )


def make_bibtex(manifest: Manifest) -> dict[str, str]:
    """BibTeX entries: "paper" (where there is one), "data", "software"."""
    entries = {"paper": _make_paper_entry(manifest.paper)} if manifest.paper else {}
    return {**entries, "data": _make_data_entry(manifest), "software": _make_software_entry(get_software())}


def make_cff(manifest: Manifest) -> str:
    """The text of CITATION.cff: this software, with the article as the preferred citation."""
    package = get_software()
    lines = [
        "# Written by scripts/make_citation.py from the manifests.",
        "cff-version: 1.2.0",
        'message: "If you use this software, please cite it; if you use the dataset, please cite the article below."',
        f"title: {package.name}",
        f"abstract: {_quote_yaml(package.about)}",
        "type: software",
        f"version: {package.version}",
        f"license: {package.licence}",
        "authors:",
        f"  - name: {_quote_yaml(package.authors)}",
    ]
    paper = manifest.paper
    if paper:
        lines += [
            "preferred-citation:",
            "  type: article",
            f"  title: {_quote_yaml(paper['title'])}",
            f"  journal: {_quote_yaml(paper['journal'])}",
            f"  year: {paper['year']}",
            f"  month: {_get_month(paper)}",
            f"  number: {_quote_yaml(paper['article'])}",
            f"  doi: {paper['doi']}",
            f"  date-published: {_quote_yaml(paper['published'])}",
            f"  # {ORDER[0].upper()}{ORDER[1:]}.",
            "  authors:",
            *(
                f"    - {{ given-names: {_quote_yaml(a['given'])}, family-names: {_quote_yaml(a['family'])} }}"
                for a in paper["authors"]
            ),
        ]
    return "\n".join(lines) + "\n"


def _make_paper_entry(paper: Mapping[str, Any]) -> str:
    key = f"{paper['authors'][0]['family'].lower()}{paper['year']}mouse"
    fields = {
        "author": format_authors(paper),
        "title": _protect_case(paper["title"]),
        "journal": paper["journal"],
        "year": str(paper["year"]),
        "month": _MONTHS[_get_month(paper) - 1],
        "pages": paper["article"],
        "doi": paper["doi"],
        "note": f"PubMed {paper['pubmed']}; {ORDER}",
    }
    return _format_entry("article", key, fields, bare=("month",))


def _make_data_entry(manifest: Manifest) -> str:
    released = manifest.released
    fields = {
        "author": format_authors(manifest.paper) if manifest.paper else _DEVELOPERS * (manifest.name in PHANTOMS),
        "title": _protect_case(("SYNTHETIC: " if manifest.synthetic else "") + manifest.title),
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
    return _format_entry("misc", re.sub(r"[^a-z0-9]", "", manifest.name.lower()) + "data", fields)


def _make_software_entry(package: Software) -> str:
    fields = {
        "author": "{" + package.authors + "}",
        "title": _protect_case(f"{package.name}: {package.about}"),
        "version": package.version,
        "howpublished": rf"\url{{{package.url}}}" if package.url else "",
        "note": f"Python package, licence {package.licence}",
    }
    return _format_entry("misc", "mousecmrdatasoftware", fields)


def format_authors(paper: Mapping[str, Any]) -> str:
    """The authors as BibTeX wants them."""
    return " and ".join(f"{a['family']}, {a['given']}" for a in paper["authors"])


def _format_entry(kind: str, key: str, fields: Mapping[str, str], bare: Sequence[str] = ()) -> str:
    width = max(map(len, fields))
    lines = []
    for name, value in fields.items():
        if value:
            text = value if name in ("howpublished", "doi") else value.translate(_SPECIAL)
            lines.append(f"  {name:{width}} = {text if name in bare else '{' + text + '}'},")
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def _protect_case(title: str) -> str:
    """Words with capitals inside keep them."""
    return re.sub(r"\b(?=\w*[A-Z]\w*[A-Z])\w+\b", lambda m: "{" + m[0] + "}", title)


def _get_month(paper: Mapping[str, Any]) -> int:
    return int(str(paper["published"]).split("-")[1])


def _quote_yaml(text: str) -> str:
    """A quoted YAML scalar: JSON's strings are YAML's."""
    return json.dumps(str(text), ensure_ascii=False)
