"""``mousecmr predict``: segment mice with a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mousecmr_data.cli import options, output

SYNTHETIC_TRAINING = "These weights were trained on synthetic mice only. For research, not for clinical use."


@click.command()
@click.argument("mice", nargs=-1, required=True)
@click.option(
    "--weights",
    required=True,
    help="mousecmr-9.4T-unet3plus (the authors', fetched), phantom-small (ships with the package, trained on "
    "synthetic mice only), or a weights file. Never chosen for you.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("predicted"),
    show_default=True,
    help="Folder for the segmented mice, one HDF5 file each in the dataset's layout.",
)
@click.option(
    "--postprocessing",
    type=click.Choice(["paper", "upstream-code", "none"]),
    default="paper",
    show_default=True,
    help="Which connected components are kept.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="2D slices at a time.")
@options.source
@options.cache
@options.voxel_size
@options.as_json
def command(
    mice: tuple[str, ...],
    weights: str,
    folder: Path,
    postprocessing: Any,
    device: str,
    batch: int,
    source: str,
    cache: Path | None,
    voxel_size: tuple[float, float, float] | None,
    as_json: bool,
) -> None:
    """Segment every frame of MICE: names (Mouse4) or HDF5 files of the dataset's layout.

    Where a mouse has expert masks, the overlap (Dice) with them is shown. `mousecmr measure` and
    `mousecmr show` take the files that this writes.
    """
    from mousecmr_data import api, baseline
    from mousecmr_data.baseline import export
    from mousecmr_data.baseline.scoring import scored

    segmenter = baseline.load(weights, device=device, cache=cache)
    rows: list[Any] = []
    written = []
    synthetic = False
    for name in mice:
        ds = api.open_mouse(name, source=source, cache=cache, voxel_size_mm=voxel_size)
        who = str(ds.attrs["mouse"])
        with output.progress(who, ds.sizes["frame"] * ds.sizes["slice"]) as advance:
            made = segmenter.segment(ds, postprocessing=postprocessing, batch_size=batch, progress=advance)
        synthetic = synthetic or bool(ds.attrs["synthetic"])
        written.append(export.write(made, folder / f"{who}.h5"))
        rows += scored(made).to_dict("records")
    if as_json:
        about = {"weights": segmenter.origin.name, "trained_on": segmenter.origin.trained_on}
        about["limits"] = segmenter.origin.limits
        output.print_json({**about, "synthetic": synthetic, "written": written, "dice": rows})
        return
    output.warn_synthetic(synthetic)
    if segmenter.origin.synthetic_training:
        click.secho(SYNTHETIC_TRAINING, fg="yellow", err=True)
    if rows:
        click.echo("Dice overlap with the masks of the labelled frames:")
        output.print_table(
            ["mouse", "frame", "phase", "LV myocardium", "LV blood pool"],
            [
                [r["mouse"], r["frame"], r["phase"], f"{r['dice_myocardium']:.3f}", f"{r['dice_blood_pool']:.3f}"]
                for r in rows
            ],
        )
    for path in written:
        click.echo(f"written: {path}")
