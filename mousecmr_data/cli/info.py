"""``mousecmr info``: the dataset on one screen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    files = api.resolve_source(source, cache)
    states = list(files.get_statuses(manifest.files).values())
    on_disk = {state: states.count(state) for state in sorted(set(states))}
    folder = str(files.get_path(next(iter(manifest.files))).parent)
    splits = [_describe_splits(name, scheme) for name, scheme in manifest.splits.items()]
    if as_json:
        output.print_json(
            {
                **{k: getattr(manifest, k) for k in ("name", "title", "version", "licence", "synthetic")},
                "mice": len(manifest.files),
                "folder": folder,
                "on_disk": on_disk,
                "splits": splits,
                "groups": [asdict(g) for g in manifest.groups],
                "acquisition": {k: asdict(c) for k, c in manifest.acquisition.items()},
                "weights": [asdict(w) for w in manifest.weights.values()],
                "paper": dict(manifest.paper),
            }
        )
        return
    output.warn_synthetic(manifest.synthetic)
    click.secho(manifest.title, bold=True)
    lines = {
        "mice": len(manifest.files),
        "version": manifest.version[:12],
        "licence": manifest.licence,
        "paper": f"https://doi.org/{manifest.paper['doi']}" if manifest.paper else "none",
        "on this disk": ", ".join(f"{n} {state}" for state, n in on_disk.items()),
        "folder": folder,
    }
    for name, text in lines.items():
        click.echo(f"  {name:13} {text}")
    if splits:
        columns = ["split scheme", "split", "mice", "labelled 2D images"]
        rows = [[s["scheme"], k, v["mice"], v["labelled_images_2d"]] for s in splits for k, v in s["splits"].items()]
        output.print_table(columns, rows, note="\n".join(f"{s['scheme']}: {s['caveat']}" for s in splits))
    if manifest.groups:
        output.print_table(["group", "mice"], [[g.name, g.n_mice] for g in manifest.groups])
    if manifest.known_issues:
        click.echo(f"{len(manifest.known_issues)} known issues of what was published: mousecmr info --issues")


def _describe_splits(name: str, scheme: Any) -> dict[str, Any]:
    splits = {
        k: {
            "mice": len(scheme.mice[k]) if scheme.mice else None,
            "labelled_images_2d": scheme.labelled_images_2d.get(k),
        }
        for k in scheme.mice or scheme.labelled_images_2d
    }
    return {"scheme": name, "caveat": scheme.caveat, "splits": splits}
