"""The dataset card: README.md with the hub's metadata in front, all of it from the manifest and the cohort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import yaml

from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Config
from mousecmr_data.publish import citation, licence
from mousecmr_data.publish.edition import BANNER, Edition
from mousecmr_data.publish.shards import Shard
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.variables import NOT_PUBLISHED

TAGS = ("cardiac", "mri", "mouse", "pre-clinical", "cine", "segmentation", "medical", "3d")


def text(edition: Edition, written: Sequence[Shard]) -> str:
    """The text of README.md."""
    head = yaml.safe_dump(front_matter(edition, written), sort_keys=False, allow_unicode=True, width=120)
    parts = [_title, _use, _tables, _columns, _splits, _groups, _acquisition, _sources, _issues, _citing]
    body = "\n\n".join(block for block in (part(edition, written).strip() for part in parts) if block)
    return f"---\n{head}---\n\n{body}\n"


def bibtex(edition: Edition) -> str:
    """BibTeX of the article and the data."""
    entries = citation.bibtex(edition.manifest)
    return "\n".join(entries[k] for k in ("paper", "data") if k in entries)


def front_matter(edition: Edition, written: Sequence[Shard]) -> dict[str, Any]:
    """The YAML in front of the card: every config and split by name, so that nothing is left to guessing."""
    configs, about = [], []
    for config in _configs(written):
        splits = _of(written, config)
        names = dict.fromkeys(s.split for s in splits)
        configs.append(
            {
                "config_name": config,
                "default": config == "labelled",
                "data_files": [{"split": n, "path": f"{config}/{n}-*.parquet"} for n in names],
            }
        )
        info = datasets.DatasetInfo(features=huggingface.features(config))
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
        "pretty_name": edition.title,
        **licence.hub(edition.manifest.licence),
        "task_categories": ["image-segmentation"],
        "tags": [*(["synthetic"] if edition.synthetic else []), *TAGS],
        "configs": configs,
        "dataset_info": about,
    }


def _title(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    manifest = edition.manifest
    images = sum(m.images for m in edition.mice)
    part = "" if edition.whole else f" This is a part: {len(edition.mice)} of {len(manifest.files)} mice."
    lines = [f"# {edition.title}", ""]
    if edition.synthetic:
        lines += [f"> **{BANNER}** No number computed on them says anything about animals.", ""]
    kind = "synthetic mice" if edition.synthetic else "mice"
    expert = "the phantom's own geometry as masks" if edition.synthetic else "expert masks"
    lines += [
        f"{len(edition.mice)} {kind}, short-axis cine stacks of the heart ({images:,} 2D images), with {expert} of the "
        f"left ventricle in {sum(len(m.labelled_frames) for m in edition.mice)} frames: "
        + ", ".join(f"{int(label)} {meaning}" for label, meaning in MEANINGS.items())
        + f".{part}",
        "",
        "**A frame that nobody segmented has no mask.** It is null, never zeros: unlabelled is not background.",
        "",
        "For research, not for clinical use.",
    ]
    return "\n".join(lines)


def _use(edition: Edition, written: Sequence[Shard]) -> str:
    config, split = written[0].config, written[0].split
    return f"""## Use

```python
from datasets import load_dataset  # pip install datasets pillow; for "cines" also nibabel

data = load_dataset("{edition.name}", "{config}", split="{split}")
row = data[0]
row["image"], row["mask"]  # Pillow images, 16 and 8 bit
arrays = data.with_format("numpy", dtype=None)  # keeps uint16 and uint8; without dtype=None: int64
```

