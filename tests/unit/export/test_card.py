import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import ragged

from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.export.card import (
    list_arrive_rows,
    render_datasheet,
    render_participants,
    render_participants_sidecar,
)
from mousecmr_data.export.release import Release, make_release
from mousecmr_data.phantom.source import make_manifest as phantom
from mousecmr_data.schema.manifest import load_manifest

ESSENTIAL = [
    "1 Study design", "2 Sample size", "3 Inclusion and exclusion criteria", "4 Randomisation", "5 Blinding",
    "6 Outcome measures", "7 Statistical methods", "8 Experimental animals", "9 Experimental procedures", "10 Results",
]  # fmt: skip
"""The essential ten of ARRIVE 2.0."""


@pytest.fixture
def real(cohort: Cohort) -> Release:
    """Return a release of the small mice with the facts of the real dataset."""
    return replace(make_release(cohort, "lab/mice"), manifest=load_manifest())


@pytest.fixture
def synthetic(tmp_path: Path) -> Release:
    return replace(make_release(ragged.cohort(tmp_path, synthetic=True), "lab/x-phantom"), manifest=phantom("phantom"))


def test_the_datasheet_covers_arrive(real: Release) -> None:
    rows = list_arrive_rows(load_manifest())
    items = list(dict.fromkeys(item for item, *_ in rows))
    assert items[:10] == ESSENTIAL
    values = {field: value for _, field, value, _ in rows}
    for unknown in ("strain and substrain", "sex", "age or developmental stage", "weight"):
        assert values[unknown] == "not published"
    assert values["anaesthesia"] == load_manifest().acquisition["anaesthesia"].value, "the value has one source"
    assert "9.4 T" in values["imaging"]
    assert all(bool(source) == (value != "not published") for _, _, value, source in rows)
    text = render_datasheet(real)
    assert all(item in text for item in ESSENTIAL)
    assert "39 in the whole dataset" in text


def test_a_synthetic_datasheet_reports_no_animal(synthetic: Release) -> None:
    text = render_datasheet(synthetic)
    assert text.startswith("# Datasheet: SYNTHETIC")
    assert "no animal was involved" in text
    assert "Home Office" not in text
    assert "Agilent" not in text


def test_participants(real: Release) -> None:
    rows = list(csv.DictReader(io.StringIO(render_participants(real)), delimiter="\t"))
    assert [r["participant_id"] for r in rows] == [f"sub-{m}" for m in ragged.LABELLED]
    assert rows[1]["labelled_frames"] == "0,2"
    assert {(r["species"], r["strain"], r["sex"], r["age"], r["group"]) for r in rows} == {
        ("mouse", "n/a", "n/a", "n/a", "n/a")
    }
    sidecar = json.loads(render_participants_sidecar(real))
    assert sidecar.keys() >= set(rows[0])
    assert "not published" in sidecar["sex"]["Description"]
    assert "not claimed" in sidecar["GeneratedBy"]


def test_synthetic_participants(synthetic: Release) -> None:
    rows = list(csv.DictReader(io.StringIO(render_participants(synthetic)), delimiter="\t"))
    assert {(r["species"], r["synthetic"]) for r in rows} == {("none (synthetic)", "true")}
    assert "SYNTHETIC" in render_participants_sidecar(synthetic)


def test_every_document_of_a_synthetic_release_is_marked(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    from mousecmr_data.export.hub import build_folder

    cohort = ragged.cohort(tmp_path, synthetic=True).select(["Single"])
    built = build_folder(cohort, "lab/mice-synthetic", tmp_path / "out")[1]
    for document in built.glob("[!.]*"):
        if document.is_file() and document.name != "SHA256SUMS":
            assert re.search("synthetic", document.read_text(encoding="utf-8"), re.IGNORECASE), document.name
    assert "synthetic" in (built / "README.md").read_text().split("---\n")[1]
