"""``mousecmr predict``: segment mice, or a whole cohort, with a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data.cli import options, output
from mousecmr_data.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from mousecmr_data.pipeline.predict import MiceProtocol, PredictResult

SYNTHETIC_TRAINING = "These weights were trained on synthetic mice only. For research, not for clinical use."


@click.command()
@click.argument("mice", nargs=-1)
@click.option(
    "--weights",
    required=True,
    help="mousecmr-9.4T-unet3plus (the authors', fetched), phantom-small (ships with the package, trained on "
    "synthetic mice only), or a weights file. Never chosen for you.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("predicted"),
    show_default=True,
    help="Folder for the segmented mice, one HDF5 file each in the dataset's layout.",
)
@click.option("--split", help="Only the mice of this split: train, validation or test.")
@options.postprocessing
@options.engine
@options.region("full")
@options.device
@options.batch
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes, a mouse each.")
@click.option("--dask", "scheduler", metavar="ADDRESS", help="Use the workers of this dask scheduler instead.")
@click.option("--redo", is_flag=True, help="Segment again what was segmented with other settings.")
@options.source
@options.cache
@options.voxel_size
@options.as_json
def command(
    mice: tuple[str, ...],
    weights: str,
    folder: Path,
    split: str | None,
    postprocessing: Any,
    engine: str,
    region: Any,
    device: str,
    batch: int,
    workers: int,
    scheduler: str | None,
    redo: bool,
    source: str,
    cache: Path | None,
    voxel_size: tuple[float, float, float] | None,
    as_json: bool,
) -> None:
    """Segment every frame of MICE: names (Mouse4) or HDF5 files of the dataset's layout; all of a source or a
    split if none is named.

    What is segmented already, with the same settings, is not done again, so a run that was stopped goes on.
    Where a mouse has expert masks, the overlap (Dice) with them is shown. `mousecmr measure` and
    `mousecmr show` take the files that this writes.
    """
    from mousecmr_data.pipeline.predict import PredictConfig, get_predictor, predict_cohort

    how = PredictConfig(
        weights, engine, region, postprocessing, device, batch_size=batch, cache=None if cache is None else str(cache)
    )
    origin = get_predictor(how, how.sha256()).origin
    chosen = _chosen(mice, split, source, cache, voxel_size)
    every = [name for group in chosen for name in group.mice]
    made: list[PredictResult] = []
    with _client(scheduler) as client, output.progress("segmenting", len(every)) as advance:
        for group in chosen:
            so_far = 0.0

            def share(part: float) -> None:
                nonlocal so_far
                so_far += part
                advance(part)

            def whole(_: str) -> None:
                nonlocal so_far
                advance(1.0 - so_far)
                so_far = 0.0

            made += predict_cohort(
                group, folder, how, redo=redo, workers=workers, client=client, done=whole, progress=share
            )
    failed = [m for m in made if m.state == "failed"]
    rows = [row for m in made for row in m.dice]
    synthetic = any(m.synthetic for m in made)
    if as_json:
        about = {"weights": origin.name, "trained_on": origin.trained_on, "limits": origin.limits}
        written = [m.path for m in made if m.path]
        each = [{k: v for k, v in vars(m).items() if k not in ("dice", "synthetic")} for m in made]
        output.print_json({**about, "synthetic": synthetic, "written": written, "dice": rows, "mice": each})
    else:
        output.warn_synthetic(synthetic)
        if origin.synthetic_training:
            click.secho(SYNTHETIC_TRAINING, fg="yellow", err=True)
        _report(made, rows)
    if failed:
        listed = "\n".join(f"{m.mouse}: {m.error}" for m in failed)
        done = f"the others are in {folder}" if len(failed) < len(made) else "nothing was segmented"
        raise click.ClickException(f"{len(failed)} of {len(made)} mice failed; {done}.\n{listed}")


def _report(made: list[PredictResult], rows: list[dict[str, Any]]) -> None:
    if rows:
        click.echo("Dice overlap with the masks of the labelled frames:")
        output.print_table(
            ["mouse", "frame", "phase", "LV myocardium", "LV blood pool"],
            [
                [r["mouse"], r["frame"], r["phase"], f"{r['dice_myocardium']:.3f}", f"{r['dice_blood_pool']:.3f}"]
                for r in rows
            ],
        )
    for m in made:
        if m.region.get("region_reason"):
            click.echo(f"{m.mouse}: whole field, since {m.region['region_reason']}")
    for m in made:
        if m.path:
            click.echo(f"{'written' if m.state == 'segmented' else 'as before'}: {m.path}")


def _chosen(
    mice: tuple[str, ...],
    split: str | None,
    source: str,
    cache: Path | None,
    voxel_size: tuple[float, float, float] | None,
) -> list[MiceProtocol]:
    """What was named: mice of the source, and files."""
    from mousecmr_data import api
    from mousecmr_data.pipeline.predict import HDF5Files

    paths = tuple(m for m in mice if Path(m).suffix or Path(m).is_file() or len(Path(m).parts) > 1)
    names = [m for m in mice if m not in paths]
    if voxel_size and not paths:
        raise ArgumentError("A voxel size was given, but no file.", "sizes belong to a file", "give its path")
    chosen: list[MiceProtocol] = []
    if names or not paths:
        chosen.append(api.load(split, mice=names or None, source=source, cache=cache))
    if paths:
        chosen.append(HDF5Files(tuple(dict.fromkeys(paths)), voxel_size))
    return chosen


@contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """A client of the dask scheduler at ``address``; None without one."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as e:
        raise MissingExtraError.of("distributed", "dask") from e
    with Client(address) as client:  # type: ignore[no-untyped-call]
        yield client
