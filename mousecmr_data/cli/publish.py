"""``mousecmr publish``: a cohort as a dataset on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1)
@click.option("--repo-id", required=True, metavar="ORG/NAME", help="Name of the dataset on the hub.")
@click.option("--dry-run", is_flag=True, help="Only build the folder; upload nothing.")
@options.source
@options.cache
@options.split_scheme
@options.phenotypes
@options.output_folder("Folder to build. Default: published/NAME.")
@options.overwrite_edited
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
    overwrite: bool,
    private: bool,
    as_json: bool,
) -> None:
    """Publish MICE (default: all) on the Hugging Face hub: Parquet, dataset card, Croissant, checksums.

    After an interruption, the same command continues. The dataset appears on the hub in one commit, under the licence
    of its source. The name of a dataset of synthetic mice must say that they are synthetic.
    """
    require_extra("huggingface")
    from mousecmr_data import api
    from mousecmr_data.export.hub import build_folder, upload_folder
    from mousecmr_data.export.release import check_repo_id, make_release, plan_shards

    name = check_repo_id(repo_id)
    cohort = api.load(mice=mice or None, source=source, cache=cache, split_scheme=split_scheme, phenotypes=phenotypes)
    target = folder or Path("published") / name.partition("/")[2]
    with output.progress(f"building {name}", len(plan_shards(make_release(cohort, name)))) as advance:
        release, built = build_folder(cohort, name, target, lambda _: advance(1), overwrite=overwrite)
    size = sum(p.stat().st_size for p in built.rglob("*") if p.is_file())
    report = {"name": name, "folder": built, "synthetic": release.synthetic, "mice": len(release.mice), "bytes": size}
    count = format_count(len(release.mice), "mouse")
    lines = [f"{count} in {built}: {size / 1e6:.0f} MB, licence {release.manifest.licence}."]
    if dry_run:
        lines.append(f"Nothing was sent. To look at it: datasets.load_dataset({str(built)!r}, 'labelled').")
    else:
        upload = upload_folder(built, name, private=private)
        report |= {"commit": upload.commit, "url": upload.url}
        lines.append(f"{upload.url} is at commit {upload.commit}.")
        lines.append(f"To open it, without this package: datasets.load_dataset({name!r}, 'labelled').")
    if as_json:
        output.print_json(report)
        return
    output.warn_synthetic(release.synthetic)
    click.echo("\n".join(lines))
