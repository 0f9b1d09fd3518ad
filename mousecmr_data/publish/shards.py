"""The Parquet files of an edition: which there are, and how one is written, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Config
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.errors import MissingExtraError
from mousecmr_data.publish.edition import Edition, Mouse

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as e:
    raise MissingExtraError.of("pyarrow", "huggingface") from e

ROW_GROUP: dict[Config, int] = {"labelled": 32, "slices": 32, "cines": 1}
"""Rows that a reader gets at once: 32 slices are about 4 MB, so that a stream starts soon."""
MICE: dict[Config, int] = {"labelled": 4, "slices": 4, "cines": 4}
"""Mice a file: about 100 MB, so that what is broken off costs little."""
_FEW_VALUES = ["mouse", "phase", "split", "phenotype"]
"""Columns of few different texts: a dictionary pays."""


@dataclass(frozen=True)
class Plan:
    """A file to write."""

    config: Config
    split: str
    """As ``datasets`` names it."""
    path: str
    """Below the folder, with forward slashes."""
    mice: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """A file that was written."""

    path: str
    config: Config
    split: str
    mice: tuple[str, ...]
    rows: int
    bytes: int
    memory: int
    """Bytes of the rows in memory."""
    sha256: str
    identity: str
    """What it was made from; see ``adapters.huggingface.identity``."""


def plans(edition: Edition) -> list[Plan]:
    """The files of an edition, config by config and split by split."""
    found = []
    for config in huggingface.CONFIGS:
        for split, mice in edition.splits.items():
            names = [m.name for m in mice if _has_rows(m, config)]
            groups = [tuple(names[i : i + MICE[config]]) for i in range(0, len(names), MICE[config])]
            name = huggingface.split_name(split)
            for i, group in enumerate(groups):
                path = f"{config}/{name}-{i:05d}-of-{len(groups):05d}.parquet"
                found.append(Plan(config, name, path, group))
    return found


def write(plan: Plan, cohort: Cohort, folder: Path) -> Shard:
    """Write the file of ``plan`` below ``folder``: temporary name, then renamed."""
    identity = huggingface.identity(cohort, plan.config, plan.mice)
    schema = huggingface.features(plan.config).arrow_schema  # says to ``datasets`` what the columns are
    target = folder / plan.path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    rows = memory = 0
    try:
        with pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            use_dictionary=[name for name in _FEW_VALUES if pa.types.is_string(schema.field(name).type)],
            write_statistics=[name for name in schema.names if name not in ("image", "mask")],
        ) as writer:
            source = huggingface.generate(plan.mice, cohort, plan.config)
            for group in _groups(source, ROW_GROUP[plan.config]):
                table = pa.Table.from_pylist(group, schema)
                writer.write_table(table, row_group_size=len(group))
                rows, memory = rows + len(group), memory + table.nbytes
        sha256 = digest(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    size = target.stat().st_size
    return Shard(plan.path, plan.config, plan.split, plan.mice, rows, size, memory, sha256, identity)


def digest(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_rows(mouse: Mouse, config: Config) -> bool:
    return config != "labelled" or bool(mouse.labelled_frames)


def _groups(rows: Iterable[dict[str, object]], size: int) -> Iterator[list[dict[str, object]]]:
    source = iter(rows)
    while group := list(islice(source, size)):
        yield group
