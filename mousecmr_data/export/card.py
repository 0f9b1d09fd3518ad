"""The dataset card: README.md with the hub's metadata in front, all of it from the manifest and the cohort."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import yaml

from mousecmr_data._utils.notices import RESEARCH_ONLY, SYNTHETIC_DATA
from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Config
from mousecmr_data.export.citation import make_bibtex
from mousecmr_data.export.release import Release, Shard, make_hub_license
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.manifest import ArriveItem, Manifest
from mousecmr_data.schema.variables import NOT_PUBLISHED

# MERGED export.card: A table of the mice in the manner of BIDS (participants.tsv and its sidecar). It claims no BIDS compliance.


NOT_AVAILABLE = "n/a"
"""BIDS' word for a value that is not there."""


def render_participants(release: Release) -> str:
    """The text of participants.tsv."""
    lines = ["\t".join(_PARTICIPANT_COLUMNS)]
    for m in release.mice:
        species = "none (synthetic)" if release.synthetic else _find_reported(release, "species")
        dz, dy, dx = m.voxel_size_mm
        values = {
            "participant_id": f"sub-{m.name}",
            "species": species,
            "strain": NOT_AVAILABLE if release.synthetic else _find_reported(release, "strain and substrain"),
            "sex": NOT_AVAILABLE if release.synthetic else _find_reported(release, "sex"),
            "age": NOT_AVAILABLE if release.synthetic else _find_reported(release, "age or developmental stage"),
            "group": NOT_AVAILABLE if m.phenotype == NOT_PUBLISHED else m.phenotype,
            "split": NOT_AVAILABLE if m.split == "none" else m.split,
            "slices": str(m.slices),
            "frames": str(m.frames),
            "labelled_frames": ",".join(map(str, m.labelled_frames)) or NOT_AVAILABLE,
            "voxel_size": f"{dz:g},{dy:g},{dx:g}",
            "frame_time": f"{m.frame_time_ms:g}",
            "synthetic": str(release.synthetic).lower(),
        }
        lines.append("\t".join(values[name] for name in _PARTICIPANT_COLUMNS))
    return "\n".join(lines) + "\n"


def render_participants_sidecar(release: Release) -> str:
    """The text of participants.json: what each column means."""
    about: dict[str, dict[str, object]] = {name: dict(entry) for name, entry in _PARTICIPANT_COLUMNS.items()}
    if not release.synthetic:
        note = "'n/a': not published for any mouse"
        for name in ("strain", "sex", "age"):
            about[name]["Description"] = f"{about[name]['Description']} ({note})"
        about["group"]["Description"] = "Group of the mouse; 'n/a': which mouse is in which group is not published"
    note = "In the manner of BIDS' participants table; compliance with BIDS is not claimed."
    head = {"GeneratedBy": f"{SYNTHETIC_DATA} {note}" if release.synthetic else note}
    return json.dumps({**head, **about}, indent=1, ensure_ascii=False) + "\n"


def _find_reported(release: Release, field: str) -> str:
    return next((r.value for r in release.manifest.arrive if r.field == field and r.value), NOT_AVAILABLE)


