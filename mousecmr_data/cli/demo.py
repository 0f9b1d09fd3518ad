"""``mousecmr demo``: load, measure and segment synthetic mice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mousecmr_data._utils.environment import require_engine, require_extra
from mousecmr_data.cli import options, output
from mousecmr_data.schema import PHANTOMS, SMALL_WEIGHTS

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort

FILES = MEASURES_FILE, MONTAGE_FILE, CURVE_FILE, _ = "measures.csv", "montage.png", "volume.png", "measures.xlsx"
MOVIE_FILE = "{}_segmented.gif"


@click.command()
@options.output_folder("Folder for the pictures and tables.", Path("demo-output"))
@options.overwrite_edited
@click.option("--per-group", type=click.IntRange(1, 11), default=5, help="Mice of each group.")
@click.option("--segment", type=click.IntRange(0, 25), default=3, help="Test mice to segment.")
@options.cache
def command(folder: Path, overwrite: bool, per_group: int, segment: int, cache: Path | None) -> None:
    """Try everything without a download: make synthetic mice, then load, measure, segment and draw them."""
    require_extra("segment" if segment else "evaluation", "matplotlib")
    if segment:
        require_engine()
    from mousecmr_data import api
    from mousecmr_data._utils.outputs import check_folder, write_folder
    from mousecmr_data.phantom.source import PhantomSource, make_files
    from mousecmr_data.schema.manifest import load_manifest

    phantom, real = PHANTOMS[0], load_manifest()
    output.warn_synthetic(True)
    cohort = api.load(split="train", source=phantom, cache=cache)
    click.echo(f'mousecmr_data.load(split="train", source="{phantom}")  →  {cohort!r}')
    cohort = cohort.select(cohort.to_dataframe().groupby("phenotype").head(per_group).index)
    test = api.load(split="test", source=phantom, cache=cache)
    test = test.select(test.mice[:segment])
    source = PhantomSource(phantom, cache)
    missing = [m for m in (*cohort.mice, *test.mice) if not source.get_path(m).exists()]
    if missing:
        with output.progress(f"making {len(missing)} synthetic mice", len(missing)) as advance:
            make_files(source, missing, os.cpu_count() or 1, lambda _: advance(1))
    movies = [MOVIE_FILE.format(mouse) for mouse in test.mice]
    check_folder(folder, [*FILES, *movies], overwrite=overwrite)
    with write_folder(folder, overwrite=overwrite, inside=True, keep=True) as partial:
        _measure(cohort, partial)
        if segment:
            _segment(test, partial)
        written = sorted(path.name for path in partial.iterdir())
    for name in written:
        click.echo(f"written: {folder / name}")
    size = f"about {real.counts['uncompressed'].value:.0f} {real.counts['uncompressed'].unit}"
    click.echo(f"These mice are synthetic. The {len(real.files)} real ones: mousecmr fetch  ({size}, {real.licence})")


def _measure(cohort: Cohort, folder: Path) -> None:
    """Print the measures by group; write them and the pictures of one mouse."""
    import pandas as pd

    from mousecmr_data._utils.tables import write_table
    from mousecmr_data.metrics.volumes import measure
    from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure
    from mousecmr_data.schema.manifest import load_manifest

    rows = []
    with output.progress("measuring", len(cohort)) as advance:
        for ds in cohort.values():
            rows.append({"group": ds.attrs["phenotype"], **measure(ds).to_dict()})
            advance(1)
    measures = pd.DataFrame(rows)
    write_table(folder / MEASURES_FILE, measures, "measures")
    columns = {"edv_ul": "EDV", "esv_ul": "ESV", "ef_percent": "EF", "mass_ed_mg": "mass at ED"}
    table = [
        [name, len(part), *(f"{part[c].mean():.1f} ± {part[c].std():.1f}" for c in columns)]
        for name, part in [*measures.groupby("group"), ("all", measures)]
    ]
    if published := load_manifest().published:
        truth = {m.name: f"{m.truth[0]} ± {m.truth[1]}" for m in published.measures}
        table.append(["real mice, published", published.n_mice, *(truth[name] for name in columns.values())])
    output.print_table(
        ["group", "n", "EDV µL", "ESV µL", "EF %", "mass mg"], table, title="Synthetic mice: mean ± SD of the group"
    )
    ds = cohort[cohort.mice[0]]
    save_figure(plot_montage(ds), folder / MONTAGE_FILE)
    save_figure(plot_volume_curve(ds), folder / CURVE_FILE)


def _segment(cohort: Cohort, folder: Path) -> None:
    """Segment with the network that ships with the package, print a comparison with the truth, write movies."""
    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.metrics.overlap import score_frames
    from mousecmr_data.metrics.volumes import measure
    from mousecmr_data.plotting import write_movie

    predictor = load_model(SMALL_WEIGHTS)
    rows = []
    total = sum(s.n_frames * s.n_slices for s in map(cohort.source.summarize, cohort.mice))
    with output.progress(f"segmenting {len(cohort)} test mice, image by image", total) as advance:
        for ds in cohort.values():
            segmented = predictor.segment(ds, progress=advance)
            dice, truth, measured = score_frames(segmented), measure(ds), measure(segmented, mask="predicted")
            means = (float(dice[c].mean()) for c in ("dice_myocardium", "dice_blood_pool"))
            rows.append([truth.mouse, *(f"{m:.3f}" for m in means), truth.ef_percent, measured.ef_percent])
            write_movie(segmented, folder / MOVIE_FILE.format(truth.mouse), "predicted")
    output.print_table(
        ["mouse", "Dice myocardium", "Dice blood pool", "EF % truth", "EF % measured"],
        rows,
        title=f"Segmented by {SMALL_WEIGHTS} (trained on synthetic mice only), ED and ES",
    )
