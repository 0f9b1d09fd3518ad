"""``mousecmr train``: train a network by a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data.cli import options, output
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOMS


@click.command()
@options.output_folder(
    "Folder of the run. A run that was started there, with the same configuration, is continued.", required=True
)
@click.option(
    "--recipe",
    default="published",
    help="published (the authors' network and recipe), phantom-small (a small network on synthetic mice) or "
    "phantom-full-width (the published network on synthetic mice).",
)
@click.option(
    "--source",
    help=f"{DEFAULT_DATASET}, a phantom, or a manifest folder. Default: {PHANTOMS[0]} for recipes on synthetic mice, "
    f"else {DEFAULT_DATASET}.",
)
@options.split_scheme
@click.option("--epochs", type=click.IntRange(1), help="Largest number of epochs, instead of the recipe's.")
@click.option("--seed", type=int, help="Random seed, instead of the recipe's.")
@click.option(
    "--replicas", type=click.IntRange(1), help="Parts of each batch; under torchrun, the number of processes."
)
@click.option("--device", help="auto, cpu, cuda or mps.")
@options.threads
@options.settings
@options.overwrite_edited
@options.cache
@options.as_json
def command(
    folder: Path,
    recipe: str,
    source: str | None,
    split_scheme: str,
    threads: int | None,
    settings: dict[str, Any],
    overwrite: bool,
    cache: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Train a network. One folder gets the checkpoints, the curves and everything that is needed to repeat the run.

    To continue a run that was killed, give the same command again: it resumes after the last whole epoch. Several GPUs:
    `torchrun --no-python --nproc-per-node 2 mousecmr train --replicas 2 -o RUN`.
    """
    require_extra("training", "torch", "safetensors", "monai")
    from mousecmr_data import api
    from mousecmr_data.training.config import get_recipe, update_config
    from mousecmr_data.training.trainer import read_run, train

    values = {k: v for k, v in overrides.items() if v is not None} | settings
    config = update_config(get_recipe(recipe), values)
    if threads:
        import torch

        torch.set_num_threads(threads)
    source = source or (PHANTOMS[0] if config.pool_mice else DEFAULT_DATASET)
    training, validation = (
        api.load(split=s, source=source, split_scheme=split_scheme, cache=cache) for s in ("train", "validation")
    )
    prints = int(os.environ.get("RANK", "0")) == 0  # of several processes, only the first
    if prints and not as_json:
        output.warn_synthetic(training.synthetic)

    def print_epoch(row: dict[str, float]) -> None:
        dice = f"Dice myocardium {row['dice_myocardium']:.3f} blood pool {row['dice_blood_pool']:.3f}"
        losses = f"loss {row['loss']:.4f}  validation {row['validation_loss']:.4f}"
        click.echo(f"epoch {row['epoch']:.0f}/{config.epochs}  {losses}  {dice}  {row['seconds']:.0f} s")

    train(training, validation, folder, config, on_epoch=None if as_json else print_epoch, overwrite=overwrite)
    best = folder / "best.safetensors"
    if prints and as_json:
        output.print_json({"folder": folder, **read_run(folder)})
    elif prints:
        click.echo(f"written: {best}  (mousecmr predict --weights {best} ...)")
