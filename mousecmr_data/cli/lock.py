"""``mousecmr lock``: the checksums that were recorded when files were first verified."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.group()
def command() -> None:
    """List the files that were verified in this cache, with their checksums."""


@command.command()
@options.source
@options.cache
@options.as_json
def export(source: str, cache: Path | None, as_json: bool) -> None:
    """Print CSV rows for the manifest's files.csv: mouse,path,git_blob_sha1,sha256,size.

    Rows of files that were never verified in this cache repeat the manifest.
    """
    from mousecmr_data import api
    from mousecmr_data.download.cache import list_verified_entries
    from mousecmr_data.schema.manifest import format_files_csv

    entries = list_verified_entries(api.resolve_manifest(source), cache)
    if as_json:
        output.print_json([{k: "" if v is None else v for k, v in asdict(entry).items()} for entry in entries])
    else:
        click.echo(format_files_csv(entries), nl=False)
