"""``mousecmr convert``: mice as a Zarr store that reads many times faster, or as image files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@click.option("--split", help="Only the mice of this split.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["zarr", "nifti", "nrrd", "mha", "nnunet"]),
    default="zarr",
    help="zarr: a store; nifti, nrrd, mha: one folder per mouse; nnunet: an nnU-Net dataset of the labelled frames. "
    "All but zarr need -o.",
)
@click.option(
    "--protocol",
    metavar="NAME[/PART]",
    help="nnunet: the mice of a protocol of the benchmark, such as internal or few/mice-05-draw-1; those that are "
    "tested have images only.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=options.PATH,
    help="Write a new store here, to keep or to share. Default: fill the layout cache that load() uses.",
)
@options.processes(None)
@options.as_json
def command(
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    split: str | None,
    kind: str,
    protocol: str | None,
    path: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Convert MICE (default: all) to Zarr v3: one group per mouse, arrays (frame, slice, y, x).

    Mice that were converted before, from the same file, are left as they are. With --to nifti, nrrd or mha, the mice
    are written as image files instead, with --to nnunet as an nnU-Net dataset (-o Dataset130_MouseCMR), also of a
    protocol of the benchmark (--protocol).
    """
    from mousecmr_data import api
    from mousecmr_data.dataset.cohort import fill_layout_cache, write_store

    if kind != "zarr" and (path is None or workers is not None):
        raise click.UsageError(f"--to {kind} writes new files, in one process: give -o FOLDER, and no --workers.")
    if kind != "zarr":
        module = {"nrrd": "nrrd", "mha": "SimpleITK"}.get(kind, "nibabel")
        require_extra("metaimage" if kind == "mha" else "formats", "nibabel", module)
    chosen: Sequence[str] = mice
    further = 0  # mice that are only tested
    if protocol:
        from mousecmr_data.evaluation.protocols import find_part, write_nnunet_part

        if kind != "nnunet" or mice or split:
            raise click.UsageError("--protocol says which mice: give --to nnunet, and neither MICE nor --split.")
        followed, part = find_part(protocol)
        followed.check_source(source)
        chosen, further = part.train + part.validation, sum(len(c.mice) for c in part.conditions)
    cohort = api.load(split, mice=chosen or None, source=source, cache=cache)
    workers = workers or os.cpu_count() or 1
    with output.progress(f"converting {cohort.source.name}", len(cohort) + further) as advance:
        if path and protocol:
            folder = write_nnunet_part(followed, part, source, path, cache=cache, progress=lambda _: advance(1))
        elif path is None:
            folder = fill_layout_cache(cohort, workers, lambda _: advance(1))
        elif kind == "zarr":
            folder = write_store(cohort, path, workers, lambda _: advance(1))
        else:
            from mousecmr_data.export.nifti import FILE_ENDINGS, write_nifti_dataset, write_nnunet_dataset

            if kind == "nnunet":
                folder = write_nnunet_dataset(cohort, path, lambda _: advance(1))
            else:
                folder = write_nifti_dataset(cohort, path, lambda _: advance(1), FILE_ENDINGS[kind])
    # The layout cache may hold other mice, too.
    folders = [folder / m for m in cohort.mice] if kind == "zarr" else [folder]
    size = sum(f.stat().st_size for part in folders for f in part.rglob("*") if f.is_file())
    report = {"mice": cohort.mice, "synthetic": bool(cohort.list_synthetic()), "bytes": size}
    text = f"{format_count(len(cohort), 'mouse')} in {folder}: {size / 1e6:.0f} MB"
    if kind == "zarr":
        raw = sum(ds["image"].nbytes + (ds["mask"].nbytes if "mask" in ds else 0) for ds in cohort.values())
        report = {"store": folder, **report, "raw_bytes": raw}
        text += f" on disk; {raw / 1e6:.0f} MB in memory"
    else:
        report = {"folder": folder, **report, "format": kind}
    if protocol:
        report |= {"protocol": {**followed.reference, "part": part.name}}
        tested = {c.source or source for c in part.conditions}
        report["synthetic"] = bool(report["synthetic"]) or any(api.resolve_manifest(s).synthetic for s in tested)
        text += f"; {len(part.train)} train, {len(part.validation)} validate, and imagesTs has {further} to segment"
    if as_json:
        output.print_json(report)
        return
    output.warn_synthetic(bool(report["synthetic"]))
    click.echo(f"{text}.")
    if path and kind == "zarr":
        click.echo(f"Open it with mousecmr_data.load(source={str(folder)!r}).")
