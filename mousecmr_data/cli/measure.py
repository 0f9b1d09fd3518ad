"""``mousecmr measure``: volumes, ejection fraction and mass from the masks."""

from __future__ import annotations

import math
from pathlib import Path

import click

from mousecmr_data._utils.text import SYNTHETIC_DATA
from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1, required=True)
@options.source
@options.cache
@options.spacing
@options.axes
@options.labels("the masks of files")
@click.option(
    "--csv", type=options.FILE, help="Also write the rows of the frames here, and as a workbook (.xlsx) beside it."
)
@options.overwrite_file
@options.as_json
def command(
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    spacing: options.Spacing | None,
    axes: str | None,
    labels: str | None,
    csv: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print EDV, ESV, SV, EF and LV mass of MICE: names (Mouse4), HDF5 files of the dataset's layout, or files of
    masks (NIfTI, NRRD, MetaImage).
    """
    import pandas as pd

    from mousecmr_data import api
    from mousecmr_data._utils.tables import check_table, write_table
    from mousecmr_data.metrics.volumes import measure

    if csv:
        check_table(csv, overwrite=overwrite, inputs=options.find_inputs(source, cache, *mice))
    opened = (api.open_mouse(m, source=source, cache=cache, spacing=spacing, axes=axes, labels=labels) for m in mice)
    results = [measure(ds) for ds in opened]
    frames = pd.concat([r.frames.assign(mouse=r.mouse, synthetic=r.synthetic) for r in results], ignore_index=True)
    written = []
    if csv:
        written = write_table(csv, frames[["mouse", *frames.columns.drop("mouse")]], "frames", overwrite=overwrite)
    if as_json:
        output.print_json([{**r.to_dict(), "frames": r.frames.to_dict("records")} for r in results])
        return
    synthetic = any(r.synthetic for r in results)
    output.warn_synthetic(synthetic)
    missing = any(math.isnan(r.ef_percent) for r in results)
    output.print_table(
        ["mouse", "EDV µL", "ESV µL", "SV µL", "EF %", "mass ED mg", "mass ES mg"],
        [[r.mouse, r.edv_ul, r.esv_ul, r.sv_ul, r.ef_percent, r.mass_ed_mg, r.mass_es_mg] for r in results],
        title=SYNTHETIC_DATA if synthetic else None,
        note="–: missing, because there is no ED/ES pair of labelled frames" if missing else None,
    )
    output.print_table(
        ["mouse", "frame", "time ms", "phase", "blood pool µL", "myocardium mg"],
        [[f.mouse, f.frame, f.time_ms, f.phase, f.blood_pool_ul, f.mass_mg] for f in frames.itertuples()],
        title="labelled frames" + (f"; {SYNTHETIC_DATA}" if synthetic else ""),
    )
    for voxel, origin in sorted({(r.voxel_size_mm, r.voxel_size_source) for r in results}):
        click.echo(f"voxel size {' x '.join(f'{v:g}' for v in voxel)} mm (z, y, x): {origin}")
    for file in written:
        click.echo(f"written: {file}")
