"""A table of the mice in the manner of BIDS (participants.tsv and its sidecar). It claims no BIDS compliance."""

from __future__ import annotations

import json

from mousecmr_data.publish.edition import BANNER, Edition
from mousecmr_data.schema.variables import NOT_PUBLISHED

MISSING = "n/a"
"""BIDS' word for a value that is not there."""


def table(edition: Edition) -> str:
    """The text of participants.tsv."""
    lines = ["\t".join(_COLUMNS)]
    for m in edition.mice:
        species = "none (synthetic)" if edition.synthetic else _reported(edition, "species")
        dz, dy, dx = m.voxel_size_mm
        values = {
            "participant_id": f"sub-{m.name}",
            "species": species,
            "strain": MISSING if edition.synthetic else _reported(edition, "strain and substrain"),
            "sex": MISSING if edition.synthetic else _reported(edition, "sex"),
            "age": MISSING if edition.synthetic else _reported(edition, "age or developmental stage"),
            "group": MISSING if m.phenotype == NOT_PUBLISHED else m.phenotype,
            "split": MISSING if m.split == "none" else m.split,
            "slices": str(m.slices),
            "frames": str(m.frames),
            "labelled_frames": ",".join(map(str, m.labelled_frames)) or MISSING,
            "voxel_size": f"{dz:g},{dy:g},{dx:g}",
            "frame_time": f"{m.frame_time_ms:g}",
            "synthetic": str(edition.synthetic).lower(),
        }
        lines.append("\t".join(values[name] for name in _COLUMNS))
    return "\n".join(lines) + "\n"


def sidecar(edition: Edition) -> str:
    """The text of participants.json: what each column means."""
    about: dict[str, dict[str, object]] = {name: dict(entry) for name, entry in _COLUMNS.items()}
    if not edition.synthetic:
        note = "'n/a': not published for any mouse"
        for name in ("strain", "sex", "age"):
            about[name]["Description"] = f"{about[name]['Description']} ({note})"
        about["group"]["Description"] = "Group of the mouse; 'n/a': which mouse is in which group is not published"
    note = "In the manner of BIDS' participants table; compliance with BIDS is not claimed."
    head = {"GeneratedBy": f"{BANNER} {note}" if edition.synthetic else note}
    return json.dumps({**head, **about}, indent=1, ensure_ascii=False) + "\n"


def _reported(edition: Edition, field: str) -> str:
    return next((r.value for r in edition.manifest.arrive if r.field == field and r.value), MISSING)


_COLUMNS: dict[str, dict[str, object]] = {
    "participant_id": {"Description": "'sub-' and the name of the mouse"},
    "species": {"Description": "Species"},
    "strain": {"Description": "Strain"},
    "sex": {"Description": "Sex"},
    "age": {"Description": "Age"},
    "group": {"Description": "Group of the mouse"},
    "split": {"Description": "Split of the mouse, by the scheme named in the dataset card"},
    "slices": {"Description": "Number of slices"},
    "frames": {"Description": "Number of frames of the cine"},
    "labelled_frames": {"Description": "Numbers of the frames that an expert segmented, from 0"},
    "voxel_size": {"Description": "Voxel size (slice, y, x)", "Units": "mm"},
    "frame_time": {"Description": "Time between frames", "Units": "ms"},
    "synthetic": {"Description": "true: computed by a phantom, not measured on an animal"},
}
