"""``mousecmr review``: the screen on which masks are looked at and corrected, on this computer."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import join_names
from mousecmr_data.cli import options, output


@click.command()
@click.argument("folder", type=options.FOLDER)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0: any free one.")
@click.option("--reader", metavar="NAME", default="", help="Your name, written beside each change.")
@click.option("--blind", is_flag=True, help="Show codes instead of the mice's names, in a random order of this reader.")
@click.option("--unblind", is_flag=True, help="Print which mice the codes of this reader stand for, and stop.")
@click.option("--browser/--no-browser", default=True, help="Open the screen in the browser.")
def command(folder: Path, port: int, reader: str, blind: bool, unblind: bool, browser: bool) -> None:
    """Open a screen on this computer to look at the masks of FOLDER and to correct them: slices without a ventricle, ED
    and ES, and masks, with a brush.

    FOLDER is one that mousecmr segment wrote. Each change is saved at once, with your name; the tables are written
    again when you ask for it or stop the program. For research, not for clinical use.
    """
    require_extra("web", "gradio", "nibabel", "matplotlib")
    from mousecmr_data.pipeline.review import reveal_codes
    from mousecmr_data.web.review import clean_reader, launch, update_results

    if unblind:
        rows = [[code, name] for name, code in reveal_codes(folder, clean_reader(reader)).items()]
        output.print_table(["code", "mouse"], rows)
        return

    def show_address(address: str) -> None:
        click.echo(f"The screen is at {address}  (stop it with Ctrl-C)", err=True)
        if browser:
            webbrowser.open(address)

    try:
        launch(folder, port, reader=reader, blind=blind, opened=show_address)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    if changed := update_results(folder):
        names = f"{len(changed)} of the mice" if blind else join_names(changed)
        click.echo(f"measured again, with your corrections: {names}", err=True)
