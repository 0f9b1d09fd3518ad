"""``mousecmr train``: train a network by a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from mousecmr_data.cli import options, output


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the run. A run that is there already, with the same configuration, goes on.",
)
@click.option(
    "--recipe",
    default="published",
    show_default=True,
    help="published (the authors' network and recipe) or phantom-small (a small network on invented mice).",
)
@click.option(
    "--source",
    help="mousecmr-130, a phantom, or a manifest folder. Default: mousecmr-130; where mice are invented, phantom.",
)
@options.split_scheme
@click.option("--epochs", type=click.IntRange(1), help="Epochs at most, instead of the recipe's.")
@click.option("--seed", type=int, help="Seed, instead of the recipe's.")
@click.option("--replicas", type=click.IntRange(1), help="Parts of each batch; under torchrun, its processes.")
@click.option("--device", help="auto, cpu, cuda or mps.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads. Default: PyTorch's choice.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting; value in JSON.")
@options.cache
@options.as_json
def command(
    folder: Path,
    recipe: str,
    source: str | None,
    split_scheme: str,
    epochs: int | None,
    seed: int | None,
    replicas: int | None,
    device: str | None,
    threads: int | None,
    settings: tuple[str, ...],
    cache: Path | None,
    as_json: bool,
) -> None:
    """Train a network; checkpoints, curves and everything needed to repeat it end up in one folder.

    A killed run goes on where its last whole epoch ended: give the same command again. Several GPUs:
    `torchrun --no-python --nproc-per-node 2 mousecmr train --replicas 2 -o RUN`.
    """
    from mousecmr_data import api
    from mousecmr_data.training.config import get_recipe, update_config
    from mousecmr_data.training.trainer import read_run, train

    given = {"epochs": epochs, "seed": seed, "replicas": replicas, "device": device}
    values = {k: v for k, v in given.items() if v is not None} | dict(_setting(s) for s in settings)
    config = update_config(get_recipe(recipe), values)
    if threads:
        import torch

        torch.set_num_threads(threads)
    place = source or ("phantom" if config.pool_mice else "mousecmr-130")
    cohorts = [api.load(split=s, source=place, split_scheme=split_scheme, cache=cache) for s in ("train", "validation")]
    first = int(os.environ.get("RANK", "0")) == 0
    if first and not as_json:
        output.warn_synthetic(cohorts[0].synthetic)

    def print_epoch(row: dict[str, float]) -> None:
        dice = f"Dice myocardium {row['dice_myocardium']:.3f} blood pool {row['dice_blood_pool']:.3f}"
        losses = f"loss {row['loss']:.4f}  validation {row['validation_loss']:.4f}"
        click.echo(f"epoch {row['epoch']:.0f}/{config.epochs}  {losses}  {dice}  {row['seconds']:.0f} s")

    train(cohorts[0], cohorts[1], folder, config, on_epoch=None if as_json else print_epoch)
    if not first:
        return
    if as_json:
        output.print_json({"folder": folder, **read_run(folder)})
        return
    click.echo(
        f"written: {folder / 'best.safetensors'}  (mousecmr predict --weights {folder / 'best.safetensors'} ...)"
    )


def _setting(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise click.BadParameter(f"{text!r} is no KEY=VALUE", param_hint="--set")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
