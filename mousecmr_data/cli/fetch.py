"""``mousecmr fetch``: bring the files to this disk, verified."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@options.workers
@click.option("--weights", is_flag=True, help="The published network's weights too.")
@click.option("--check-upstream", is_flag=True, help="Only ask whether the pinned files still answer (HEAD).")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    workers: int,
    weights: bool,
    check_upstream: bool,
    as_json: bool,
) -> None:
    """Download MICE (default: all) and verify every byte.

    An interrupted download is resumed by the next one. MOUSECMR_MIRROR names other places to ask,
    MOUSECMR_OFFLINE=1 forbids network traffic.
    """
    from mousecmr_data import api
    from mousecmr_data.phantom import COHORTS

    manifest = api.resolve_manifest(source)
    if check_upstream:
        from mousecmr_data.download import verify

        answers = verify.check_upstream(manifest, mice or None, workers=workers)
        silent = [a for a in answers if not a.answers]
        if as_json:
            output.print_json([asdict(a) for a in answers])
        else:
            if silent:
                output.print_table(["file", "trouble", "url"], [[a.name, a.trouble, a.url] for a in silent])
            click.echo(f"{len(answers) - len(silent)} of {len(answers)} pinned files answer.")
        ctx.exit(1 if silent else 0)
    from mousecmr_data.download.fetch import FetchResult, fetch_files, fetch_weights

    if source in COHORTS:
        done = FetchResult(api.fetch(mice or None, source=source, cache=cache))
    else:
        done = fetch_files(manifest, mice or None, cache=cache, workers=workers)
        if weights:
            for name in manifest.weights:
                done.paths[name] = fetch_weights(manifest, name, cache=cache)
    if as_json:
        output.print_json({"paths": done.paths, "downloaded": sorted(done.downloaded), "notes": done.notes})
        return
    output.warn_synthetic(manifest.synthetic)
    for note in done.notes:
        click.secho(note, fg="yellow", err=True)
    what = "made" if source in COHORTS else "verified"
    click.echo(f"{len(done.paths)} files on this disk, {what}; {len(done.downloaded)} came now.")
    for folder in dict.fromkeys(path.parent for path in done.paths.values()):
        click.echo(str(folder))
