"""``mousecmr serve``: the page where a lab drops its mice, on this computer."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from mousecmr_data.cli import options


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at. The default can be reached from this computer only; 0.0.0.0 is every network that "
    "it is in, without a password.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option(
    "--weights",
    type=click.Choice(["mousecmr-9.4T-unet3plus", "phantom-small"]),
    default="mousecmr-9.4T-unet3plus",
    show_default=True,
    help="Which are chosen when the page opens; it offers both.",
)
@click.option("--upload-limit", type=click.IntRange(1), default=2000, show_default=True, help="MB a visitor, in all.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in the browser.")
@options.cache
def command(host: str, port: int, weights: str, upload_limit: int, browser: bool, cache: Path | None) -> None:
    """Open a page on this computer: drop mice, get masks, volumes, EF, pictures and one zip.

    Nothing leaves the computer. Files are deleted when the page is closed. For research, not for clinical use.
    """
    from mousecmr_data.web.app import launch
    from mousecmr_data.web.config import ServerConfig

    chosen = ServerConfig(host, weights, upload_limit, cache=cache)

    def opened(address: str) -> None:
        click.echo(f"The page is at {address}  (stop it with Ctrl-C)", err=True)
        if not chosen.local:
            click.secho("Others in this network can reach it, and there is no password.", fg="yellow", err=True)
        if browser and chosen.local:
            webbrowser.open(address)

    try:
        launch(chosen, port, opened=opened)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