_PARTICIPANT_COLUMNS: dict[str, dict[str, object]] = {
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


# MERGED export.card: The datasheet: what is known of the animals and the study, by ARRIVE 2.0, and of how the data came to be.


def render_datasheet(release: Release) -> str:
    """The text of DATASHEET.md."""
    parts = [f"# Datasheet: {release.title}"]
    if release.synthetic:
        parts.append(f"> **{SYNTHETIC_DATA}** There are no animals to report on.")
    parts += [
        _write_composition(release),
        _write_animals(release),
        _write_labels(release),
        _write_uses(release),
        _write_distribution(release),
    ]
    return "\n\n".join(parts) + "\n"


def list_arrive_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """Rows (item, field, value, source) by ARRIVE 2.0; the value reads "not published" where it is not."""
    rows = []
    for entry in manifest.arrive:
        value, source = _get_arrive_value(entry, manifest)
        rows.append((entry.item, entry.field, value or NOT_PUBLISHED, source if value else ""))
    return rows


def _get_arrive_value(entry: ArriveItem, manifest: Manifest) -> tuple[str, str]:
    found = [(name, manifest.acquisition[name]) for name in entry.constants if name in manifest.acquisition]
    if not found:
        return entry.value, entry.source
    texts = [f"{name.replace('_', ' ')} {c.value} {c.unit}".strip() for name, c in found]
    if len(found) == 1:
        texts = [f"{found[0][1].value} {found[0][1].unit}".strip()]
    return "; ".join(texts), "; ".join(dict.fromkeys(c.source for _, c in found))


def _write_composition(release: Release) -> str:
    mice = release.mice
    slices, frames = [m.slices for m in mice], [m.frames for m in mice]
    rows = [
        ("mice", f"{len(mice)}" + ("" if release.whole else f" of {len(release.manifest.files)}")),
        ("2D images", f"{sum(m.images for m in mice):,}"),
        ("slices a mouse", _format_range(slices)),
        ("frames a mouse", _format_range(frames)),
        ("labelled frames", str(sum(len(m.labelled_frames) for m in mice))),
        ("pixels of an image", ", ".join(dict.fromkeys(f"{m.shape_yx[0]} x {m.shape_yx[1]}" for m in mice))),
        *((f"group: {g.name}", f"{g.n_mice} in the whole dataset") for g in release.manifest.groups),
    ]
    table = "\n".join(f"| {a} | {b} |" for a, b in rows)
    return f"## Composition\n\n| | |\n| --- | --- |\n{table}"


def _write_animals(release: Release) -> str:
    head = "## Animals and study (ARRIVE 2.0)"
    if release.synthetic:
        return f"{head}\n\nNot applicable: no animal was involved. {SYNTHETIC_DATA}"
    rows = list_arrive_rows(release.manifest)
    if not rows:
        return f"{head}\n\n{NOT_PUBLISHED.capitalize()}: the manifest `{release.manifest.name}` says nothing of them."
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{head}\n\nItems and their numbers as in the guidelines (doi 10.1371/journal.pbio.3000410). "
        f'"{NOT_PUBLISHED.capitalize()}" means: in none of the sources that were read, which are the authors\' '
        "repository (repo), the draft of the article (paper) and the published abstract.\n\n"
        f"| item | field | value | source |\n| --- | --- | --- | --- |\n{table}"
    )


def _write_labels(release: Release) -> str:
    by = release.manifest.acquisition.get("annotation")
    who = f"{by.value} (source: {by.source})" if by else NOT_PUBLISHED
    return (
        f"## Labels\n\nBy whom and how: {who}. Not every frame was segmented; one that was not has no mask. "
        "ED is the earliest segmented frame; ES is, of the others, the one with the smallest blood pool inside the ED "
        "footprint; further ones show inflow artefacts."
    )


def _write_uses(release: Release) -> str:
    caution = (
        "It is for trying out software. Nothing found on it holds for animals."
        if release.synthetic
        else "Groups, scanner, strain and anatomy are those of one study: expect less elsewhere."
    )
    return f"## Uses\n\nResearch into segmentation and function of the mouse heart. Not for clinical use. {caution}"


def _write_distribution(release: Release) -> str:
    manifest = release.manifest
    page = f" at {manifest.homepage}" if manifest.homepage else ""
    released = f" of {manifest.released}" if manifest.released else ""
    return (
        f"## Distribution and upkeep\n\nSource: `{manifest.name}`, version `{manifest.version}`{released}{page}. "
        f"Licence: {manifest.licence}. Errors that are known stand in README.md."
    )


def _format_range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


TAGS = ("cardiac", "mri", "mouse", "pre-clinical", "cine", "segmentation", "medical", "3d")


