"""``mousecmr phantom``: make synthetic mice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mousecmr_data._utils.text import SYNTHETIC_DATA, format_count
from mousecmr_data.cli import options, output
from mousecmr_data.schema import PHANTOMS


@click.command()
@click.argument("mice", nargs=-1)
@click.option("--cohort", type=click.Choice(PHANTOMS), default=PHANTOMS[0], help="Which cohort.")
@click.option("--list", "listing", is_flag=True, help="Only list the mice; make no files.")
@options.processes(None)
@options.cache
@options.as_json
def command(
    mice: tuple[str, ...], cohort: str, listing: bool, workers: int | None, cache: Path | None, as_json: bool
) -> None:
    """Make the files of synthetic MICE (Mouse1 Mouse2 ...; default: all) in the cache.

    `mousecmr_data.load(source="phantom")` makes the files that it needs; this command makes them in advance, on all
    cores. Everything made from a phantom is marked synthetic.
    """
    from mousecmr_data.phantom.source import PhantomSource, make_files
    from mousecmr_data.schema.manifest import resolve_names

    source = PhantomSource(cohort, cache)
    names = resolve_names(mice or source.manifest.files, source.manifest.files)
    if not listing:
        with output.progress(f"making {cohort}", len(names)) as advance:
            advance(sum(source.get_path(m).exists() for m in names))
            make_files(source, names, workers or os.cpu_count() or 1, lambda _: advance(1))
    rows: list[dict[str, Any]] = [
        {
            "mouse": p.mouse,
            "synthetic": True,
            "phenotype": p.phenotype,
            "slices": p.n_slices,
            "frames": p.n_frames,
            "ed_frame": p.ed_frame,
            "es_frame": p.es_frame,
            "labelled_frames": p.labelled_frames,
            "file": source.get_path(p.mouse),
        }
        for p in map(source.summarize, names)
    ]
    if as_json:
        output.print_json(rows)
        return
    output.warn_synthetic(True)
    if listing:
        columns = ("mouse", "phenotype", "slices", "frames", "ed_frame", "es_frame")
        output.print_table(
            ["mouse", "group", "slices", "frames", "ED", "ES", "labelled frames"],
            [[*(row[c] for c in columns), len(row["labelled_frames"])] for row in rows],
            title=SYNTHETIC_DATA,
        )
    else:
        click.echo(f"{format_count(len(names), 'mouse')} in {source.get_path(names[0]).parent}")
