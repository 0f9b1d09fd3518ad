"""``mousecmr verify``: check the checksums and the content of the files on this disk, derived files included."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data.cli import options, output

MAX_ROWS = 40
"""The most rows of the table that are printed."""


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@options.workers
@click.option(
    "--repair",
    is_flag=True,
    help="Download missing and damaged files again, and only those; remove damaged derived files.",
)
@click.option("--content/--no-content", default=True, help="Also read each file and check what is in it.")
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
    """Hash the files of MICE (default: all) again, and check their content and everything in the cache that was derived
    from them. --source may also be a store of `mousecmr convert`.

    Exit status 1 if a file is missing, damaged, of another version, or has invalid content. Files that the manifest
    does not name are listed, but do not change the exit status.
    """
    from mousecmr_data import api
    from mousecmr_data.download.cache import make_command

    manifest = api.resolve_manifest(source)
    with output.progress("verifying", len(mice) or len(manifest.files)) as advance:
        rows = api.verify(
            mice or None, source=source, cache=cache, repair=repair, content=content, workers=workers, progress=advance
        )
    bad = sum(r.has_problem for r in rows)
    if as_json:
        output.print_json([{**asdict(r), "trouble": r.has_problem} for r in rows])
        ctx.exit(1 if bad else 0)
    output.warn_synthetic(manifest.synthetic)
    notable = [r for r in rows if r.has_problem or r.detail or r.bytes == "unknown"]
    lines = [[r.mouse or r.path, r.bytes, " ".join([r.detail, *r.problems]).strip()] for r in notable[:MAX_ROWS]]
    if lines:
        output.print_table(["mouse", "bytes", "detail"], lines)
    if len(notable) > MAX_ROWS:
        click.echo(f"… and {len(notable) - MAX_ROWS} more: {make_command('verify --json', manifest, cache)}")
    is_store = any(r.kind == "store" for r in rows)
    derived = [r.has_problem for r in rows if r.kind == "derived"]
    if derived:
        click.echo(f"{len(derived)} derived files and folders: {derived.count(False)} intact, {sum(derived)} damaged.")
    named = [r.has_problem for r in rows if r.mouse]
    kind = "mice of a store" if is_store else "files"
    click.echo(f"{len(named)} {kind}: {named.count(False)} valid, {sum(named)} with problems.")
    if bad and not repair and not is_store:
        command = make_command("verify --repair", manifest, cache)
        click.echo(f"Next: {command}  (downloads damaged files again; derived files are made again when needed)")
    ctx.exit(1 if bad else 0)
