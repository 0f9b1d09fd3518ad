"""``mousecmr phantom``: make synthetic mice."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mousecmr_data._utils.notices import SYNTHETIC_DATA
from mousecmr_data.cli import options, output
from mousecmr_data.phantom import COHORTS


@click.command()
@click.argument("mice", nargs=-1)
@click.option("--cohort", type=click.Choice(COHORTS), default="phantom", show_default=True, help="Which cohort.")
@click.option("--list", "listing", is_flag=True, help="Only list the plans; nothing is made.")
@options.processes(None)
@options.cache
@options.as_json
def command(
    mice: tuple[str, ...], cohort: str, listing: bool, workers: int | None, cache: Path | None, as_json: bool
) -> None:
    """Make the files of synthetic MICE (Mouse1 Mouse2 ...; all if none is named) in the cache.

    `mousecmr_data.load(source="phantom")` makes what it needs by itself; this makes them ahead, on all
    cores. Everything made from a phantom is marked synthetic.
    """
    from mousecmr_data.dataset.cohort import resolve_name
    from mousecmr_data.phantom.source import PhantomSource, make_files

    source = PhantomSource(cohort, cache)
    names = [resolve_name(m, source.manifest.files) for m in mice] or list(source.manifest.files)
    if not listing:
        with output.progress(f"making {cohort}", len(names)) as advance:
            ready = sum(source.get_path(m).exists() for m in names)
            advance(ready)
            make_files(source, names, workers or os.cpu_count() or 1, lambda _: advance(1))
    plans = [source.summarize(m) for m in names]
    if as_json:
        output.print_json(
            [
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
                for p in plans
            ]
        )
        return
    output.warn_synthetic(True)
    if listing:
        output.print_table(
            ["mouse", "group", "slices", "frames", "ED", "ES", "labelled frames"],
            [
                [p.mouse, p.phenotype, p.n_slices, p.n_frames, p.ed_frame, p.es_frame, len(p.labelled_frames)]
                for p in plans
            ],
            title=SYNTHETIC_DATA,
        )
    else:
        click.echo(f"{len(names)} mice in {source.get_path(names[0]).parent}")
