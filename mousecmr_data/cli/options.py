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
jobs = click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Parallel transfers.")
voxel_size = click.option(
    "--voxel-size",
    type=(float, float, float),
    metavar="Z Y X",
    help="Voxel size in mm, where the file does not say and the article's 1.0 0.1 0.1 is wrong.",
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
batch = click.option(
    "--batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="2D slices at a time."
)


def region(default: str) -> Callable[[Any], Any]:
    """The option --region; what a verb does unasked is its own."""
    return click.option(
        "--region",
        type=click.Choice(["full", "auto"]),
        default=default,
        show_default=True,
        help="auto: most frames in a window around the heart only, where that is safe. Several times faster.",
    )
