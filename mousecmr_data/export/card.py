"""The documents of a published dataset: card (README.md with the hub's metadata), datasheet, participants.

All of them are generated from the manifest and the mice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import yaml

from mousecmr_data._utils.atomic import dump_json
from mousecmr_data._utils.tables import disarm_cell
from mousecmr_data._utils.text import RESEARCH_ONLY, SYNTHETIC_DATA
from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Config
from mousecmr_data.export.citation import make_bibtex
from mousecmr_data.export.release import Release, Shard, make_hub_license
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED

TAGS = ("cardiac", "mri", "mouse", "pre-clinical", "cine", "segmentation", "medical", "3d")
NOT_AVAILABLE = "n/a"
"""BIDS' word for a missing value."""

# Participants: a table of the mice like that of BIDS; compliance with BIDS is not claimed

_PARTICIPANT_COLUMNS: dict[str, dict[str, str]] = {
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


def render_participants(release: Release) -> str:
    """Return the text of participants.tsv."""
    fields = {"strain": "strain and substrain", "sex": "sex", "age": "age or developmental stage"}
    reported = {item.field: item.value for item in reversed(release.manifest.arrive) if item.value}  # first one counts
    animal = {name: "" if release.synthetic else reported.get(key, "") for name, key in fields.items()}
    species = "none (synthetic)" if release.synthetic else reported.get("species", "")
    lines = ["\t".join(_PARTICIPANT_COLUMNS)]
    for m in release.mice:
        row = {
            "participant_id": f"sub-{m.name}",
            "species": species,
            **animal,
            "group": "" if m.phenotype == NOT_PUBLISHED else m.phenotype,
            "split": "" if m.split == "none" else m.split,
            "slices": str(m.slices),
            "frames": str(m.frames),
            "labelled_frames": ",".join(map(str, m.labelled_frames)),
            "voxel_size": ",".join(f"{size:g}" for size in m.voxel_size_mm),
            "frame_time": f"{m.frame_time_ms:g}",
            "synthetic": str(release.synthetic).lower(),
        }
        lines.append("\t".join(disarm_cell(row[name]) or NOT_AVAILABLE for name in _PARTICIPANT_COLUMNS))
    return "\n".join(lines) + "\n"


def render_participants_sidecar(release: Release) -> str:
    """Return the text of participants.json: the meaning of each column."""
    columns = {name: dict(entry) for name, entry in _PARTICIPANT_COLUMNS.items()}
    if not release.synthetic:
        for name in ("strain", "sex", "age"):
            columns[name]["Description"] += " ('n/a': not published for any mouse)"
        columns["group"]["Description"] = "Group of the mouse; 'n/a': which mouse is in which group is not published"
    note = "In the manner of BIDS' participants table; compliance with BIDS is not claimed."
    return dump_json({"GeneratedBy": f"{SYNTHETIC_DATA} {note}" if release.synthetic else note, **columns})


# Datasheet: what is known of the animals and the study, by ARRIVE 2.0, and of how the data were made


def render_datasheet(release: Release) -> str:
    """Return the text of DATASHEET.md."""
    manifest, warning = release.manifest, ""
    annotation = manifest.acquisition.get("annotation")
    labelling = f"{annotation.value} (source: {annotation.source})" if annotation else NOT_PUBLISHED
    caution = "Groups, scanner, strain and anatomy are those of one study: expect worse results on other data."
    if release.synthetic:
        warning = f"> **{SYNTHETIC_DATA}** There are no animals to report on.\n\n"
        caution = "It is for testing software. No result on it is valid for animals."
    page = f" at {manifest.homepage}" if manifest.homepage else ""
    date = f" of {manifest.released}" if manifest.released else ""
    return f"""# Datasheet: {release.title}

{warning}{_describe_composition(release)}

{_describe_animals(release)}

## Labels

By whom and how: {labelling}. Not every frame was segmented; the others have no mask. ED is the earliest segmented \
frame; ES is, of the others, the one with the smallest blood pool inside the ED footprint; further ones show inflow \
artefacts.

## Uses

Research into segmentation and function of the mouse heart. Not for clinical use. {caution}

## Distribution and maintenance

Source: `{manifest.name}`, version `{manifest.version}`{date}{page}. Licence: {manifest.licence}. Known errors are \
listed in README.md.
"""


def list_arrive_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """List the rows (item, field, value, source) by ARRIVE 2.0; the value is "not published" where it is unknown."""
    rows = []
    for item in manifest.arrive:
        value, source = item.value, item.source
        if constants := {n: manifest.acquisition[n] for n in item.constants if n in manifest.acquisition}:
            names = [f"{name.replace('_', ' ')} " if len(constants) > 1 else "" for name in constants]
            texts = [f"{name}{c.value} {c.unit}".strip() for name, c in zip(names, constants.values(), strict=True)]
            value, source = "; ".join(texts), "; ".join(dict.fromkeys(c.source for c in constants.values()))
        rows.append((item.item, item.field, value or NOT_PUBLISHED, source if value else ""))
    return rows


def _describe_composition(release: Release) -> str:
    mice = release.mice
    rows = [
        ("mice", f"{len(mice)}" + ("" if release.whole else f" of {len(release.manifest.files)}")),
        ("2D images", f"{sum(m.images for m in mice):,}"),
        ("slices per mouse", _format_range([m.slices for m in mice])),
        ("frames per mouse", _format_range([m.frames for m in mice])),
        ("labelled frames", sum(len(m.labelled_frames) for m in mice)),
        ("pixels per image", ", ".join(dict.fromkeys(f"{m.shape_yx[0]} x {m.shape_yx[1]}" for m in mice))),
        *((f"group: {g.name}", f"{g.n_mice} in the whole dataset") for g in release.manifest.groups),
    ]
    return "## Composition\n\n" + _format_table(["", ""], rows)


def _describe_animals(release: Release) -> str:
    heading = "## Animals and study (ARRIVE 2.0)"
    if release.synthetic:
        return f"{heading}\n\nNot applicable: no animal was involved. {SYNTHETIC_DATA}"
    rows, unknown = list_arrive_rows(release.manifest), NOT_PUBLISHED.capitalize()
    if not rows:
        return f"{heading}\n\n{unknown}: the manifest `{release.manifest.name}` has no entry on them."
    note = (
        f'Items and their numbers as in the guidelines (doi 10.1371/journal.pbio.3000410). "{unknown}" means: in none '
        "of the sources that were read, which are the authors' repository (repo), the draft of the article (paper) and "
        "the published abstract."
    )
    return f"{heading}\n\n{note}\n\n" + _format_table(["item", "field", "value", "source"], rows)


def _format_range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


# Dataset card


def render_card(release: Release, written: Sequence[Shard]) -> str:
    """Return the text of README.md."""
    front_matter = make_front_matter(release, written)
    head = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True, width=120)
    issues = [f"- **{issue.title}.** {issue.text}" for issue in release.manifest.known_issues]
    parts = [
        _describe_release(release),
        _describe_usage(release, written[0]),
        _describe_configs(written),
        _describe_columns(written),
        _describe_splits(release),
        _describe_groups(release),
        _describe_acquisition(release),
        _describe_sources(release),
        "\n".join(["## Known issues\n", *issues]) if issues else "",
        f"## Citation\n\n```bibtex\n{make_release_bibtex(release).strip()}\n```",
    ]
    body = "\n\n".join(part for part in parts if part)
    return f"---\n{head}---\n\n{body}\n"


