"""``mousecmr lock``: the checksums that this cache learned on first arrival."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.group()
def command() -> None:
    """What this cache has verified, and the checksums it learned on the way."""


@command.command()
@options.source
@options.cache
@options.as_json
def export(source: str, cache: Path | None, as_json: bool) -> None:
    """Print CSV rows (mouse,path,git_blob_sha1,sha256,size) ready for the manifest's files.csv.

    Rows of files that this cache never verified keep what the manifest says.
    """
    from mousecmr_data import api
    from mousecmr_data.download.cache import export_lock_rows

    table = export_lock_rows(api.resolve_manifest(source), cache)
    if as_json:
        output.print_json(table)
        return
    writer = csv.DictWriter(sys.stdout, table[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
