"""``mousecmr segment``: your own scans segmented, measured and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.environment import require_engine, require_extra
from mousecmr_data.cli import options, output
from mousecmr_data.cli.predict import open_client

if TYPE_CHECKING:
    from mousecmr_data.pipeline.batch import BatchEvent


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=options.PATH)
@options.output_folder(
    "Folder for the results. Mice that were segmented there before, with the same settings, are left as they are.",
    required=True,
)
@options.spacing
@options.axes
@click.option(
    "--frames",
    type=click.IntRange(2),
    metavar="N",
    help="Frames of each slice, where a file stores slices and frames in one axis.",
)
@click.option("--fill", type=float, metavar="VALUE", help="Value for pixels that are NaN or infinite, e.g. 0.")
@options.frame_time
@options.network
@click.option("--images/--no-images", default=True, help="Write the images beside the masks, for viewers and editors.")
@click.option("--pictures/--no-pictures", default=True, help="Write movie, montage and volume curve.")
@click.option("--dicom-seg/--no-dicom-seg", default=True, help="For DICOM input, also write masks as DICOM SEG.")
@click.option("--matlab", is_flag=True, help="Also write masks and tables of each mouse as a MATLAB file.")
@click.option(
    "--keep-names",
    is_flag=True,
    help="Keep patient names, identifiers and birth dates in DICOM SEG files; by default a pseudonym replaces them.",
)
@options.overwrite
@options.processes(1)
@options.scheduler
@options.cache
@options.as_json
def command(
    inputs: tuple[Path, ...],
    folder: Path,
    spacing: options.Spacing | None,
    axes: str | None,
    frames: int | None,
    fill: float | None,
    frame_time: float | None,
    images: bool,
    pictures: bool,
    dicom_seg: bool,
    matlab: bool,
    keep_names: bool,
    overwrite: bool,
    workers: int,
    scheduler: str | None,
    cache: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Segment your own scans: masks on the grid of the images, volumes, EF, mass, quality flags, pictures.

    INPUTS are files, folders or zip archives of NIfTI, NRRD, MetaImage, Analyze, DICOM, Bruker 2dseq, Agilent FDF, or
    HDF5 in the dataset's layout. The output has one folder per mouse, and tables over all mice. A mouse that cannot be
    read does not stop the others. For research, not for clinical use.
    """
    require_engine()
    require_extra("segment", "nibabel", *(("matplotlib",) if pictures else ()))
    from mousecmr_data._utils.parallel import start_reader

    start_reader()  # while this process imports what computes networks, which takes longer
    from mousecmr_data.formats.masks import describe_left_out
    from mousecmr_data.pipeline.batch import segment_batch
    from mousecmr_data.pipeline.config import SegmentConfig

    config = SegmentConfig(
        spacing=spacing,
        axes=axes,
        frames=frames,
        fill=fill,
        frame_time_ms=frame_time,
        images=images,
        pictures=pictures,
        dicom_seg=dicom_seg,
        keep_names=keep_names,
        matlab=matlab,
        cache=cache,
        **network,
    )
    with open_client(scheduler) as client, _show_progress() as progress:
        result = segment_batch(
            inputs, folder, config, overwrite=overwrite, workers=workers, client=client, progress=progress
        )
    table = result.mice.astype(object).where(result.mice.notna(), None)
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    left_out = describe_left_out(result.left_out)
    for text in left_out:
        click.echo(text, err=True)
    if left_out:
        click.echo("To segment one of them, give the file itself.", err=True)
    if as_json:
        output.print_json({"folder": folder, "mice": rows, "left_out": [vars(file) for file in result.left_out]})
    else:
        _print_rows(rows, folder)
    for name, error in result.errors.items():
        click.secho(f"{name}: {error}", fg="red", err=True)
    if result.errors:
        raise SystemExit(1)


COLUMNS = {
    "mouse": "mouse", "edv_ul": "EDV µL", "esv_ul": "ESV µL", "sv_ul": "SV µL", "ef_percent": "EF %",
    "mass_ed_mg": "mass ED mg", "volume_ul": "volume µL", "mass_mg": "mass mg", "heart_rate_bpm": "heart rate /min",
    "flags": "flags",
}  # fmt: skip
"""Columns of the printed table by name in mice.csv, with their headings."""


@contextmanager
def _show_progress() -> Iterator[Callable[[BatchEvent], None]]:
    """Show a line per mouse, and on standard error one bar of the whole batch with the time left."""
    from mousecmr_data.pipeline.batch import LOADING_TEXT, open_batch_bar

    with open_batch_bar(True) as draw:

        def progress(event: BatchEvent) -> None:
            draw(event)
            texts = {
                "loading": LOADING_TEXT,
                "reading": f"{event.name}: reading",
                "as before": f"{event.name}: segmented before, left as it is",
                "measured again": f"{event.name}: its masks were edited; measured again",
            }
            if event.kind in texts:
                click.echo(texts[event.kind], err=True)

        yield progress


def _print_rows(rows: list[dict[str, Any]], folder: Path) -> None:
    import pandas as pd

    from mousecmr_data.pipeline.analysis import SINGLE_FRAME_NUMBERS

    rows_done = [r for r in rows if r["status"] != "failed"]
    marks = list(dict.fromkeys(r["marks"] for r in rows_done))
    for mark in marks:
        click.secho(mark, fg="yellow", err=True)
    columns = [c for c in COLUMNS if c not in SINGLE_FRAME_NUMBERS or any(pd.notna(r.get(c)) for r in rows_done)]
    output.print_table(
        [COLUMNS[c] for c in columns],
        [[r.get(c) for c in columns] for r in rows_done],
        title=" ".join(marks) or None,
        note="–: missing. Flags are explained in flags.csv and docs/segment.md." if rows_done else None,
    )
    click.echo(f"{len(rows_done)} of {len(rows)} mice in {folder}")
