"""``mousecmr merge``: results of parts of a split as one."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The merged result.",
)
@options.as_json
def command(results: tuple[Path, ...], target: Path, as_json: bool) -> None:
    """Merge RESULTS of `mousecmr evaluate`: other mice of the same source, scored under the same policies."""
    from mousecmr_data.evaluation.result import merge_results, read_result

    merged = merge_results([read_result(p) for p in results])
    merged.write(target)
    if as_json:
        output.print_json({"written": target, "mice": [m.mouse for m in merged.mice], "synthetic": merged.synthetic})
        return
    output.warn_synthetic(merged.synthetic)
    click.echo(f"written: {target}  ({len(merged.mice)} mice of {len(results)} results)")
