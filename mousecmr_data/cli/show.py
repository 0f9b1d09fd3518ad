"""``mousecmr show``: one mouse as pictures."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.names import make_file_name
from mousecmr_data.cli import options, output


@click.command()
@click.argument("mouse")
@options.source
@options.cache
@options.spacing
@options.output_folder("Folder for the pictures.", Path())
@options.as_json
def command(
    mouse: str, source: str, cache: Path | None, spacing: options.Spacing | None, folder: Path, as_json: bool
) -> None:
    """Draw MOUSE, a name (Mouse4) or an HDF5 file: ED/ES montage with masks, and the volume curve."""
    require_extra("evaluation", "matplotlib")
    from mousecmr_data import api
    from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure

    ds = api.open_mouse(mouse, source=source, cache=cache, spacing=spacing)
    name = make_file_name(str(ds.attrs["mouse"]))
    written = [save_figure(plot_montage(ds), folder / f"{name}_montage.png")]
    if ds["labelled"].any():
        written.append(save_figure(plot_volume_curve(ds), folder / f"{name}_volume.png"))
    if as_json:
        output.print_json({"mouse": name, "synthetic": ds.attrs["synthetic"], "written": written})
        return
    output.warn_synthetic(bool(ds.attrs["synthetic"]))
    for path in written:
        click.echo(f"written: {path}")
    if len(written) == 1:
        click.echo("No frame is labelled, so there is no volume curve.")