def make_release_bibtex(release: Release) -> str:
    """Return the BibTeX of the article and the data."""
    entries = make_bibtex(release.manifest)
    return "\n".join(entries[k] for k in ("paper", "data") if k in entries)


def make_front_matter(release: Release, written: Sequence[Shard]) -> dict[str, Any]:
    """Return the YAML at the top of the card, with every config and split by name, so that no reader has to guess."""
    configs, details = [], []
    for config, shards in _group_shards(written).items():
        splits = list(dict.fromkeys(s.split for s in shards))
        configs.append(
            {
                "config_name": config,
                "default": config == "labelled",
                "data_files": [{"split": name, "path": f"{config}/{name}-*.parquet"} for name in splits],
            }
        )
        details.append(
            {
                "config_name": config,
                **datasets.DatasetInfo(features=huggingface.make_features(config))._to_yaml_dict(),
                "splits": [
                    {
                        "name": name,
                        "num_bytes": sum(s.memory for s in shards if s.split == name),
                        "num_examples": sum(s.rows for s in shards if s.split == name),
                    }
                    for name in splits
                ],
                "download_size": sum(s.bytes for s in shards),
                "dataset_size": sum(s.memory for s in shards),
            }
        )
    return {
        "pretty_name": release.title,
        **make_hub_license(release.manifest.licence),
        "task_categories": ["image-segmentation"],
        "tags": [*(["synthetic"] if release.synthetic else []), *TAGS],
        "configs": configs,
        "dataset_info": details,
    }


def _describe_release(release: Release) -> str:
    mice, total = len(release.mice), len(release.manifest.files)
    images = sum(m.images for m in release.mice)
    frames = sum(len(m.labelled_frames) for m in release.mice)
    labels = ", ".join(f"{int(label)} {meaning}" for label, meaning in MEANINGS.items())
    part = "" if release.whole else f" This is a part: {mice} of {total} mice."
    warning, kind, masks = "", "mice", "expert masks"
    if release.synthetic:
        warning = f"> **{SYNTHETIC_DATA}** No number computed on them is valid for animals.\n\n"
        kind, masks = "synthetic mice", "the phantom's own geometry as masks"
    return f"""# {release.title}

{warning}{mice} {kind}, short-axis cine stacks of the heart ({images:,} 2D images), with {masks} of the \
left ventricle in {frames} frames: {labels}.{part}

**A frame that nobody segmented has no mask.** It is null, never zeros: unlabelled is not background.

{RESEARCH_ONLY}"""


