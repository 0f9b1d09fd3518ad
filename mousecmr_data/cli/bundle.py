"""``mousecmr bundle``: many files as one, for machines without a network."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.group()
def command() -> None:
    """Carry files to a machine without a network: pack them here, unpack and verify them there."""


@command.command()
@click.argument("file", type=options.FILE)
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@click.option("--weights", is_flag=True, help="Pack the published network's weights too.")
@options.overwrite_file
@options.as_json
def create(
    file: Path,
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    weights: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack MICE (default: all) from the cache into FILE, and hash each of them."""
    from mousecmr_data import api
    from mousecmr_data.download.bundle import create_bundle

    manifest = api.resolve_manifest(source)
    packed = manifest.weights if weights else ()
    path = create_bundle(manifest, mice or None, file, cache, weights=packed, overwrite=overwrite)
    size = path.stat().st_size
    if as_json:
        output.print_json({"path": path, "size": size})
    else:
        click.echo(f"{path} ({size:,} bytes)")
        click.echo(f"On the other machine: mousecmr bundle import {path.name}")


@command.command("import")
@click.argument("file", type=options.FILE)
@click.option("--source", help="Manifest folder to verify the bytes with. Default: the dataset that the bundle names.")
@options.cache
@options.as_json
def import_(file: Path, source: str | None, cache: Path | None, as_json: bool) -> None:
    """Unpack FILE into the cache and verify every byte with the manifest."""
    from mousecmr_data import api
    from mousecmr_data.download.bundle import import_bundle

    result = import_bundle(file, cache, manifest=None if source is None else api.resolve_manifest(source))
    if as_json:
        output.print_json({"dataset": result.dataset, "paths": result.paths, "new": result.new})
    else:
        files = format_count(len(result.paths), "file")
        click.echo(f"{files} of {result.dataset} on this disk, verified; {len(result.new)} new.")
