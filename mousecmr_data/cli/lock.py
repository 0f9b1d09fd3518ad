"""``mousecmr lock``: the checksums that were recorded when files were first verified."""

from __future__ import annotations

import csv
import sys
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
    from mousecmr_data.download.cache import export_lock_rows

    rows = export_lock_rows(api.resolve_manifest(source), cache)
    if as_json:
        output.print_json(rows)
        return
    writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
