"""``mousecmr compare``: two results, mouse by mouse."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import format_count
from mousecmr_data.cli import options, output


@click.command()
@click.argument("a", type=options.PATH)
@click.argument("b", type=options.PATH)
@click.option("--csv", type=options.FILE, help="Also write the table here, and as a workbook (.xlsx) beside it.")
@options.overwrite_file
@options.as_json
def command(a: Path, b: Path, csv: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show the paired differences B − A of two result files of `mousecmr evaluate`, with 95 % intervals.

    The primary endpoint is the mean Dice; the p-values of all other rows are adjusted for their number. Only mice that
    both results have scored are compared. Their masks must have been scored against the same truth.
    """
    require_extra("evaluation", "pingouin")
    from mousecmr_data._utils.tables import check_table, write_table
    from mousecmr_data.evaluation.result import read_result
    from mousecmr_data.evaluation.tables import (
        COMPARISON_NOTE,
        compare_results,
        format_interval,
        format_number,
        format_p,
    )

    if csv:
        check_table(csv, overwrite=overwrite, inputs=[a, b])
    result = compare_results(read_result(a), read_result(b))
    records = result.table.to_dict("records")
    written = write_table(csv, result.table, "comparison", overwrite=overwrite) if csv else []
    if as_json:
        output.print_json({**asdict(result), "table": records})
        return
    output.warn_synthetic(result.synthetic)
    if result.policies_differ:
        click.secho(f"The results differ in the policies: {', '.join(result.policies_differ)}.", fg="yellow", err=True)
    for name, mice in (("A", result.only_a), ("B", result.only_b)):
        if mice:
            click.secho(f"Only in {name}: {', '.join(mice)}", fg="yellow", err=True)
    if any(result.missed):
        text = "Nothing was predicted of {} mice in A, of {} in B; these have no distances, and may have no EF."
        click.secho(text.format(*result.missed), fg="yellow", err=True)
    output.print_table(
        ["what", "structure", "phase", "n", "A", "B", "B − A", "95 % CI", "p", "p adjusted", "better"],
        [
            [
                *(r[k] for k in ("what", "structure", "phase", "n")),
                *(format_number(r[k], 3) for k in ("a", "b", "difference")),
                format_interval(r["ci_low"], r["ci_high"], 3),
                format_p(r["p"]),
                format_p(r["p_adjusted"]),
                r["better"].upper(),
            ]
            for r in records
        ],
        title=f"A: {result.a}\nB: {result.b}\n{format_count(len(result.mice), 'mouse')}",
        note=COMPARISON_NOTE,
    )
    for file in written:
        click.echo(f"written: {file}")
