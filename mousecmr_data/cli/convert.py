"""``mousecmr convert``: mice into a Zarr store that reads many times faster, or into other people's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@click.option("--split", help="Only the mice of this split.")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["zarr", "nifti", "nnunet"]),
    default="zarr",
    show_default=True,
    help="zarr: a store; nifti: a folder a mouse; nnunet: an nnU-Net dataset of the labelled frames. The last two "
    "need -o.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    help="Write a new store here, to keep or share. Default: fill the layout cache that load() uses.",
)
@options.processes(None)
@options.as_json
def command(
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    split: str | None,
    kind: str,
    path: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Convert MICE (all if none is named) to Zarr v3: a group a mouse, arrays (frame, slice, y, x).

    Mice that are converted already, from the same file, are left as they are. With --to, the mice are written
    as NIfTI files or as an nnU-Net dataset instead (-o Dataset130_MouseCMR).
    """
    from mousecmr_data import api
    from mousecmr_data.dataset.cohort import fill_layout_cache, write_store

    if kind != "zarr" and (path is None or workers is not None):
        raise click.UsageError(f"--to {kind} writes new files, in one process: give -o FOLDER, and no --workers.")
    cohort = api.load(split, mice=mice or None, source=source, cache=cache)
    if kind != "zarr":
        assert path is not None  # noqa: S101 (asked for above)
        _export(cohort, kind, path, as_json)
        return
    with output.progress(f"converting {cohort.source.name}", len(cohort)) as advance:
        workers = workers or os.cpu_count() or 1
        if path:
            folder = write_store(cohort, path, workers, lambda _: advance(1))
        else:
            folder = fill_layout_cache(cohort, workers, lambda _: advance(1))
    stored = sum(f.stat().st_size for m in cohort.mice for f in (folder / m).rglob("*") if f.is_file())
    raw = sum(ds["image"].nbytes + (ds["mask"].nbytes if "mask" in ds else 0) for ds in cohort.values())
    if as_json:
        output.print_json(
            {"store": folder, "mice": cohort.mice, "synthetic": cohort.synthetic, "bytes": stored, "raw_bytes": raw}
        )
        return
    output.warn_synthetic(cohort.synthetic)
    click.echo(f"{len(cohort)} mice in {folder}: {stored / 1e6:.0f} MB on disk; {raw / 1e6:.0f} MB in memory.")
    if path:
        click.echo(f"Open it with mousecmr_data.load(source={str(folder)!r}).")


def _export(cohort: Cohort, kind: str, path: Path, as_json: bool) -> None:
    from mousecmr_data.export.nifti import write_nifti_dataset, write_nnunet_dataset

    write = write_nifti_dataset if kind == "nifti" else write_nnunet_dataset
    with output.progress(f"writing {cohort.source.name}", len(cohort)) as advance:
        folder = write(cohort, path, lambda _: advance(1))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if as_json:
        output.print_json(
            {"folder": folder, "mice": cohort.mice, "synthetic": cohort.synthetic, "bytes": size, "format": kind}
        )
        return
    output.warn_synthetic(cohort.synthetic)
    click.echo(f"{len(cohort)} mice in {folder}: {size / 1e6:.0f} MB.")
