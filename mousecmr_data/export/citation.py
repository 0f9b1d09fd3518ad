"""Make citations of the article, the data and this software (BibTeX, CITATION.cff, .zenodo.json), from one source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from mousecmr_data import api
from mousecmr_data._version import __version__
from mousecmr_data.errors import ArgumentError
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOMS
from mousecmr_data.schema.manifest import Manifest

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SPECIAL = str.maketrans({"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "µ": r"$\mu$", "×": r"$\times$"})
ORDER = "authors in alphabetical order, as indexed; the order in the article was not seen"


def get_software() -> dict[str, str]:
    """Read the description of this package from its own metadata; ``url`` is empty where it names no page."""
    about = metadata.metadata("mousecmr-data")
    pages = dict(line.split(", ", 1) for line in about.get_all("Project-URL") or ())
    return {
        "name": "mousecmr-data",
        "version": __version__,
        "about": about["Summary"],
        "licence": about["License-Expression"] or "BSD-3-Clause",
        "authors": about["Author"] or "The mousecmr-data developers",
        "url": pages.get("Repository", ""),
        "keywords": about["Keywords"] or "",
    }


def cite(*what: str, source: api.PathLike = DEFAULT_DATASET) -> str:
    """Return BibTeX of "paper", "data" and "software" (without ``what``: of all that there are) as one text.

    ``source`` is that of :func:`mousecmr_data.load`. Raises ArgumentError for another word, or if ``source`` has no
    such entry, as a phantom has no paper.
    """
    manifest = api.resolve_manifest(source)
    entries = make_bibtex(manifest)
    for name in what:
        if name not in entries:
            raise ArgumentError.from_name(f"entry to cite of {manifest.name}", name, entries, "cite()")
    return "\n".join(entries[name] for name in what or entries)


def make_bibtex(manifest: Manifest) -> dict[str, str]:
    """Return the BibTeX entries "paper" (where there is one), "data" and "software"."""
    entries = {"paper": _make_paper_entry(manifest.paper)} if manifest.paper else {}
    developers = "{The mousecmr-data developers}" if manifest.name in PHANTOMS else ""
    notes = [
        "computed by a phantom, not measured on animals" if manifest.synthetic else "",
        f"released {manifest.released}" if manifest.released else "",
        f"licence {manifest.licence}",
        "no DOI",
        ORDER if manifest.paper else "",
    ]
    data = {
        "author": format_authors(manifest.paper) if manifest.paper else developers,
        "title": _protect_case(("SYNTHETIC: " if manifest.synthetic else "") + manifest.title),
        "year": manifest.released[:4],
        "howpublished": rf"\url{{{manifest.homepage}}}" if manifest.homepage else "",
        "version": manifest.version,
        "note": "; ".join(filter(None, notes)),
    }
    package = get_software()
    software = {
        "author": "{" + package["authors"] + "}",
        "title": _protect_case(f"{package['name']}: {package['about']}"),
        "version": package["version"],
        "howpublished": rf"\url{{{package['url']}}}" if package["url"] else "",
        "note": f"Python package, licence {package['licence']}",
    }
    entries["data"] = _format_entry("misc", re.sub(r"[^a-z0-9]", "", manifest.name.lower()) + "data", data)
    entries["software"] = _format_entry("misc", "mousecmrdatasoftware", software)
    return entries


def make_cff(manifest: Manifest) -> str:
    """Return the text of CITATION.cff: this software, with the article as the preferred citation."""
    package = get_software()
    text = f"""\
# Written by scripts/make_citation.py from the manifests.
cff-version: 1.2.0
message: "If you use this software, please cite it; if you use the dataset, please cite the article below."
title: {package["name"]}
abstract: {_quote_yaml(package["about"])}
type: software
version: {package["version"]}
license: {package["licence"]}
authors:
  - name: {_quote_yaml(package["authors"])}
"""
    if paper := manifest.paper:
        text += f"""\
preferred-citation:
  type: article
  title: {_quote_yaml(paper["title"])}
  journal: {_quote_yaml(paper["journal"])}
  year: {paper["year"]}
  month: {_get_month(paper)}
  number: {_quote_yaml(paper["article"])}
  doi: {paper["doi"]}
  date-published: {_quote_yaml(paper["published"])}
  # {ORDER[0].upper()}{ORDER[1:]}.
  authors:
"""
        for a in paper["authors"]:
            names = f"given-names: {_quote_yaml(a['given'])}, family-names: {_quote_yaml(a['family'])}"
            text += f"    - {{ {names} }}\n"
    return text


def make_zenodo(manifest: Manifest) -> str:
    """Return the text of .zenodo.json, the metadata of an archived release: the same facts as CITATION.cff."""
    package = get_software()
    record: dict[str, Any] = {
        "title": package["name"],
        "description": package["about"],
        "upload_type": "software",
        "access_right": "open",
        "version": package["version"],
        "license": package["licence"],
        "creators": [{"name": package["authors"]}],
        "keywords": package["keywords"].split(","),
    }
    if paper := manifest.paper:
        article = {"identifier": paper["doi"], "scheme": "doi", "resource_type": "publication-article"}
        record["related_identifiers"] = [{**article, "relation": "references"}]
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _make_paper_entry(paper: Mapping[str, Any]) -> str:
    key = f"mousecmr{paper['year']}"  # no name: which author is the first was not seen
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


def format_authors(paper: Mapping[str, Any]) -> str:
    """Format the authors for BibTeX."""
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
    """Brace mixed-case words, so that BibTeX keeps their capitals."""
    return re.sub(r"\b(?=\w*[A-Z]\w*[A-Z])\w+\b", lambda m: "{" + m[0] + "}", title)


def _get_month(paper: Mapping[str, Any]) -> int:
    return int(str(paper["published"]).split("-")[1])


def _quote_yaml(text: str) -> str:
    """Quote a YAML scalar: a JSON string is valid YAML."""
    return json.dumps(str(text), ensure_ascii=False)
