"""``mousecmr demo``: the main job, end to end, on synthetic mice."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mousecmr_data.cli import options, output


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures and the table.",
)
@click.option("--per-group", type=click.IntRange(1, 39), default=5, show_default=True, help="Mice of each group.")
@options.cache
def command(folder: Path, per_group: int, cache: Path | None) -> None:
    """Try everything without a download: synthetic mice are made, loaded, measured and drawn."""
    import pandas as pd

    from mousecmr_data import api
    from mousecmr_data.cine.measure import measure
    from mousecmr_data.evaluate import figures
    from mousecmr_data.phantom.source import PhantomSource, make

    output.warn_synthetic(True)
    cohort = api.load(split="train", source="phantom", cache=cache)
    click.echo(f'mousecmr_data.load(split="train", source="phantom")  →  {cohort!r}')
    few = cohort.select(cohort.table.groupby("phenotype").head(per_group).index)
    with output.progress(f"making {len(few)} synthetic mice", len(few)) as advance:
        make(PhantomSource("phantom", cache), few.mice, os.cpu_count() or 1, lambda _: advance(1))
    with output.progress("measuring", len(few)) as advance:
        rows = []
        for ds in few:
            rows.append({"group": ds.attrs["phenotype"], **measure(ds).summary()})
            advance(1)
    measures = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    measures.to_csv(folder / "measures.csv", index=False)
    columns = {"edv_ul": "EDV µL", "esv_ul": "ESV µL", "ef_percent": "EF %", "mass_ed_mg": "mass mg"}
    groups = [(name, part) for name, part in measures.groupby("group")]
    output.print_table(
        ["group", "n", *columns.values()],
        [
            [name, len(part), *(f"{part[c].mean():.1f} ± {part[c].std():.1f}" for c in columns)]
            for name, part in [*groups, ("all", measures)]
        ],
        title="Synthetic mice: mean ± SD",
        note="Published for real mice: EDV 65.6 ± 10.0 µL, ESV 27.3 ± 10.1 µL, EF 59.3 ± 10.7 %, mass 105.2 ± 26.8 mg",
    )
    ds = few[few.mice[0]]
    written = [
        folder / "measures.csv",
        figures.save(figures.montage(ds), folder / "montage.png"),
        figures.save(figures.volume_curve(ds), folder / "volume.png"),
    ]
    for path in written:
        click.echo(f"written: {path}")
    click.echo("These mice are synthetic. The 130 real ones: mousecmr fetch  (about 5 GB, GPL-3.0)")
