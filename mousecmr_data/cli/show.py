"""``mousecmr show``: one mouse as pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import make_file_name
from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset


@click.command()
@click.argument("mouse")
@options.source
@options.cache
@options.spacing
@options.axes
@options.output_folder("Folder for the pictures.", Path())
@options.overwrite_edited
@options.as_json
def command(
    mouse: str,
    source: str,
    cache: Path | None,
    spacing: options.Spacing | None,
    axes: str | None,
    folder: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw MOUSE, a name (Mouse4) or an HDF5 file: ED/ES montage with masks, and the volume curve."""
    require_extra("evaluation", "matplotlib")
    from mousecmr_data import api
    from mousecmr_data._utils.outputs import check_folder, write_folder
    from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure

    ds = api.open_mouse(mouse, source=source, cache=cache, spacing=spacing, axes=axes)
    name = make_file_name(str(ds.attrs["mouse"]))
    plots: dict[str, Callable[[Dataset], Figure]] = {f"{name}_montage.png": plot_montage}
    if ds["labelled"].any():
        plots[f"{name}_volume.png"] = plot_volume_curve
    check_folder(folder, plots, overwrite=overwrite, inputs=options.find_inputs(source, cache, mouse))
    with write_folder(folder, overwrite=overwrite, inside=True, keep=True) as partial:
        for file, plot in plots.items():
            save_figure(plot(ds), partial / file)
    written = [folder / file for file in plots]
    if as_json:
        output.print_json({"mouse": name, "synthetic": ds.attrs["synthetic"], "written": written})
        return
    output.warn_synthetic(bool(ds.attrs["synthetic"]))
    for path in written:
        click.echo(f"written: {path}")
    if len(written) == 1:
        click.echo("No frame is labelled, so there is no volume curve.")
