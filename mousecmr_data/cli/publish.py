"""``mousecmr publish``: a cohort as a dataset that anyone opens with ``load_dataset``."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1)
@click.option("--repo-id", required=True, metavar="ORG/NAME", help="The dataset on the hub.")
@click.option("--dry-run", is_flag=True, help="Build the folder only; nothing is sent.")
@options.source
@options.cache
@options.split_scheme
@options.phenotypes
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to build. Default: published/NAME.",
)
@click.option("--private", is_flag=True, help="Make a new dataset private.")
@options.as_json
def command(
    mice: tuple[str, ...],
    repo_id: str,
    dry_run: bool,
    source: str,
    cache: Path | None,
    split_scheme: str,
    phenotypes: Path | None,
    folder: Path | None,
    private: bool,
    as_json: bool,
) -> None:
    """Publish MICE (all if none is named) on the Hugging Face hub: Parquet, card, Croissant, checksums.

    A run that was broken off goes on where it was. The dataset appears on the hub in one commit, under the
    licence of its source. Synthetic mice can only be published under a name that says so.
    """
    from mousecmr_data import api
    from mousecmr_data.export.hub import build_folder
    from mousecmr_data.export.release import check_repo_id, make_release, plan_shards

    name = check_repo_id(repo_id)
    cohort = api.load(mice=mice or None, source=source, cache=cache, split_scheme=split_scheme, phenotypes=phenotypes)
    made = make_release(cohort, name)
    target = folder or Path("published") / name.partition("/")[2]
    with output.progress(f"building {name}", len(plan_shards(made))) as advance:
        made, built = build_folder(cohort, name, target, lambda _: advance(1))
    size = sum(p.stat().st_size for p in built.rglob("*") if p.is_file())
    answer = {"name": name, "folder": built, "synthetic": made.synthetic, "mice": len(made.mice), "bytes": size}
    if not dry_run:
        from mousecmr_data.export.hub import upload_folder

        sent = upload_folder(built, name, private=private)
        answer |= {"commit": sent.commit, "url": sent.url}
    if as_json:
        output.print_json(answer)
        return
    output.warn_synthetic(made.synthetic)
    click.echo(f"{len(made.mice)} mice in {built}: {size / 1e6:.0f} MB, licence {made.manifest.licence}.")
    if dry_run:
        click.echo(f"Nothing was sent. Look at it: datasets.load_dataset({str(built)!r}, 'labelled').")
    else:
        click.echo(f"{sent.url} is at commit {sent.commit}.")
        click.echo(f"Anyone opens it with datasets.load_dataset({name!r}, 'labelled').")
