"""``mousecmr measure``: volumes, ejection fraction and mass from the masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.text import SYNTHETIC_DATA
from mousecmr_data.cli import options, output
from mousecmr_data.errors import ArgumentError

if TYPE_CHECKING:
    from mousecmr_data.metrics.volumes import Measures


@click.command()
@click.argument("mice", nargs=-1, required=True)
@options.source
@options.cache
@options.spacing
@options.axes
@options.labels("the masks of files")
@click.option("--ed", type=click.IntRange(0), help="Frame of end-diastole, from 0; also needs --es.")
@click.option("--es", type=click.IntRange(0), help="Frame of end-systole, from 0.")
@click.option("--find-phases", is_flag=True, help="Find ED and ES on the volume curve of the masks, frame by frame.")
@click.option(
    "--result",
    type=options.FOLDER,
    help="The folder of a mouse of `mousecmr segment` whose masks these files are, exported by another program.",
)
@click.option("--update", is_flag=True, help="Result folders: also bring their masks, tables and pictures up to date.")
@click.option("--reader", metavar="NAME", help="Who corrected the masks; noted in the result with --update.")
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
    ed: int | None,
    es: int | None,
    find_phases: bool,
    result: Path | None,
    update: bool,
    reader: str | None,
    csv: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print EDV, ESV, SV, EF and LV mass of MICE: names (Mouse4), files of masks (NIfTI, NRRD, MetaImage, DICOM SEG,
    HDF5), or folders of `mousecmr segment`, whose masks may have been edited since.
    """
    from mousecmr_data.formats.masks import find_result
    from mousecmr_data.pipeline.measure import measure

    folders = [Path(m) for m in mice if not Path(m).is_file() and find_result(m)]
    if csv:
        from mousecmr_data._utils.tables import check_table

        known = [] if folders or result else options.find_inputs(source, cache, *mice)
        check_table(csv, overwrite=overwrite, inputs=[*known, *folders])
    words = [str(path) for m in mice for path in _list_mice(m)]
    groups = [(result, words)] if result else [(Path(word), [word]) for word in words] if update else []
    results = [_review(folder, files, (ed, es), find_phases, update, reader, labels) for folder, files in groups]
    reading: Any = {"source": source, "cache": cache, "spacing": spacing, "labels": labels, "axes": axes}
    results += [measure(w, ed=ed, es=es, find_phases=find_phases, **reading) for w in words if not groups]
    written = []
    if csv:
        import pandas as pd

        from mousecmr_data._utils.tables import write_table

        tables = [r.frames.assign(synthetic=r.synthetic) for r in results]
        for r, table in zip(results, tables, strict=True):
            table.insert(0, "mouse", r.mouse)
        written = write_table(csv, pd.concat(tables, ignore_index=True), "frames", overwrite=overwrite)
    if as_json:
        output.print_json([{**r.to_dict(), "frames": r.list_frames()} for r in results])
        return
    synthetic = any(r.synthetic for r in results)
    output.warn_synthetic(synthetic)
    missing = any(math.isnan(r.ef_percent) for r in results)
    output.print_table(
        ["mouse", "EDV µL", "ESV µL", "SV µL", "EF %", "mass ED mg", "mass ES mg", "flags"],
        [
            [r.mouse, r.edv_ul, r.esv_ul, r.sv_ul, r.ef_percent, r.mass_ed_mg, r.mass_es_mg, " ".join(r.flags)]
            for r in results
        ],
        title=SYNTHETIC_DATA if synthetic else None,
        note="–: missing, because there is no ED/ES pair of labelled frames" if missing else None,
    )
    columns = ("frame", "time_ms", "phase", "blood_pool_ul", "mass_mg")
    output.print_table(
        ["mouse", "frame", "time ms", "phase", "blood pool µL", "myocardium mg"],
        [[r.mouse, *(f[c] for c in columns)] for r in results for f in r.list_frames()],
        title="labelled frames" + (f"; {SYNTHETIC_DATA}" if synthetic else ""),
    )
    for voxel, origin in sorted({(r.voxel_size_mm, r.voxel_size_source) for r in results}):
        click.echo(f"voxel size {' x '.join(f'{v:g}' for v in voxel)} mm (z, y, x): {origin}")
    for file in written:
        click.echo(f"written: {file}")


def _list_mice(word: str) -> list[Path | str]:
    """Return the folders of the mice in a folder with the results of several; else the word itself."""
    from mousecmr_data.formats.masks import SEGMENT_RECORDS

    record, manifest = SEGMENT_RECORDS
    if (Path(word) / manifest).is_file():
        return [path.parent for path in sorted(Path(word).glob(f"*/{record}"))] or [word]
    return [word]


def _review(
    folder: Path,
    words: list[str],
    pair: tuple[int | None, int | None],
    find_phases: bool,
    update: bool,
    reader: str | None,
    labels: str | None,
) -> Measures:
    """Measure a result with the masks in the files ``words``, unless they are the folder itself; write it if asked."""
    from mousecmr_data.formats.masks import find_result
    from mousecmr_data.pipeline import review
    from mousecmr_data.schema.labels import parse_label_map

    found = find_result(folder)
    if found is None:
        raise ArgumentError(
            f"{folder} is no result of mousecmr segment.", "the folder of a mouse, with its result.json"
        )
    name: dict[str, Any] = {"reader": reader} if reader else {}
    opened = review.open_result(found, **name)
    for path in (Path(word) for word in words if find_result(word) != found):
        review.take_file(opened, path, labels=parse_label_map(labels) if labels else None, **name)
    opened.choose_phases(*pair, find=find_phases)
    if not update:
        return opened.analyze().to_measures()
    from mousecmr_data.pipeline.batch import MANIFEST_FILE, update_tables  # imports what segmenting needs

    measures = review.update_result(opened).to_measures()
    if (found.parent / MANIFEST_FILE).is_file():
        update_tables(found.parent)
    return measures
