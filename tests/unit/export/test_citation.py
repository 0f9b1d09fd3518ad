import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.errors import ArgumentError
from mousecmr_data.export.citation import make_bibtex, make_cff, make_zenodo
from mousecmr_data.phantom.source import make_manifest as phantom
from mousecmr_data.schema.manifest import load_manifest

ROOT = Path(__file__).parents[3]


def test_the_archives_metadata_agrees_with_citation_cff() -> None:
    text = (ROOT / ".zenodo.json").read_text(encoding="utf-8")
    assert text == make_zenodo(load_manifest()), "python scripts/make_citation.py"
    record, cff = json.loads(text), yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    same = {"title": "title", "description": "abstract", "version": "version", "license": "license"}
    assert {key: record[key] for key in same} == {key: cff[name] for key, name in same.items()}
    assert [c["name"] for c in record["creators"]] == [a["name"] for a in cff["authors"]]
    assert record["related_identifiers"][0]["identifier"] == cff["preferred-citation"]["doi"]


def test_citation_cff_is_up_to_date() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert text == make_cff(load_manifest()), "python scripts/make_citation.py"
    cff = yaml.safe_load(text)
    assert cff["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= cff.keys()
    assert cff["preferred-citation"]["doi"] == load_manifest().paper["doi"]
    assert len(cff["preferred-citation"]["authors"]) == 10


def test_bibtex_has_article_data_and_software() -> None:
    entries = make_bibtex(load_manifest())
    assert list(entries) == ["paper", "data", "software"]
    for entry in entries.values():
        assert entry.count("{") == entry.count("}")
        assert re.match(r"@(article|misc)\{\w+,\n", entry)
    assert "doi     = {10.1016/j.jocmr.2026.102706}" in entries["paper"]
    assert "alphabetical order, as indexed" in entries["paper"]
    assert load_manifest().version in entries["data"]
    assert "GPL-3.0" in entries["data"]
    assert "{MRI}" in entries["paper"], "without braces BibTeX makes it lower case"


def test_synthetic_data_are_cited_as_such() -> None:
    entries = make_bibtex(phantom("phantom"))
    assert "paper" not in entries
    assert "SYNTHETIC" in entries["data"]
    assert "Anderson" not in "".join(entries.values())


def test_cite_and_info_in_python_are_those_of_the_commands(tmp_path: Path) -> None:
    for words in ([], ["paper"], ["data", "software"]):
        assert CliRunner().invoke(main, ["cite", *words]).stdout == md.cite(*words)
    with pytest.raises(ArgumentError, match="no entry to cite of phantom 'paper'"):
        md.cite("paper", source="phantom")
    found = md.info("phantom", cache=tmp_path)
    printed = CliRunner().invoke(main, ["info", "--source", "phantom", "--cache", str(tmp_path), "--json"]).stdout
    assert json.loads(printed) == json.loads(json.dumps(found.to_dict()))
    assert "SYNTHETIC" in repr(found)
    assert "130 not made yet" in repr(found)
    assert "130 missing" in repr(md.info(cache=tmp_path))
