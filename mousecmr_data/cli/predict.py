"""``mousecmr predict``: segment mice, or a whole cohort, into HDF5 files of the dataset's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.notices import RESEARCH_ONLY, SYNTHETIC_WEIGHTS
from mousecmr_data.cli import options, output
from mousecmr_data.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from mousecmr_data.pipeline.batch import BatchEvent, MiceProtocol, PredictResult


@click.command()
@click.argument("mice", nargs=-1)
@options.weights
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
@options.region
@options.device
@options.batch_size
@options.processes(1)
@click.option("--dask", "scheduler", metavar="ADDRESS", help="Use the workers of this dask scheduler instead.")
@click.option("--overwrite", is_flag=True, help="Segment again what was segmented with other settings.")
@options.source
@options.cache
@options.spacing
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
    batch_size: int,
    workers: int,
    scheduler: str | None,
    overwrite: bool,
    source: str,
    cache: Path | None,
    spacing: tuple[float, float, float] | None,
    as_json: bool,
) -> None:
    """Segment every frame of MICE: names (Mouse4) or HDF5 files of the dataset's layout; all of a source or a
    split if none is named.

    What is segmented already, with the same settings, is not done again, so a run that was stopped goes on.
    Where a mouse has expert masks, the overlap (Dice) with them is shown. `mousecmr measure` and
    `mousecmr show` take the files that this writes.
    """
    from mousecmr_data.pipeline.batch import load_predictor, predict_cohort
    from mousecmr_data.pipeline.config import PredictConfig

    config = PredictConfig(
        weights=weights, engine=engine, region=region, postprocessing=postprocessing, device=device,
        batch_size=batch_size, cache=cache,
    )  # fmt: skip
    origin = load_predictor(config)[0].origin
    groups = _select_mice(mice, split, source, cache, spacing)
    results: list[PredictResult] = []
    with (
        _open_client(scheduler) as client,
        output.progress("segmenting", sum(len(g.mice) for g in groups)) as advance,
    ):
        done = 0.0

        def progress(event: BatchEvent) -> None:
            nonlocal done
            share = event.done / event.total if event.kind == "slices" else 1.0
            advance(share - done)
            done = share if event.kind == "slices" else 0.0

        for group in groups:
            results += predict_cohort(
                group, folder, config, overwrite=overwrite, workers=workers, client=client, progress=progress
            )
    failed = [r for r in results if r.error]
    rows = [row for r in results for row in r.dice]
    synthetic = any(r.synthetic for r in results)
    if as_json:
        about = {"weights": origin.name, "trained_on": origin.trained_on, "limits": origin.limits}
        written = [r.path for r in results if r.path]
        each = [{k: v for k, v in vars(r).items() if k not in ("dice", "synthetic")} for r in results]
        output.print_json({**about, "synthetic": synthetic, "written": written, "dice": rows, "mice": each})
    else:
        output.warn_synthetic(synthetic)
        if origin.synthetic_training:
            click.secho(f"{SYNTHETIC_WEIGHTS} {RESEARCH_ONLY}", fg="yellow", err=True)
        _print_results(results, rows)
    if failed:
        listed = "\n".join(f"{r.mouse}: {r.error}" for r in failed)
        rest = f"the others are in {folder}" if len(failed) < len(results) else "nothing was segmented"
        raise click.ClickException(f"{len(failed)} of {len(results)} mice failed; {rest}.\n{listed}")


def _print_results(results: list[PredictResult], rows: list[dict[str, Any]]) -> None:
    if rows:
        click.echo("Dice overlap with the masks of the labelled frames:")
        output.print_table(
            ["mouse", "frame", "phase", "LV myocardium", "LV blood pool"],
            [
                [r["mouse"], r["frame"], r["phase"], f"{r['dice_myocardium']:.3f}", f"{r['dice_blood_pool']:.3f}"]
                for r in rows
            ],
        )
    for r in results:
        if r.region.get("region_reason"):
            click.echo(f"{r.mouse}: whole field, since {r.region['region_reason']}")
    for r in results:
        if r.path:
            click.echo(f"{'written' if r.status == 'done' else 'as before'}: {r.path}")


def _select_mice(
    mice: tuple[str, ...],
    split: str | None,
    source: str,
    cache: Path | None,
    spacing: tuple[float, float, float] | None,
) -> list[MiceProtocol]:
    """What was named: mice of the source, and files."""
    from mousecmr_data import api
    from mousecmr_data.pipeline.batch import HDF5Files

    paths = tuple(m for m in mice if Path(m).suffix or Path(m).is_file() or len(Path(m).parts) > 1)
    names = [m for m in mice if m not in paths]
    if spacing and not paths:
        raise ArgumentError("A voxel size was given, but no file.", "sizes belong to a file", "give its path")
    groups: list[MiceProtocol] = []
    if names or not paths:
        groups.append(api.load(split, mice=names or None, source=source, cache=cache))
    if paths:
        groups.append(HDF5Files(tuple(dict.fromkeys(paths)), spacing))
    return groups


@contextmanager
def _open_client(address: str | None) -> Iterator[Any]:
    """A client of the dask scheduler at ``address``; None without one."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as e:
        raise MissingExtraError.from_module("distributed", "dask") from e
    with Client(address) as client:  # type: ignore[no-untyped-call]
        yield client
