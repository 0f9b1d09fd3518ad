"""The datasheet: what is known of the animals and the study, by ARRIVE 2.0, and of how the data came to be."""

from __future__ import annotations

from mousecmr_data.publish.edition import BANNER, Edition
from mousecmr_data.schema.manifest import ArriveItem, Manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED


def text(edition: Edition) -> str:
    """The text of DATASHEET.md."""
    parts = [f"# Datasheet: {edition.title}"]
    if edition.synthetic:
        parts.append(f"> **{BANNER}** There are no animals to report on.")
    parts += [_composition(edition), _animals(edition), _labelling(edition), _uses(edition), _keeping(edition)]
    return "\n\n".join(parts) + "\n"


def arrive(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """Rows (item, field, value, source) by ARRIVE 2.0; the value reads "not published" where it is not."""
    rows = []
    for entry in manifest.arrive:
        value, source = _value(entry, manifest)
        rows.append((entry.item, entry.field, value or NOT_PUBLISHED, source if value else ""))
    return rows


def _value(entry: ArriveItem, manifest: Manifest) -> tuple[str, str]:
    found = [(name, manifest.acquisition[name]) for name in entry.constants if name in manifest.acquisition]
    if not found:
        return entry.value, entry.source
    texts = [f"{name.replace('_', ' ')} {c.value} {c.unit}".strip() for name, c in found]
    if len(found) == 1:
        texts = [f"{found[0][1].value} {found[0][1].unit}".strip()]
    return "; ".join(texts), "; ".join(dict.fromkeys(c.source for _, c in found))


def _composition(edition: Edition) -> str:
    mice = edition.mice
    slices, frames = [m.slices for m in mice], [m.frames for m in mice]
    rows = [
        ("mice", f"{len(mice)}" + ("" if edition.whole else f" of {len(edition.manifest.files)}")),
        ("2D images", f"{sum(m.images for m in mice):,}"),
        ("slices a mouse", _range(slices)),
        ("frames a mouse", _range(frames)),
        ("labelled frames", str(sum(len(m.labelled_frames) for m in mice))),
        ("pixels of an image", ", ".join(dict.fromkeys(f"{m.shape_yx[0]} x {m.shape_yx[1]}" for m in mice))),
        *((f"group: {g.name}", f"{g.n_mice} in the whole dataset") for g in edition.manifest.groups),
    ]
    table = "\n".join(f"| {a} | {b} |" for a, b in rows)
    return f"## Composition\n\n| | |\n| --- | --- |\n{table}"


def _animals(edition: Edition) -> str:
    head = "## Animals and study (ARRIVE 2.0)"
    if edition.synthetic:
        return f"{head}\n\nNot applicable: no animal was involved. {BANNER}"
    rows = arrive(edition.manifest)
    if not rows:
        return f"{head}\n\n{NOT_PUBLISHED.capitalize()}: the manifest `{edition.manifest.name}` says nothing of them."
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{head}\n\nItems and their numbers as in the guidelines (doi 10.1371/journal.pbio.3000410). "
        f'"{NOT_PUBLISHED.capitalize()}" means: in none of the sources that were read, which are the authors\' '
        "repository (repo), the draft of the article (paper) and the published abstract.\n\n"
        f"| item | field | value | source |\n| --- | --- | --- | --- |\n{table}"
    )


def _labelling(edition: Edition) -> str:
    by = edition.manifest.acquisition.get("annotation")
    who = f"{by.value} (source: {by.source})" if by else NOT_PUBLISHED
    return (
        f"## Labels\n\nBy whom and how: {who}. Not every frame was segmented; one that was not has no mask. "
        "ED is the earliest segmented frame; ES is, of the others, the one with the smallest blood pool inside the ED "
        "footprint; further ones show inflow artefacts."
    )


def _uses(edition: Edition) -> str:
    caution = (
        "It is for trying out software. Nothing found on it holds for animals."
        if edition.synthetic
        else "Groups, scanner, strain and anatomy are those of one study: expect less elsewhere."
    )
    return f"## Uses\n\nResearch into segmentation and function of the mouse heart. Not for clinical use. {caution}"


def _keeping(edition: Edition) -> str:
    manifest = edition.manifest
    page = f" at {manifest.homepage}" if manifest.homepage else ""
    released = f" of {manifest.released}" if manifest.released else ""
    return (
        f"## Distribution and upkeep\n\nSource: `{manifest.name}`, version `{manifest.version}`{released}{page}. "
        f"Licence: {manifest.licence}. Errors that are known stand in README.md."
    )


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
