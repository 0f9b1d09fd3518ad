"""``mousecmr merge``: results for parts of a split as one."""

from __future__ import annotations

from pathlib import Path

import click

from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.command()
@click.argument("results", nargs=-1, required=True, type=options.PATH)
@options.output_file("File for the joined result.", required=True)
@options.overwrite_file
@options.as_json
def command(results: tuple[Path, ...], path: Path, overwrite: bool, as_json: bool) -> None:
    """Join RESULTS of `mousecmr evaluate` for different mice of one source, scored under the same policies."""
    from mousecmr_data._utils.outputs import check_file
    from mousecmr_data.evaluation.result import merge_results, read_result

    check_file(path, overwrite=overwrite, inputs=results)
    merged = merge_results([read_result(p) for p in results])
    merged.write(path, overwrite=overwrite)
    if as_json:
        output.print_json({"written": path, "mice": [m.mouse for m in merged.mice], "synthetic": merged.synthetic})
        return
    output.warn_synthetic(merged.synthetic)
    click.echo(
        f"written: {path}  ({format_count(len(merged.mice), 'mouse')} of {format_count(len(results), 'result')})"
    )
