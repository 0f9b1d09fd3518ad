"""``mousecmr tune``: a better network from reviewed masks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.training.tuning import TuningEvent, TuningResult


@click.command()
@click.argument("results", nargs=-1, required=True, type=options.FOLDER)
@options.output_folder("Folder for the new weights and what is known about them.", required=True)
@click.option("--name", required=True, help="Name of the new weights, your own; --weights NAME then takes them.")
@click.option("--weights", help="Weights to begin with: a name or a file. Default: those that segmented the mice.")
@click.option(
    "--unreviewed", is_flag=True, help="Where a slice of a frame was reviewed, take its other slices as right, too."
)
@options.device
@options.threads
@options.settings
@options.overwrite_edited
@options.cache
@options.as_json
def command(
    results: tuple[Path, ...],
    folder: Path,
    name: str,
    weights: str | None,
    unreviewed: bool,
    device: str,
    threads: int | None,
    settings: dict[str, Any],
    overwrite: bool,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Tune a network on mice whose masks you reviewed: slices that you corrected, confirmed or excluded.

    RESULTS are folders of mousecmr segment. Training begins with the weights that segmented the mice. Each mouse is
    left out once (of more than five, each fifth of them), to measure the Dice of a network that never saw it, and to
    stop in time. A run that was stopped goes on with the same command.
    """
    require_extra("training", "torch", "safetensors", "monai", "nibabel")
    from mousecmr_data.training.config import get_recipe, update_config
    from mousecmr_data.training.tuning import tune

    if threads:
        import torch

        torch.set_num_threads(threads)
    config = update_config(get_recipe("tuning"), {"device": device, **settings})
    with ExitStack() as bars:
        advance = bars.enter_context(output.progress("tuning, in percent", 100))
        shown, text = 0.0, ""

        def show(event: TuningEvent) -> None:
            nonlocal shown, text
            advance(100 * event.share - shown)
            shown = 100 * event.share
            if event.text != text:
                text = event.text
                click.echo(f"tuned {text}", err=True)

        try:
            result = tune(
                results, folder, name, weights=weights, config=config, unreviewed=unreviewed, cache=cache,
                overwrite=overwrite, progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            bars.close()
            click.echo("Stopped. The same command goes on from here.", err=True)
            raise
    if as_json:
        table = result.mice.to_dict("records")
        output.print_json({**vars(result), "mice": table, "dice": result.dice})
    else:
        _print_result(result)
    if not result.weights:
        raise click.ClickException(
            "Dice did not rise on mice that were left out: no weights were written.\n"
            "Next: review more mice, or more slices of each; both need slices with a ventricle"
        )


def _print_result(result: TuningResult) -> None:
    for mouse, reason in result.left_out.items():
        click.echo(f"{mouse} is not used: {reason}.", err=True)
    counts = ("edited", "confirmed", "excluded")
    output.print_table(
        ["mouse left out", *counts, "Dice before", "Dice after"],
        [
            [row["mouse"], *(row[c] for c in counts), f"{row['dice_before']:.3f}", f"{row['dice_after']:.3f}"]
            for row in result.mice.to_dict("records")
        ],
        title=f"{result.method}; began with {result.began_with}",
        note="Dice of the reviewed slices, mean of myocardium and blood pool, by a network tuned without the mouse.",
    )
    before, after = result.dice
    click.echo(f"mean Dice of mice that were left out: {before:.3f} before, {after:.3f} after")
    if result.weights:
        click.echo(f"written: {result.weights}, after {result.epochs} epochs on all mice")
        click.echo(f"Next: mousecmr segment INPUTS -o FOLDER --weights {result.name}")