def render_card(release: Release, written: Sequence[Shard]) -> str:
    """The text of README.md."""
    head = yaml.safe_dump(make_front_matter(release, written), sort_keys=False, allow_unicode=True, width=120)
    parts = [
        _write_title,
        _write_usage,
        _write_configs,
        _write_columns,
        _write_splits,
        _write_groups,
        _write_acquisition,
        _write_sources,
        _write_issues,
        _write_citation,
    ]
    body = "\n\n".join(block for block in (part(release, written).strip() for part in parts) if block)
    return f"---\n{head}---\n\n{body}\n"


def make_release_bibtex(release: Release) -> str:
    """BibTeX of the article and the data."""
    entries = make_bibtex(release.manifest)
    return "\n".join(entries[k] for k in ("paper", "data") if k in entries)


def make_front_matter(release: Release, written: Sequence[Shard]) -> dict[str, Any]:
    """The YAML in front of the card: every config and split by name, so that nothing is left to guessing."""
    configs, about = [], []
    for config in _list_configs(written):
        splits = _select_shards(written, config)
        names = dict.fromkeys(s.split for s in splits)
        configs.append(
            {
                "config_name": config,
                "default": config == "labelled",
                "data_files": [{"split": n, "path": f"{config}/{n}-*.parquet"} for n in names],
            }
        )
        info = datasets.DatasetInfo(features=huggingface.make_features(config))
        about.append(
            {
                "config_name": config,
                **info._to_yaml_dict(),
                "splits": [
                    {
                        "name": n,
                        "num_bytes": sum(s.memory for s in splits if s.split == n),
                        "num_examples": sum(s.rows for s in splits if s.split == n),
                    }
                    for n in names
                ],
                "download_size": sum(s.bytes for s in splits),
                "dataset_size": sum(s.memory for s in splits),
            }
        )
    return {
        "pretty_name": release.title,
        **make_hub_license(release.manifest.licence),
        "task_categories": ["image-segmentation"],
        "tags": [*(["synthetic"] if release.synthetic else []), *TAGS],
        "configs": configs,
        "dataset_info": about,
    }


