"""``mousecmr predict``: segment mice, or a whole cohort, into HDF5 files of the dataset's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.environment import require_engine, require_extra
from mousecmr_data._utils.text import list_notices
from mousecmr_data.cli import options, output
from mousecmr_data.errors import ArgumentError

if TYPE_CHECKING:
    from mousecmr_data.pipeline.batch import MiceProtocol, PredictResult


@click.command()
@click.argument("mice", nargs=-1)
@options.output_folder("Folder for the segmented mice, one HDF5 file each.", Path("predicted"))
@click.option("--split", help="Only the mice of this split: train, validation or test.")
@options.network
@options.processes(1)
@options.scheduler
@options.overwrite
@options.source
@options.cache
@options.spacing
@options.axes
@options.as_json
def command(
    mice: tuple[str, ...],
    folder: Path,
    split: str | None,
    workers: int,
    scheduler: str | None,
    overwrite: bool,
    source: str,
    cache: Path | None,
    spacing: options.Spacing | None,
    axes: str | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Segment every frame of MICE: names (Mouse4), or HDF5 files of the dataset's layout. Default: all mice of the
    source or the split.

    Mice that were segmented before, with the same settings, are not segmented again: a run that was stopped can be
    resumed with the same command. For mice with expert masks, the overlap (Dice) is printed. `mousecmr measure` and
    `mousecmr show` read the files that this command writes.
    """
    require_engine("openvino")
    from mousecmr_data.pipeline.batch import load_predictor, predict_cohort
    from mousecmr_data.pipeline.config import PredictConfig

    config = PredictConfig(cache=cache, **network)
    origin = load_predictor(config)[0].origin
    groups = _select_mice(mice, split, source, cache, spacing, axes)
    results: list[PredictResult] = []
    with open_client(scheduler) as client:
        for group in groups:
            results += predict_cohort(
                group, folder, config, overwrite=overwrite, workers=workers, client=client, progress=True
            )
    failed = [r for r in results if r.error]
    synthetic = any(r.synthetic for r in results)
    if as_json:
        about = {"weights": origin.name, "trained_on": origin.trained_on, "limits": origin.limits}
        written = [r.path for r in results if r.path]
        dice = [row for r in results for row in r.dice]
        rows = [{k: v for k, v in vars(r).items() if k not in ("dice", "synthetic")} for r in results]
        output.print_json({**about, "synthetic": synthetic, "written": written, "dice": dice, "mice": rows})
    else:
        output.warn_synthetic(synthetic)
        if origin.synthetic_training or origin.synthetic_ancestry:
            notices = list_notices(origin.synthetic_training, False, origin.synthetic_ancestry)
            click.secho(" ".join(notices), fg="yellow", err=True)
        _print_results(results)
    if failed:
        errors = "\n".join(f"{r.mouse}: {r.error}" for r in failed)
        rest = f"the others are in {folder}" if len(failed) < len(results) else "nothing was segmented"
        raise click.ClickException(f"{len(failed)} of {len(results)} mice failed; {rest}.\n{errors}")


def _print_results(results: list[PredictResult]) -> None:
    rows = [
        [row["mouse"], row["frame"], row["phase"], f"{row['dice_myocardium']:.3f}", f"{row['dice_blood_pool']:.3f}"]
        for r in results
        for row in r.dice
    ]
    if rows:
        click.echo("Dice overlap with the masks of the labelled frames:")
        output.print_table(["mouse", "frame", "phase", "LV myocardium", "LV blood pool"], rows)
    for r in results:
        if r.region.get("region_reason"):
            click.echo(f"{r.mouse}: whole field, because {r.region['region_reason']}")
    for r in results:
        if r.path:
            click.echo(f"{'written' if r.status == 'done' else 'as before'}: {r.path}")


def _select_mice(
    mice: tuple[str, ...],
    split: str | None,
    source: str,
    cache: Path | None,
    spacing: options.Spacing | None,
    axes: str | None,
) -> list[MiceProtocol]:
    """Return the mice of the source and the files that were named, as separate groups."""
    from mousecmr_data import api
    from mousecmr_data.pipeline.batch import HDF5Files

    paths = tuple(m for m in mice if Path(m).suffix or Path(m).is_file() or len(Path(m).parts) > 1)
    names = [m for m in mice if m not in paths]
    if (spacing or axes) and not paths:
        raise ArgumentError(
            "A voxel size or axes were given, but no file.",
            "these only with the path of a file: mice of a source have their own",
            "leave out --spacing and --axes",
        )
    groups: list[MiceProtocol] = []
    if names or not paths:
        groups.append(api.load(split, mice=names or None, source=source, cache=cache))
    if paths:
        groups.append(HDF5Files(tuple(dict.fromkeys(paths)), spacing, axes))
    return groups


@contextmanager
def open_client(address: str | None) -> Iterator[Any]:
    """Yield a client of the dask scheduler at ``address``, or None."""
    if address is None:
        yield None
        return
    require_extra("dask", "distributed")
    from distributed import Client

    try:
        client = Client(address)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as e:
        raise ArgumentError(
            f"No dask scheduler answers at {address}: {e}",
            "the address that `dask scheduler` prints",
            "--dask tcp://HOST:8786",
        ) from e
    with client:
        yield client
