"""``mousecmr info``: the dataset on one screen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@options.source
@options.cache
@click.option("--issues", is_flag=True, help="List known contradictions and gaps of what was published, instead.")
@options.as_json
def command(source: str, cache: Path | None, issues: bool, as_json: bool) -> None:
    """Show the dataset, its splits and groups, and what is on this disk."""
    from mousecmr_data import api

    manifest = api.resolve_manifest(source)
    if issues:
        if as_json:
            output.print_json([asdict(i) for i in manifest.known_issues])
            return
        for i in manifest.known_issues:
            click.secho(f"{i.id}: {i.title}", bold=True)
            click.echo(f"  {i.text} (source: {i.source})\n")
        click.echo(f"{len(manifest.known_issues)} known issues of {manifest.name}.")
        return
    found = api.info(source, cache=cache)
    if as_json:
        output.print_json(found.to_dict())
        return
    output.warn_synthetic(manifest.synthetic)
    click.secho(manifest.title, bold=True)
    for name, text in found.list_facts().items():
        click.echo(f"  {name:13} {text}")
    if splits := found.splits:
        columns = ["split scheme", "split", "mice", "labelled 2D images"]
        rows = [[s["scheme"], k, v["mice"], v["labelled_images_2d"]] for s in splits for k, v in s["splits"].items()]
        output.print_table(columns, rows, note="\n".join(f"{s['scheme']}: {s['caveat']}" for s in splits))
    if manifest.groups:
        output.print_table(["group", "mice"], [[g.name, g.n_mice] for g in manifest.groups])
    if manifest.known_issues:
        click.echo(f"{len(manifest.known_issues)} known issues of what was published: mousecmr info --issues")