`load_dataset(..., streaming=True)` reads rows as they are needed. With `pip install 'mousecmr-data[huggingface]'`,
`mousecmr_data.adapters.huggingface.torch_samples(data)` gives PyTorch tensors several times faster."""


def _tables(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    rows = []
    for config in _configs(written):
        splits: dict[str, int] = {}
        for shard in _of(written, config):
            splits[shard.split] = splits.get(shard.split, 0) + shard.rows
        size = sum(s.bytes for s in _of(written, config))
        rows.append(
            [f"`{config}`", huggingface.ABOUT[config], ", ".join(f"{k} {v:,}" for k, v in splits.items()), _mb(size)]
        )
    return "## Configs\n\n" + _table(["config", "what it holds", "rows", "download"], rows)


def _columns(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    parts = ["## Columns"]
    for names in (("labelled", "slices"), ("cines",)):
        present = [c for c in names if c in _configs(written)]
        if present:
            rows = [[f"`{c.name}`", c.about] for c in huggingface.COLUMNS[present[0]]]
            parts.append(", ".join(f"`{c}`" for c in present) + "\n\n" + _table(["column", "meaning"], rows))
    parts.append("Slices are uncompressed TIFF, cines NIfTI, both without loss; Parquet compresses them (zstd).")
    return "\n\n".join(parts)


def _splits(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    if not edition.split_scheme:
        return "## Splits\n\nNone are published: all rows are in `unsplit`."
    scheme = edition.manifest.splits[edition.split_scheme]
    rows = [[huggingface.split_name(k), len(v)] for k, v in edition.splits.items()]
    text = " ".join(t for t in (scheme.description, scheme.caveat) if t)
    return f"## Splits\n\n`{scheme.name}`, by mouse and disjoint. {text}\n\n" + _table(["split", "mice"], rows)


def _groups(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    groups = edition.manifest.groups
    if not groups:
        return ""
    known, total = sum(m.phenotype != NOT_PUBLISHED for m in edition.mice), len(edition.mice)
    if known == 0:
        note = "Which mouse is in which group is not published."
    else:
        note = f"The group of {known} of the {total} mice here is known; see `phenotype`."
    rows = [[g.name, g.n_mice, g.source] for g in groups]
    return f"## Groups\n\n{note}\n\n" + _table(["group", "mice in the whole dataset", "source"], rows)


def _acquisition(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    rows = [
        [name.replace("_", " "), _constant(c.value), c.unit, c.source]
        for name, c in edition.manifest.acquisition.items()
    ]
    note = "Voxel sizes: " + "; ".join(dict.fromkeys(m.voxel_size_source for m in edition.mice)) + "."
    return f"## Acquisition\n\n{note}\n\n" + _table(["what", "value", "unit", "source"], rows) if rows else ""


def _sources(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    manifest = edition.manifest
    where = f"[{manifest.homepage}]({manifest.homepage})" if manifest.homepage else "no page"
    made = "made by the phantom of `mousecmr-data`" if edition.synthetic else "taken over unchanged, bit for bit"
    return f"""## Provenance and licence

Source: `{manifest.name}`, version `{manifest.version}`, {where}. Pixels and masks are {made}; each file of the source
and its checksum stands in `provenance.json`, the SHA-256 of each file here in `SHA256SUMS`. About the animals and the
study, by the ARRIVE 2.0 guidelines: `DATASHEET.md`. Machine-readable: `croissant.json` (Croissant 1.1),
`participants.tsv`. Licence: {manifest.licence} (`LICENSE`)."""


def _issues(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    issues = edition.manifest.known_issues
    return "## Known issues\n\n" + "\n".join(f"- **{i.title}.** {i.text}" for i in issues) if issues else ""


def _citing(edition: Edition, written: Sequence[Shard]) -> str:  # noqa: ARG001
    return f"## Citation\n\n```bibtex\n{bibtex(edition).strip()}\n```"


def _configs(written: Iterable[Shard]) -> list[Config]:
    present = {s.config for s in written}
    return [c for c in huggingface.CONFIGS if c in present]


def _of(written: Iterable[Shard], config: Config) -> list[Shard]:
    return [s for s in written if s.config == config]


def _constant(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", r"\|") for c in line) + " |" for line in lines)
