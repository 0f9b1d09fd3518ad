"""``mousecmr export``: a network as an ONNX file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import make_file_name
from mousecmr_data.cli import options, output


@click.command()
@options.weights
@options.network_class
@options.output_file("File to write. Default: the name of the weights, with .onnx.")
@click.option(
    "--size",
    type=(click.IntRange(min=1), click.IntRange(min=1)),
    metavar="Y X",
    default=(256, 256),
    help="Rows and columns of the input images, in pixels of 0.1 mm; multiples of 32. The number of images is free.",
)
@options.overwrite_file
@options.cache
@options.as_json
def command(
    weights: str,
    network: str | None,
    path: Path | None,
    size: tuple[int, int],
    overwrite: bool,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Write a network to an ONNX file, for use in other programs.

    The input is any number of slices, each scaled to [0, 1]; the output is the logits of background, LV myocardium and
    LV blood pool. The exported network is compared with the original before the file is written. Its metadata say how
    slices are scaled, how many neighbours are further channels, and what the weights were trained on.
    """
    require_extra("onnx")
    from mousecmr_data._utils.outputs import check_file, find_paths
    from mousecmr_data.inference.engines.onnx import write_onnx
    from mousecmr_data.inference.predictor import load_model

    predictor = load_model(weights, device="cpu", cache=cache, network=network)
    origin = predictor.origin
    path = path or Path(f"{make_file_name(origin.name)}.onnx")
    check_file(path, overwrite=overwrite, inputs=find_paths(weights))
    written = write_onnx(predictor.source, path, size, vars(origin), cache, overwrite=overwrite)
    if as_json:
        output.print_json({"written": written, "weights": origin.name, "synthetic_training": origin.synthetic_training})
        return
    if origin.synthetic_training:
        click.secho("These weights were trained on synthetic mice only.", fg="yellow", err=True)
    click.echo(f"written: {written}")