def _write_title(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    manifest = release.manifest
    images = sum(m.images for m in release.mice)
    part = "" if release.whole else f" This is a part: {len(release.mice)} of {len(manifest.files)} mice."
    lines = [f"# {release.title}", ""]
    if release.synthetic:
        lines += [f"> **{SYNTHETIC_DATA}** No number computed on them says anything about animals.", ""]
    kind = "synthetic mice" if release.synthetic else "mice"
    expert = "the phantom's own geometry as masks" if release.synthetic else "expert masks"
    lines += [
        f"{len(release.mice)} {kind}, short-axis cine stacks of the heart ({images:,} 2D images), with {expert} of the "
        f"left ventricle in {sum(len(m.labelled_frames) for m in release.mice)} frames: "
        + ", ".join(f"{int(label)} {meaning}" for label, meaning in MEANINGS.items())
        + f".{part}",
        "",
        "**A frame that nobody segmented has no mask.** It is null, never zeros: unlabelled is not background.",
        "",
        RESEARCH_ONLY,
    ]
    return "\n".join(lines)


def _write_usage(release: Release, written: Sequence[Shard]) -> str:
    config, split = written[0].config, written[0].split
    return f"""## Use

```python
from datasets import load_dataset  # pip install datasets pillow; for "cines" also nibabel

data = load_dataset("{release.name}", "{config}", split="{split}")
row = data[0]
row["image"], row["mask"]  # Pillow images, 16 and 8 bit
arrays = data.with_format("numpy", dtype=None)  # keeps uint16 and uint8; without dtype=None: int64
```

`load_dataset(..., streaming=True)` reads rows as they are needed. With `pip install 'mousecmr-data[huggingface]'`,
`mousecmr_data.adapters.huggingface.torch_samples(data)` gives PyTorch tensors several times faster."""


def _write_configs(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    rows = []
    for config in _list_configs(written):
        splits: dict[str, int] = {}
        for shard in _select_shards(written, config):
            splits[shard.split] = splits.get(shard.split, 0) + shard.rows
        size = sum(s.bytes for s in _select_shards(written, config))
        rows.append(
            [
                f"`{config}`",
                huggingface.ABOUT[config],
                ", ".join(f"{k} {v:,}" for k, v in splits.items()),
                _format_mb(size),
            ]
        )
    return "## Configs\n\n" + _format_table(["config", "what it holds", "rows", "download"], rows)


def _write_columns(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    parts = ["## Columns"]
    for names in (("labelled", "slices"), ("cines",)):
        present = [c for c in names if c in _list_configs(written)]
        if present:
            rows = [[f"`{c.name}`", c.about] for c in huggingface.COLUMNS[present[0]]]
            parts.append(", ".join(f"`{c}`" for c in present) + "\n\n" + _format_table(["column", "meaning"], rows))
    parts.append("Slices are uncompressed TIFF, cines NIfTI, both without loss; Parquet compresses them (zstd).")
    return "\n\n".join(parts)


def _write_splits(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    if not release.split_scheme:
        return "## Splits\n\nNone are published: all rows are in `unsplit`."
    scheme = release.manifest.splits[release.split_scheme]
    rows = [[huggingface.make_split_name(k), len(v)] for k, v in release.splits.items()]
    text = " ".join(t for t in (scheme.description, scheme.caveat) if t)
    return f"## Splits\n\n`{scheme.name}`, by mouse and disjoint. {text}\n\n" + _format_table(["split", "mice"], rows)


def _write_groups(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    groups = release.manifest.groups
    if not groups:
        return ""
    known, total = sum(m.phenotype != NOT_PUBLISHED for m in release.mice), len(release.mice)
    if known == 0:
        note = "Which mouse is in which group is not published."
    else:
        note = f"The group of {known} of the {total} mice here is known; see `phenotype`."
    rows = [[g.name, g.n_mice, g.source] for g in groups]
    return f"## Groups\n\n{note}\n\n" + _format_table(["group", "mice in the whole dataset", "source"], rows)


def _write_acquisition(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    rows = [
        [name.replace("_", " "), _format_constant(c.value), c.unit, c.source]
        for name, c in release.manifest.acquisition.items()
    ]
    note = "Voxel sizes: " + "; ".join(dict.fromkeys(m.voxel_size_source for m in release.mice)) + "."
    return f"## Acquisition\n\n{note}\n\n" + _format_table(["what", "value", "unit", "source"], rows) if rows else ""


def _write_sources(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    manifest = release.manifest
    where = f"[{manifest.homepage}]({manifest.homepage})" if manifest.homepage else "no page"
    made = "made by the phantom of `mousecmr-data`" if release.synthetic else "taken over unchanged, bit for bit"
    return f"""## Provenance and licence

Source: `{manifest.name}`, version `{manifest.version}`, {where}. Pixels and masks are {made}; each file of the source
and its checksum stands in `provenance.json`, the SHA-256 of each file here in `SHA256SUMS`. About the animals and the
study, by the ARRIVE 2.0 guidelines: `DATASHEET.md`. Machine-readable: `croissant.json` (Croissant 1.1),
`participants.tsv`. Licence: {manifest.licence} (`LICENSE`)."""


def _write_issues(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    issues = release.manifest.known_issues
    return "## Known issues\n\n" + "\n".join(f"- **{i.title}.** {i.text}" for i in issues) if issues else ""


def _write_citation(release: Release, written: Sequence[Shard]) -> str:  # noqa: ARG001
    return f"## Citation\n\n```bibtex\n{make_release_bibtex(release).strip()}\n```"


def _list_configs(written: Iterable[Shard]) -> list[Config]:
    present = {s.config for s in written}
    return [c for c in huggingface.CONFIGS if c in present]


def _select_shards(written: Iterable[Shard], config: Config) -> list[Shard]:
    return [s for s in written if s.config == config]


def _format_constant(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _format_mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB"


def _format_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", r"\|") for c in line) + " |" for line in lines)
