"""``mousecmr segment``: a lab's own mice segmented, measured and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.pipeline.batch import BatchEvent


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results. Mice that are done there already, with the same settings, are left as they are.",
)
@options.weights
@options.spacing
@click.option(
    "--axes",
    help="NIfTI: what the axes are, in the file's order: x column, y row, z slice, t frame, e.g. xyzt.",
)
@options.frame_time
@options.postprocessing
@options.engine
@options.region
@options.device
@options.batch_size
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Movie, montage and curve.")
@options.processes(1)
@options.cache
@options.as_json
def command(
    inputs: tuple[Path, ...],
    folder: Path,
    weights: str,
    spacing: tuple[float, float, float] | None,
    axes: str | None,
    frame_time: float | None,
    postprocessing: Any,
    engine: str,
    region: Any,
    device: str,
    batch_size: int,
    pictures: bool,
    workers: int,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Segment your own mice: masks on the images' own grid, volumes, EF, mass, quality flags, pictures.

    INPUTS are files, folders or zip archives of NIfTI, DICOM, Bruker 2dseq, Agilent FDF, or HDF5 in the
    dataset's layout. Each mouse gets a folder; tables over all of them are beside it. One mouse that cannot be
    read does not stop the rest. For research, not for clinical use.
    """
    from mousecmr_data.pipeline.batch import segment_batch
    from mousecmr_data.pipeline.config import SegmentConfig

    config = SegmentConfig(
        weights=weights, spacing=spacing, axes=axes, frame_time_ms=frame_time, postprocessing=postprocessing,
        engine=engine, device=device, batch_size=batch_size, region=region, pictures=pictures,
        cache=cache,
    )  # fmt: skip
    with _show_progress() as progress:
        result = segment_batch(inputs, folder, config, workers=workers, progress=progress)
    table = result.mice.astype(object).where(result.mice.notna(), None)
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    if as_json:
        output.print_json({"folder": folder, "mice": rows})
    else:
        _print_rows(rows, folder)
    if result.errors:
        for name, error in result.errors.items():
            click.secho(f"{name}: {error}", fg="red", err=True)
        raise SystemExit(1)


@contextmanager
def _show_progress() -> Iterator[Callable[[BatchEvent], None]]:
    """Show one line and one bar per mouse on standard error."""
    from mousecmr_data.pipeline.batch import LOADING_TEXT

    with ExitStack() as bars:
        advance: list[Callable[[int], None]] = []
        shown = 0

        def progress(event: BatchEvent) -> None:
            nonlocal shown
            if event.kind == "slices":
                if not advance:
                    advance.append(bars.enter_context(output.progress(event.name, event.total)))
                advance[0](event.done - shown)
                shown = event.done
                return
            bars.pop_all().close()
            advance.clear()
            shown = 0
            if event.kind == "loading":
                click.echo(LOADING_TEXT, err=True)
            if event.kind == "reading":
                click.echo(f"{event.name}: reading", err=True)
            if event.kind == "as before":
                click.echo(f"{event.name}: done before, left as it is", err=True)

        yield progress


def _print_rows(rows: list[dict[str, Any]], folder: Path) -> None:
    good = [r for r in rows if r["status"] != "failed"]
    for mark in dict.fromkeys(r["marks"] for r in good):
        click.secho(mark, fg="yellow", err=True)
    output.print_table(
        ["mouse", "EDV µL", "ESV µL", "SV µL", "EF %", "mass ED mg", "heart rate /min", "look at"],
        [
            [
                r["mouse"], r["edv_ul"], r["esv_ul"], r["sv_ul"], r["ef_percent"], r["mass_ed_mg"],
                r["heart_rate_bpm"], r["flags"],
            ]
            for r in good
        ],
        title=" ".join(dict.fromkeys(r["marks"] for r in good)) or None,
        note="–: missing. Flags are explained in flags.csv and docs/segment.md." if good else None,
    )  # fmt: skip
    click.echo(f"{len(good)} of {len(rows)} mice in {folder}")
