"""``mousecmr compare``: two results, mouse by mouse."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--csv", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table here.")
@options.as_json
def command(a: Path, b: Path, csv: Path | None, as_json: bool) -> None:
    """Paired differences B − A of two result files of `mousecmr evaluate`, with 95 % intervals.

    Only mice that both have scored count, and only where their masks were held against the same truth.
    """
    from mousecmr_data.evaluation.html import format_interval, format_number
    from mousecmr_data.evaluation.result import read_result
    from mousecmr_data.evaluation.tables import compare_results

    found = compare_results(read_result(a), read_result(b))
    if csv:
        csv.parent.mkdir(parents=True, exist_ok=True)
        found.table.to_csv(csv, index=False)
    if as_json:
        output.print_json({**asdict(found), "table": found.table.to_dict("records")})
        return
    output.warn_synthetic(found.synthetic)
    if found.policies_differ:
        click.secho(f"The results differ in the policies: {', '.join(found.policies_differ)}.", fg="yellow", err=True)
    for who, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            click.secho(f"Only in {who}: {', '.join(names)}", fg="yellow", err=True)
    output.print_table(
        ["what", "structure", "phase", "n", "A", "B", "B − A", "95 % CI", "p", "better"],
        [
            [r["what"], r["structure"], r["phase"], r["n"], format_number(r["a"], 3), format_number(r["b"], 3),
             format_number(r["difference"], 3), format_interval(r["ci_low"], r["ci_high"], 3), format_number(r["p"], 3), r["better"].upper()]
            for r in found.table.to_dict("records")
        ],
        title=f"A: {found.a}\nB: {found.b}\n{len(found.mice)} mice",
        note="95 % CI: bootstrap by mouse; p: paired t-test; better: the interval leaves zero out, and p < 0.05",
    )  # fmt: skip
    if csv:
        click.echo(f"written: {csv}")
