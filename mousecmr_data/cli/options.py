"""Options that several verbs share, and the manifest a ``--source`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

cache = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the cache. Default: MOUSECMR_CACHE, else the system's cache folder.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, for programs.")
source = click.option(
    "--source",
    default="mousecmr-130",
    show_default=True,
    help="mousecmr-130, a phantom (phantom, phantom-7T, phantom-11.7T), or a manifest folder.",
)
workers = click.option(
    "--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Parallel transfers."
)
spacing = click.option(
    "--spacing",
    type=(float, float, float),
    metavar="Z Y X",
    help="Slice distance, pixel height and width in mm, where the file is wrong or says nothing.",
)
frame_time = click.option(
    "--frame-time",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Milliseconds from frame to frame, where the files are wrong or say nothing.",
)
split_scheme = click.option(
    "--split-scheme", default="upstream-notebook", show_default=True, help="Which splits; mousecmr info lists them."
)
phenotypes = click.option(
    "--phenotypes",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file with the columns mouse and phenotype. Without it, phenotypes read 'not published'.",
)
postprocessing = click.option(
    "--postprocessing",
    type=click.Choice(["paper", "upstream-code", "none"]),
    default="paper",
    show_default=True,
    help="Which connected components are kept.",
)
engine = click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="How the network is computed: auto (the fastest that passes its gate here), eager, exact, compiled, onnx, "
    "openvino, openvino-int8 or cuda.",
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
batch_size = click.option(
    "--batch-size", type=click.IntRange(1, 1024), default=16, show_default=True, help="2D slices computed at a time."
)
region = click.option(
    "--region",
    type=click.Choice(["auto", "full"]),
    default="auto",
    show_default=True,
    help="auto: most frames in a window around the heart only, where that is safe. Several times faster.",
)
weights = click.option(
    "--weights",
    default="mousecmr-9.4T-unet3plus",
    show_default=True,
    help="The authors' published weights (fetched once), phantom-small (in the package, trained on synthetic mice "
    "only), or a weights file. Nothing stands in for weights that cannot be had.",
)


def processes(default: int | None) -> Callable[[Any], Any]:
    """Make the option --workers of commands that work in processes; None is one per processor core."""
    text = "Processes, one mouse each." if default else "Processes, one mouse each. Default: one per processor core."
    return click.option(
        "--workers", type=click.IntRange(1, 256), default=default, show_default=default is not None, help=text
    )
