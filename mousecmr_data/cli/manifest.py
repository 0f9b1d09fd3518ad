"""``mousecmr manifest``: your own datasets."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.group()
def command() -> None:
    """Describe a folder of your own mice once; then load, verify and evaluate it by name."""


@command.command("create")
@click.argument("files", type=click.Path(path_type=Path, exists=True, file_okay=False))
@options.output_folder("Folder of the manifest. Default: beside FILES, with the same name and -manifest at its end.")
@click.option("--name", help="Name of the dataset. Default: the name of the folder FILES.")
@click.option("--version", default="1", help="Version of the data.")
@click.option("--title", default="", show_default=False, help="One line that describes the dataset.")
@click.option("--licence", default="not stated", help="Licence of the data.")
@click.option("--synthetic", is_flag=True, help="The images are synthetic.")
@options.spacing
@options.frame_time
@click.option("--field-strength", type=float, help="Field strength in tesla; names the cohort in `mousecmr reproduce`.")
@click.option(
    "--splits",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV file, also of Excel, with the columns mouse and split.",
)
@options.as_json
def create(
    files: Path,
    folder: Path | None,
    name: str | None,
    version: str,
    title: str,
    licence: str,
    synthetic: bool,
    spacing: options.Spacing | None,
    frame_time: float | None,
    field_strength: float | None,
    splits: Path | None,
    as_json: bool,
) -> None:
    """Write a manifest of the HDF5 files in the folder FILES, with their checksums.

    The files have the dataset's layout. `--source MANIFEST` then works in all commands that take a source.
    """
    from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest, derive_name

    target = folder or files.absolute().with_name(f"{files.absolute().name}-manifest")
    name = name or derive_name(files)
    about = DatasetInfo(name, version, title, licence, synthetic, spacing, frame_time, field_strength)
    manifest = create_manifest(files, target, about, splits=_read_splits(splits) if splits else None)
    if as_json:
        sizes = {s: {k: len(v) for k, v in scheme.mice.items()} for s, scheme in manifest.splits.items()}
        output.print_json({"manifest": target, "name": manifest.name, "mice": list(manifest.files), "splits": sizes})
        return
    output.warn_synthetic(manifest.synthetic)
    click.echo(f"{format_count(len(manifest.files), 'mouse')} in {target}")
    click.echo(f"Load it with mousecmr_data.load(source={str(target)!r}).")


def _read_splits(path: Path) -> dict[str, list[str]]:
    from mousecmr_data._utils.tables import read_table

    splits: dict[str, list[str]] = {}
    for row in read_table(path, ("mouse", "split")):
        if row["split"]:
            splits.setdefault(row["split"], []).append(row["mouse"])
    return splits
