"""``mousecmr manifest``: datasets of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.group()
def command() -> None:
    """Manifests of one's own: say once what a folder of mice is, then load, verify and evaluate it by that."""


@command.command("create")
@click.argument("files", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the manifest. Default: beside the files' folder, with -manifest at the end.",
)
@click.option("--name", help="Name of the dataset. Default: the folder's.")
@click.option("--version", default="1", show_default=True, help="Version of the data.")
@click.option("--title", default="", help="A line that says what it is.")
@click.option("--licence", default="not stated", show_default=True, help="Licence of the data.")
@click.option("--synthetic", is_flag=True, help="The images are synthetic.")
@options.spacing
@options.frame_time
@click.option("--field-strength", type=float, help="Tesla; names the cohort in `mousecmr reproduce`.")
@click.option(
    "--splits", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="CSV with the columns mouse, split."
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
    spacing: tuple[float, float, float] | None,
    frame_time: float | None,
    field_strength: float | None,
    splits: Path | None,
    as_json: bool,
) -> None:
    """Write a manifest of the HDF5 files (the dataset's layout) in the folder FILES, with their checksums.

    Then `--source MANIFEST` works everywhere: load, verify, evaluate, reproduce.
    """
    from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest, derive_name

    target = folder or files.absolute().with_name(f"{files.absolute().name}-manifest")
    about = DatasetInfo(
        name or derive_name(files), version, title, licence, synthetic, spacing, frame_time, field_strength
    )
    manifest = create_manifest(files, target, about, splits=_splits(splits))
    if as_json:
        sizes = {s: {k: len(v) for k, v in scheme.mice.items()} for s, scheme in manifest.splits.items()}
        output.print_json({"manifest": target, "name": manifest.name, "mice": list(manifest.files), "splits": sizes})
        return
    output.warn_synthetic(manifest.synthetic)
    click.echo(f"{len(manifest.files)} mice in {target}")
    click.echo(f"Load it with mousecmr_data.load(source={str(target)!r}).")


def _splits(path: Path | None) -> dict[str, list[str]] | None:
    if path is None:
        return None
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"mouse", "split"} <= set(table.columns):
        raise click.BadParameter(f"{path} has the columns {', '.join(table.columns)}", param_hint="--splits")
    return {str(k): part["mouse"].tolist() for k, part in table.groupby("split", sort=False)}
