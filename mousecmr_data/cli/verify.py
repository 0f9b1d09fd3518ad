"""``mousecmr verify``: is what lies on this disk what the manifest names, and is it sound?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.api import VerifiedFile


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@options.workers
@click.option("--repair", is_flag=True, help="Fetch again what is missing or damaged, and only that.")
@click.option("--content/--no-content", default=True, help="Also read each file and audit what is in it.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    workers: int,
    repair: bool,
    content: bool,
    as_json: bool,
) -> None:
    """Hash the files of MICE (default: all) again, and audit their content.

    Exit status 1 where a file is missing, damaged, of another version, or has unsound content; files
    that the manifest does not name are listed, but harm nobody.
    """
    from mousecmr_data import api

    manifest = api.resolve_manifest(source)
    with output.progress("verifying", len(mice) or len(manifest.files)) as advance:
        rows = api.verify(
            mice or None,
            source=source,
            cache=cache,
            repair=repair,
            content=content,
            workers=workers,
            progress=advance,
        )
    bad = [r for r in rows if r.has_problem]
    if as_json:
        output.print_json([{**asdict(r), "trouble": r.has_problem} for r in rows])
    else:
        output.warn_synthetic(manifest.synthetic)
        _table(rows, len(bad), repair, source)
    ctx.exit(1 if bad else 0)


def _table(rows: Sequence[VerifiedFile], bad: int, repaired: bool, source: str) -> None:
    shown = [r for r in rows if r.has_problem or r.detail or r.bytes == "unknown"]
    if shown:
        lines = [[r.mouse or r.path, r.bytes, " ".join([r.detail, *r.problems]).strip()] for r in shown[:40]]
        output.print_table(["mouse", "bytes", "detail"], lines)
        if len(shown) > len(lines):
            click.echo(f"… and {len(shown) - len(lines)} more: mousecmr verify --json")
    files = sum(1 for r in rows if r.mouse)
    click.echo(f"{files} files, {files - bad} in order, {bad} in trouble.")
    if bad and not repaired:
        click.echo(f"Next: mousecmr verify --repair --source {source}  (gets again what is bad, and only that)")
