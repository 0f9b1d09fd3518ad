"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from mousecmr_data._utils.environment import ensure_temporary_folder
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOMS, PUBLISHED_WEIGHTS, SMALL_WEIGHTS, SPLIT_SCHEME

Spacing: TypeAlias = tuple[float, float, float]
Decorator: TypeAlias = Callable[[Any], Any]

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
POSTPROCESSING = click.Choice(["paper", "upstream-code", "slice-range", "none"])

cache = click.option(
    "--cache", type=FOLDER, help="Folder of the cache. Default: MOUSECMR_CACHE, else the system's cache folder."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, for programs.")
source = click.option(
    "--source",
    default=DEFAULT_DATASET,
    help=f"Where mice come from: {DEFAULT_DATASET}, a phantom ({', '.join(PHANTOMS)}), or a manifest folder.",
)
workers = click.option("--workers", type=click.IntRange(1, 32), default=4, help="Parallel transfers.")


def _order_spacing(_context: click.Context, _option: click.Parameter, sizes: Spacing | None) -> Spacing | None:
    if sizes is None:
        return None
    from mousecmr_data.dataset.model import order_spacing

    ordered = order_spacing(sizes)
    if ordered != sizes:
        z, y, x = ordered
        click.echo(f"--spacing was given as x y z: taken as slices {z:g}, pixels {y:g} x {x:g} mm.", err=True)
    return ordered


spacing = click.option(
    "--spacing",
    type=(float, float, float),
    metavar="Z Y X",
    callback=_order_spacing,
    help="Slice distance, pixel height and pixel width in mm, where the file states none or a wrong one.",
)
axes = click.option(
    "--axes",
    metavar="LETTERS",
    help="NIfTI, NRRD, MetaImage, HDF5: one letter per axis, in the order of the file (x column, y row, z slice, t "
    "frame), e.g. xyzt; tzyx for an array of numpy, tzxy for one of MATLAB in HDF5.",
)
frame_time = click.option(
    "--frame-time",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Time from frame to frame in ms, where the files state none or a wrong one.",
)
split_scheme = click.option("--split-scheme", default=SPLIT_SCHEME, help="Which splits; mousecmr info lists them.")
phenotypes = click.option(
    "--phenotypes",
    type=FILE,
    help="CSV file, also of Excel, with the columns mouse and phenotype. Without it, phenotypes read 'not published'.",
)
postprocessing = click.option(
    "--postprocessing",
    type=POSTPROCESSING,
    default="paper",
    help="What is kept. paper: the largest connected component; upstream-code: components by the authors' code; "
    "slice-range: slices that are consistent along the heart and through the beat; none: everything.",
)
engine = click.option(
    "--engine",
    default="auto",
    help="How the network is computed: auto (the fastest that passes its accuracy check on this computer), eager, "
    "exact, compiled, onnx, openvino, openvino-int8 or cuda.",
)
force = click.option(
    "--force", is_flag=True, help="Use the engine although it failed its accuracy check here; every output says so."
)
device = click.option("--device", default="auto", help="auto, cpu, cuda or mps.")
batch_size = click.option(
    "--batch-size", type=click.IntRange(1, 1024), default=16, help="2D slices computed at a time."
)
region = click.option(
    "--region",
    type=click.Choice(["auto", "full"]),
    default="auto",
    help="auto: compute most frames only in a window around the heart, where a check allows it; several times faster. "
    "full: compute every frame whole.",
)
weights = click.option(
    "--weights",
    default=PUBLISHED_WEIGHTS,
    help=f"The authors' published weights (downloaded once), {SMALL_WEIGHTS} (in the package, trained on synthetic "
    "mice only), a name given to mousecmr tune, or a weights file. Weights that are not available are an error; no "
    "others are used instead.",
)
network_class = click.option(
    "--network",
    metavar="MODULE:CLASS",
    help="The network of a weights file whose code is neither of this package or MONAI nor an installed entry point.",
)


threads = click.option("--threads", type=click.IntRange(1), help="Processor threads. Default: PyTorch's choice.")


def parse_json(text: str) -> Any:
    """Return a JSON value, or the text itself if it is none: the configuration says what is wrong with it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _parse_settings(_context: click.Context, _option: click.Parameter, words: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise click.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="--set")
        settings[key] = parse_json(value)
    return settings


settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", callback=_parse_settings,
    help="Any other setting; VALUE is JSON.",
)  # fmt: skip


def network(command: Any) -> Any:
    """Add the options of a segmentation. Each is the field of the same name of ``pipeline.config.PredictConfig``."""
    for option in (batch_size, device, region, force, engine, postprocessing, network_class, weights):
        command = option(command)
    return command


overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace results that were edited, or made with other settings or inputs."
)
overwrite_file = click.option("--overwrite", is_flag=True, help="Replace an output file that exists, whoever wrote it.")
overwrite_edited = click.option("--overwrite", is_flag=True, help="Replace results that were edited.")


def find_inputs(source: str, cache: Path | None, *words: str | Path | None) -> list[Path]:
    """Return what a command reads: those of ``words`` that are paths, and the folders of its source."""
    from mousecmr_data import api
    from mousecmr_data._utils.outputs import find_paths
    from mousecmr_data.download.cache import list_input_folders

    return [*find_paths(*words), *list_input_folders(api.resolve_manifest(source), cache)]


def labels(of: str) -> Decorator:
    """Make the option --labels of commands that read masks of other programs."""
    text = f"What the numbers in {of} mean, where they are not 1 myocardium, 2 blood pool: e.g. lv=3,myo=2, or acdc, "
    return click.option("--labels", metavar="MAP", help=text + "mms, ukbb. Their other numbers are background.")


def processes(default: int | None) -> Decorator:
    """Make the option --workers of commands that work in processes; None is one per processor core."""
    text = "Processes, one mouse each." if default else "Processes, one mouse each. Default: one per processor core."
    return click.option("--workers", type=click.IntRange(1, 256), default=default, help=text)


scheduler = click.option(
    "--dask", "scheduler", metavar="ADDRESS", help="Use the workers of this dask scheduler instead of --workers."
)


def output_folder(text: str, default: Path | None = None, *, required: bool = False) -> Decorator:
    """Make the option --output of commands that write a folder; the parameter is ``folder``."""

    def prepare(_context: click.Context, _option: click.Parameter, folder: Path | None) -> Path | None:
        if folder is not None:
            ensure_temporary_folder(folder)
        return folder

    return click.option(
        "-o", "--output", "folder", type=FOLDER, default=default, required=required, help=text, callback=prepare
    )


def output_file(text: str, *, required: bool = False) -> Decorator:
    """Make the option --output of commands that write one file; the parameter is ``path``."""
    return click.option("-o", "--output", "path", type=FILE, required=required, help=text)