def _describe_usage(release: Release, shard: Shard) -> str:
    return f"""## Use

```python
from datasets import load_dataset  # pip install datasets pillow; for "cines" also nibabel

data = load_dataset("{release.name}", "{shard.config}", split="{shard.split}")
row = data[0]
row["image"], row["mask"]  # Pillow images, 16 and 8 bit
arrays = data.with_format("numpy", dtype=None)  # keeps uint16 and uint8; without dtype=None: int64
```

`load_dataset(..., streaming=True)` reads rows as they are needed. With `pip install 'mousecmr-data[huggingface]'`,
`mousecmr_data.adapters.huggingface.torch_samples(data)` gives PyTorch tensors several times faster."""


def _describe_configs(written: Sequence[Shard]) -> str:
    rows = []
    for config, shards in _group_shards(written).items():
        splits: Counter[str] = Counter()
        for shard in shards:
            splits[shard.split] += shard.rows
        counts = ", ".join(f"{name} {count:,}" for name, count in splits.items())
        megabytes = sum(s.bytes for s in shards) / 1e6
        size = f"{megabytes:,.0f} MB" if megabytes >= 1 else f"{megabytes:.1f} MB"
        rows.append([f"`{config}`", huggingface.ABOUT[config], counts, size])
    return "## Configs\n\n" + _format_table(["config", "what it holds", "rows", "download"], rows)


def _describe_columns(written: Sequence[Shard]) -> str:
    parts = ["## Columns"]
    for names in (("labelled", "slices"), ("cines",)):
        if configs := [c for c in _group_shards(written) if c in names]:
            rows = [[f"`{c.name}`", c.about] for c in huggingface.COLUMNS[configs[0]]]
            parts += [", ".join(f"`{c}`" for c in configs), _format_table(["column", "meaning"], rows)]
    parts.append("Slices are uncompressed TIFF, cines NIfTI, both without loss; Parquet compresses them (zstd).")
    return "\n\n".join(parts)


def _describe_splits(release: Release) -> str:
    if not release.split_scheme:
        return "## Splits\n\nNone are published: all rows are in `unsplit`."
    scheme = release.manifest.splits[release.split_scheme]
    rows = [[huggingface.make_split_name(k), len(v)] for k, v in release.splits.items()]
    text = " ".join(t for t in (scheme.description, scheme.caveat) if t)
    return f"## Splits\n\n`{scheme.name}`, by mouse and disjoint. {text}\n\n" + _format_table(["split", "mice"], rows)


def _describe_groups(release: Release) -> str:
    groups = release.manifest.groups
    if not groups:
        return ""
    note = "Which mouse is in which group is not published."
    if known := sum(m.phenotype != NOT_PUBLISHED for m in release.mice):
        note = f"The group of {known} of the {len(release.mice)} mice here is known; see `phenotype`."
    rows = [[g.name, g.n_mice, g.source] for g in groups]
    return f"## Groups\n\n{note}\n\n" + _format_table(["group", "mice in the whole dataset", "source"], rows)


def _describe_acquisition(release: Release) -> str:
    rows = []
    for name, constant in release.manifest.acquisition.items():
        value = constant.value
        text = " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        rows.append([name.replace("_", " "), text, constant.unit, constant.source])
    if not rows:
        return ""
    note = "Voxel sizes: " + "; ".join(dict.fromkeys(m.voxel_size_source for m in release.mice)) + "."
    return f"## Acquisition\n\n{note}\n\n" + _format_table(["what", "value", "unit", "source"], rows)


def _describe_sources(release: Release) -> str:
    manifest = release.manifest
    page = f"[{manifest.homepage}]({manifest.homepage})" if manifest.homepage else "no page"
    origin = "made by the phantom of `mousecmr-data`" if release.synthetic else "copied unchanged, bit for bit"
    return f"""## Provenance and licence

Source: `{manifest.name}`, version `{manifest.version}`, {page}. Pixels and masks are {origin}; each file of the source
and its checksum is listed in `provenance.json`, the SHA-256 of each file here in `SHA256SUMS`. About the animals and
the study, by the ARRIVE 2.0 guidelines: `DATASHEET.md`. Machine-readable: `croissant.json` (Croissant 1.1),
`participants.tsv`. Licence: {manifest.licence} (`LICENSE`)."""


def _group_shards(written: Sequence[Shard]) -> dict[Config, list[Shard]]:
    groups = {config: [s for s in written if s.config == config] for config in huggingface.CONFIGS}
    return {config: shards for config, shards in groups.items() if shards}


def _format_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", r"\|") for c in line) + " |" for line in lines)
