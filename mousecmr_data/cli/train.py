"""``mousecmr train``: train a network by a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.reading import check_input
from mousecmr_data.cli import options, output
from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOMS


@click.command()
@options.output_folder(
    "Folder of the run. A run that was started there, with the same configuration, is continued.", required=True
)
@click.option(
    "--recipe",
    help="Default: published (the authors' network and recipe), phantom-small (a small network on synthetic mice), "
    "phantom-full-width (the published network on synthetic mice) or, with --teacher, student (the small network).",
)
@click.option(
    "--teacher",
    metavar="WEIGHTS",
    help="Learn the probabilities of these weights (a name or a file) on every frame, instead of masks.",
)
@click.option(
    "--config",
    "config_file",
    type=options.FILE,
    help="config.json of another run, instead of a recipe: the same settings, and the same mice if its run.json is "
    "beside it.",
)
@click.option(
    "--network",
    metavar="MODULE:CLASS",
    help="Any network instead of UNet3+: the import path of its class (monai.networks.nets:DynUNet), or the name of an "
    "entry point mousecmr_data.networks.",
)
@click.option("--network-args", metavar="JSON", help="Arguments of the class, such as '{\"spatial_dims\": 2}'.")
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
    recipe: str | None,
    config_file: Path | None,
    network_args: str | None,
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
    from mousecmr_data.models.network import get_source, is_trusted
    from mousecmr_data.training.config import STUDENT, TrainConfig, get_recipe, update_config
    from mousecmr_data.training.distillation import describe_report
    from mousecmr_data.training.trainer import RUN_FILE, read_run, train

    if recipe and config_file:
        raise click.UsageError("--recipe and --config were both given: a run has one of them.")
    values = {k: v for k, v in overrides.items() if v is not None} | settings
    if network_args is not None:
        values |= {"network_args": options.parse_json(network_args)}
    if config_file:
        check_input(config_file, "config.json of a run")
        config = TrainConfig.from_json(config_file.read_text(encoding="utf-8", errors="replace"))
    else:
        config = get_recipe(recipe or (STUDENT if values.get("teacher") else "published"))
    config = update_config(config, values)
    if threads:
        import torch

        torch.set_num_threads(threads)
    if config_file and not source and config_file.with_name(RUN_FILE).is_file():
        parts = [read_run(config_file.parent)["data"][role] for role in ("training", "validation")]
        try:
            training, validation = (api.load(mice=p["mice"], source=p["source"], cache=cache) for p in parts)
        except UnknownNameError as e:
            name = parts[0]["source"]
            next_step = f"--source FOLDER, with the manifest folder of {name!r}"
            raise ArgumentError(f"{config_file} is of a run on {name!r}: {e.found}", e.expected, next_step) from e
    else:
        source = source or (PHANTOMS[0] if config.pool_mice else DEFAULT_DATASET)
        training, validation = (
            api.load(split=s, source=source, split_scheme=split_scheme, cache=cache) for s in ("train", "validation")
        )
    prints = int(os.environ.get("RANK", "0")) == 0  # of several processes, only the first
    if prints and not as_json:
        output.warn_synthetic(bool(training.list_synthetic()))

    def print_epoch(row: dict[str, float]) -> None:
        dice = f"Dice myocardium {row['dice_myocardium']:.3f} blood pool {row['dice_blood_pool']:.3f}"
        losses = f"loss {row['loss']:.4f}  validation {row['validation_loss']:.4f}"
        waiting = f"{row['seconds']:.0f} s ({row['seconds_waiting']:.0f} s waiting for data)"
        click.echo(f"epoch {row['epoch']:.0f}/{config.epochs}  {losses}  {dice}  {waiting}")

    on_epoch = None if as_json else print_epoch
    train(training, validation, folder, config, on_epoch=on_epoch, overwrite=overwrite, cache=cache)
    best = folder / "best.safetensors"
    if prints and as_json:
        output.print_json({"folder": folder, **read_run(folder)})
    elif prints:
        named = "" if is_trusted(get_source(config.network)) else f" --network {config.network}"
        if config.teacher:
            for what, value in describe_report(read_run(folder)["outcome"]["student"]).items():
                click.echo(f"{what}: {value}")
        click.echo(f"written: {best}  (mousecmr predict --weights {best}{named} ...)")
