"""``mousecmr fetch``: download files and verify them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.command()
@click.argument("mice", nargs=-1)
@options.source
@options.cache
@options.workers
@click.option("--weights", is_flag=True, help="Download the published network's weights too.")
@click.option("--only-weights", is_flag=True, help="Download the published network's weights, and no mice.")
@click.option(
    "--check-upstream", is_flag=True, help="Download nothing; only check that the original host has the files."
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    mice: tuple[str, ...],
    source: str,
    cache: Path | None,
    workers: int,
    weights: bool,
    only_weights: bool,
    check_upstream: bool,
    as_json: bool,
) -> None:
    """Download MICE (default: all) and verify every byte.

    After an interruption, the same command resumes the download. MOUSECMR_MIRROR names hosts and folders to try first;
    MOUSECMR_OFFLINE=1 forbids network traffic.
    """
    from mousecmr_data import api
    from mousecmr_data.schema import PHANTOMS

    if only_weights and mice:
        raise click.UsageError("--only-weights downloads no mice: leave out their names, or use --weights.")
    manifest = api.resolve_manifest(source)
    if check_upstream:
        from mousecmr_data.download import verify

        answers = verify.check_upstream(manifest, mice or None, workers=workers)
        failed = [a for a in answers if not a.answers]
        if as_json:
            output.print_json([asdict(a) for a in answers])
        else:
            if failed:
                output.print_table(["file", "problem", "url"], [[a.name, a.trouble, a.url] for a in failed])
            click.echo(f"{len(answers) - len(failed)} of {len(answers)} files are available.")
        ctx.exit(1 if failed else 0)
    from mousecmr_data.download.fetch import FetchResult, fetch_files, fetch_weights

    if source in PHANTOMS:
        result = FetchResult(api.fetch(mice or None, source=source, cache=cache))
    else:
        result = fetch_files(manifest, [] if only_weights else mice or None, cache=cache, workers=workers)
        for name in manifest.weights if weights or only_weights else ():
            result.paths[name] = fetch_weights(manifest, name, cache=cache)
    if as_json:
        output.print_json({"paths": result.paths, "downloaded": sorted(result.downloaded), "notes": result.notes})
        return
    output.warn_synthetic(manifest.synthetic)
    for note in result.notes:
        click.secho(note, fg="yellow", err=True)
    state = "made by the phantom" if source in PHANTOMS else "verified"
    click.echo(
        f"{format_count(len(result.paths), 'file')} on this disk, {state}; {len(result.downloaded)} downloaded now."
    )
    for folder in dict.fromkeys(path.parent for path in result.paths.values()):
        click.echo(str(folder))
