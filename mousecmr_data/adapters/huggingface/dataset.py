"""Make a ``datasets.Dataset`` or a streamed ``IterableDataset`` from a cohort."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import datasets

from mousecmr_data._utils.checksums import CHECKSUMS_FILE, has_checksums, report_damage, write_checksums
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.adapters.huggingface.features import Config, Row, check_config, count_rows, make_features, make_rows
from mousecmr_data.dataset.cohort import Cohort, check_is_cohort
from mousecmr_data.dataset.memmap import get_default_folder, read_without_converting
from mousecmr_data.errors import UnlabelledError

ROWS_FORMAT = 2
"""Increase this number when the rows of the same mice change, or their files."""


@overload
def dataset(
    cohort: Cohort, config: Config = "labelled", *, streaming: Literal[False] = False, cache: str | Path | None = None
) -> datasets.Dataset: ...
@overload
def dataset(
    cohort: Cohort, config: Config = "labelled", *, streaming: Literal[True], cache: str | Path | None = None
) -> datasets.IterableDataset: ...
def dataset(
    cohort: Cohort, config: Config = "labelled", *, streaming: bool = False, cache: str | Path | None = None
) -> datasets.Dataset | datasets.IterableDataset:
    """Return the table ``config`` of ``cohort``; its columns are listed in docs/huggingface.md.

    Parameters
    ----------
    config
        "labelled": the 2D slices that an expert segmented; "slices": all 2D slices, ``mask`` is None for frames
        that were not segmented; "cines": one row per mouse, whole cines of any number of slices and frames.
    streaming
        False: a ``Dataset``, written once as an Arrow file, checked and mapped into memory. True: an
        ``IterableDataset`` with one shard per mouse, which reads each mouse when it is reached; nothing is written.
    cache
        Folder of the Arrow files. Default: in the cohort's own cache.

    Raises ArgumentError (no such table), UnlabelledError (the table would be empty).
    """
    check_is_cohort(cohort, "dataset()")
    config = check_config(config)
    cohort.source.prepare(cohort.mice)
    names = [name for name, ds in cohort.items() if count_rows(ds, config)]
    if not names:
        raise UnlabelledError(f"No mouse has a row in {config!r}.", "a cohort with labelled frames", "config='slices'")
    features = make_features(config)
    arguments: dict[str, Any] = {"mice": names, "cohort": cohort, "config": config}
    splits = {make_split_name(str(cohort[name].attrs["split"])) for name in names}
    split = datasets.NamedSplit(splits.pop() if len(splits) == 1 else "mixed")
    if streaming:
        return datasets.IterableDataset.from_generator(generate_rows, features, arguments, split)
    fingerprint = compute_fingerprint(cohort, config, names)[:32]
    root = Path(cache or get_default_folder(cohort).with_name(f"huggingface-{ROWS_FORMAT}"))
    folder = root / fingerprint
    with hold_lock(root, fingerprint):
        if folder.exists() and not has_checksums(folder):
            if (folder / CHECKSUMS_FILE).exists():  # else a process was killed while it wrote the folder
                report_damage(folder)
            shutil.rmtree(folder)
        data = datasets.Dataset.from_generator(
            generate_rows, features, str(folder), gen_kwargs=arguments, split=split, fingerprint=fingerprint
        )
        if not (folder / CHECKSUMS_FILE).exists():
            write_checksums(folder, (".arrow", ".json"))
    return data


def generate_rows(mice: Sequence[str], cohort: Cohort, config: Config) -> Iterator[Row]:
    """Yield the rows of ``mice``; each mouse is read once, without converting it into the layout cache."""
    for mouse in mice:
        yield from make_rows(read_without_converting(cohort, mouse), config)


def make_split_name(split: str | None) -> str:
    """Return the name of a split in ``datasets``, where "none" is not a valid name."""
    return "unsplit" if split in (None, "none", "") else str(split)


def compute_fingerprint(cohort: Cohort, config: Config, mice: Sequence[str]) -> str:
    """Return 64 hex digits that change with everything the rows of ``mice`` depend on: their files (size and
    modification time; for a store, the attributes of its mice), split, phenotype, and the format of this code."""
    origins = []
    for mouse in mice:
        path = cohort.source.get_path(mouse)
        stat = path.stat() if path.is_file() else None
        attrs = {name: str(value) for name, value in cohort[mouse].attrs.items()}
        origins.append([attrs, [stat.st_size, stat.st_mtime_ns] if stat else None])
    text = json.dumps([ROWS_FORMAT, datasets.__version__, config, cohort.source.version, origins], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
