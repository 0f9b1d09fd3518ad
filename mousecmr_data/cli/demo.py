"""``mousecmr demo``: the main job, end to end, on synthetic mice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures and tables.",
)
@click.option("--per-group", type=click.IntRange(1, 11), default=5, show_default=True, help="Mice of each group.")
@click.option("--segment", type=click.IntRange(0, 25), default=3, show_default=True, help="Test mice to segment.")
@options.cache
def command(folder: Path, per_group: int, segment: int, cache: Path | None) -> None:
    """Try everything without a download: synthetic mice are made, loaded, measured, segmented and drawn."""
    from mousecmr_data import api

    output.warn_synthetic(True)
    cohort = api.load(split="train", source="phantom", cache=cache)
    click.echo(f'mousecmr_data.load(split="train", source="phantom")  →  {cohort!r}')
    few = cohort.select(cohort.to_dataframe().groupby("phenotype").head(per_group).index)
    test = api.load(split="test", source="phantom", cache=cache)
    test = test.select(test.mice[:segment])
    _make([*few.mice, *test.mice], cache)
    written = _measure(few, folder)
    if segment:
        written += _segment(test, folder)
    for path in written:
        click.echo(f"written: {path}")
    click.echo("These mice are synthetic. The 130 real ones: mousecmr fetch  (about 5 GB, GPL-3.0)")


def _make(mice: list[str], cache: Path | None) -> None:
    from mousecmr_data.phantom.source import PhantomSource, make_files

    source = PhantomSource("phantom", cache)
    missing = [m for m in mice if not source.get_path(m).exists()]
    if missing:
        with output.progress(f"making {len(missing)} synthetic mice", len(missing)) as advance:
            make_files(source, missing, os.cpu_count() or 1, lambda _: advance(1))


def _measure(cohort: Cohort, folder: Path) -> list[Path]:
    """Volumes by group, and the pictures of one mouse."""
    import pandas as pd

    from mousecmr_data.metrics.volumes import measure
    from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure
    from mousecmr_data.schema.manifest import load_manifest

    with output.progress("measuring", len(cohort)) as advance:
        rows = []
        for ds in cohort.values():
            rows.append({"group": ds.attrs["phenotype"], **measure(ds).to_dict()})
            advance(1)
    measures = pd.DataFrame(rows)
    folder.mkdir(parents=True, exist_ok=True)
    measures.to_csv(folder / "measures.csv", index=False)
    columns = {"edv_ul": "EDV", "esv_ul": "ESV", "ef_percent": "EF", "mass_ed_mg": "mass at ED"}
    table = [
        [name, len(part), *(f"{part[c].mean():.1f} ± {part[c].std():.1f}" for c in columns)]
        for name, part in [*measures.groupby("group"), ("all", measures)]
    ]
    published = load_manifest().published
    if published:
        truth = {m.name: f"{m.truth[0]} ± {m.truth[1]}" for m in published.measures}
        table.append(["real mice, published", 25, *(truth[name] for name in columns.values())])
    output.print_table(
        ["group", "n", "EDV µL", "ESV µL", "EF %", "mass mg"], table, title="Synthetic mice: mean ± SD of the group"
    )
    ds = cohort[cohort.mice[0]]
    return [
        folder / "measures.csv",
        save_figure(plot_montage(ds), folder / "montage.png"),
        save_figure(plot_volume_curve(ds), folder / "volume.png"),
    ]


def _segment(cohort: Cohort, folder: Path) -> list[Path]:
    """Test mice segmented by the network that ships with the package, held against the truth, in motion."""
    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.metrics.overlap import score_frames
    from mousecmr_data.metrics.volumes import measure
    from mousecmr_data.plotting import write_movie

    predictor = load_model("phantom-small")
    rows, written = [], []
    total = sum(s.n_frames * s.n_slices for s in map(cohort.source.summarize, cohort.mice))
    with output.progress(f"segmenting {len(cohort)} test mice, image by image", total) as advance:
        for ds in cohort.values():
            found = predictor.segment(ds, progress=advance)
            dice, truth, ours = score_frames(found), measure(ds), measure(found, mask="predicted")
            means = (float(dice[c].mean()) for c in ("dice_myocardium", "dice_blood_pool"))
            rows.append([truth.mouse, *(f"{m:.3f}" for m in means), truth.ef_percent, ours.ef_percent])
            written.append(write_movie(found, folder / f"{truth.mouse}_segmented.gif", "predicted"))
    output.print_table(
        ["mouse", "Dice myocardium", "Dice blood pool", "EF % truth", "EF % measured"],
        rows,
        title="Segmented by phantom-small (trained on synthetic mice only), ED and ES",
    )
    return written
