"""``mousecmr serve``: the web page that segments scans, on this computer."""

from __future__ import annotations

import secrets
import webbrowser
from pathlib import Path

import click

from mousecmr_data._utils.environment import require_engine, require_extra
from mousecmr_data.cli import options
from mousecmr_data.schema import HOST, PORT, PUBLISHED_WEIGHTS, SMALL_WEIGHTS


@click.command()
@click.option(
    "--host",
    default=HOST,
    help="Address to listen at. The default can be reached from this computer only. 0.0.0.0 can be reached from every "
    "network that the computer is in; the page then opens only with the link that is printed.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, help="Port; 0: any free one.")
@click.option(
    "--weights",
    default=PUBLISHED_WEIGHTS,
    help=f"Weights that are selected when the page opens: {PUBLISHED_WEIGHTS}, {SMALL_WEIGHTS}, a name given to "
    "mousecmr tune (the page offers all these), or a weights file, which it offers too.",
)
@options.network_class
@click.option(
    "--token/--no-token",
    default=None,
    help="Open the page only with a link that holds a random token. Default: if other computers can reach the page.",
)
@click.option(
    "--root-path",
    default="",
    help="Path below which a reverse proxy shows the page, such as /proxy/7860 (Jupyter) or /rnode/HOST/PORT (Open "
    "OnDemand); / at its top. See docs/web.md.",
)
@click.option("--upload-limit", type=click.IntRange(1), default=2000, help="Most MB that a visitor may upload.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder in which the results of each job stay, in a folder named by date and time; jobs then go on when their "
    "page is closed. Everyone who may open the page sees all results in it. Default: files are deleted with the page.",
)
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
@options.cache
def command(
    host: str,
    port: int,
    weights: str,
    network: str | None,
    token: bool | None,
    root_path: str,
    upload_limit: int,
    keep: Path | None,
    browser: bool,
    cache: Path | None,
) -> None:
    """Open a web page on this computer: drop scans, get masks, volumes, EF, pictures and one zip file.

    Nothing leaves the computer. Files are deleted when the page is closed; --keep keeps the results. For
    research, not for clinical use.
    """
    require_engine("web")
    require_extra("web", "gradio", "nibabel", "matplotlib")
    from mousecmr_data.web.app import launch
    from mousecmr_data.web.config import ServerConfig

    secret = None if token is None else secrets.token_urlsafe(32) if token else ""
    file = Path(weights)
    own = file if weights != PUBLISHED_WEIGHTS and (file.suffix or file.exists()) else None  # its name has a dot
    config = ServerConfig(
        host,
        PUBLISHED_WEIGHTS if own else weights,
        own_weights=own,
        network=network,
        token=secret,
        root_path=root_path,
        upload_mb=upload_limit,
        keep=keep,
        cache=cache,
    )

    def show_address(address: str) -> None:
        click.echo(f"The page is at {address}  (stop it with Ctrl-C)", err=True)
        if not config.local:
            text = "with this link only" if "token=" in address else "without a password"
            text = f"Other computers in this network can reach it, {text}. The connection is not encrypted."
            click.secho(text, fg="yellow", err=True)
        if keep:
            click.echo(f"Results stay in {keep}; everyone who may open the page sees them.", err=True)
        if root_path:
            query = address.partition("?")[2]
            text = f"{config.prefix}/{'?' * bool(query)}{query}"
            click.echo(f"Through the proxy: https://ITS-NAME{text}", err=True)
        elif browser and config.local:
            webbrowser.open(address)

    try:
        launch(config, port, opened=show_address)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
