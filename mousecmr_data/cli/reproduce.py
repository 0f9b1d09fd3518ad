"""``mousecmr reproduce``: the published table beside a measured one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.notices import SYNTHETIC_DATA
from mousecmr_data.cli import options, output
from mousecmr_data.errors import MissingDataError

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort

DIFFERS, CANNOT_RUN = 1, 3
EXTERNAL_PHANTOMS = ("phantom-7T", "phantom-11.7T")


@click.command()
@options.weights
@options.source
@options.cache
@click.option("--split", default="test", show_default=True, help="Mice of the internal cohort: a split's, or `all`.")
@click.option("--split-scheme", "schemes", multiple=True, help="Which split schemes. Default: every published one.")
@click.option(
    "--also",
    multiple=True,
    metavar="SOURCE",
    help="An external cohort to stand beside (a manifest folder, a phantom). Default with the phantom: the two others.",
)
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Masks that are there already, instead of a network."
)
@click.option(
    "--phases",
    type=click.Choice(["annotated", "volume-curve"]),
    multiple=True,
    help="Only this ED/ES rule. Default: both. Without volume-curve, only labelled frames are segmented: ten times "
    "faster.",
)
@click.option(
    "--postprocessing",
    type=click.Choice(["paper", "upstream-code", "none"]),
    multiple=True,
    help="Default: the first two.",
)
@click.option("--limit", type=click.IntRange(1), help="The first mice of each cohort only: a trial.")
@options.device
@options.engine
@click.option(
    "--download", is_flag=True, help="Fetch files and weights that are missing (about 1 GB for the test mice)."
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reproduction"),
    show_default=True,
    help="Folder for page, tables, figures and result files.",
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    weights: str,
    source: str,
    cache: Path | None,
    split: str,
    schemes: tuple[str, ...],
    also: tuple[str, ...],
    predictions: Path | None,
    phases: tuple[Any, ...],
    postprocessing: tuple[Any, ...],
    limit: int | None,
    device: str,
    engine: str,
    download: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Hold a network against the published table, row by row, under both ED/ES and both post-processing rules.

    Exit status 0: every row agrees (or the mice are synthetic, and it ran); 1: rows differ; 3: files or weights are
    not here, and what to run is said. The verdict is on the article's own rules.
    """
    from mousecmr_data.evaluation.reproduction import make_document, reproduce, write_reproduction

    missing: list[str] = []
    cohorts = _cohorts(source, split, schemes, also, limit, cache, download, missing)
    network: Any = predictions
    if predictions is None:
        from mousecmr_data.inference.predictor import load_model

        try:
            network = load_model(weights, device=device, engine=engine, cache=cache, offline=not download)
        except MissingDataError as e:
            missing.append(f"{e.found}\nNext: mousecmr fetch --weights  (or reproduce --download)")
    if missing:
        for words in missing:
            click.echo(f"Cannot run: {words}", err=True)
        click.echo("To try it without them: mousecmr reproduce --source phantom --weights phantom-small", err=True)
        ctx.exit(CANNOT_RUN)
    with output.progress("segmenting and scoring", sum(map(len, cohorts.values()))) as advance:
        result = reproduce(
            network,
            cohorts,
            rules=postprocessing or ("paper", "upstream-code"),
            phases=phases or ("annotated", "volume-curve"),
            progress=advance,
        )
    written = write_reproduction(result, folder)
    if as_json:
        output.print_json({**make_document(result), "limit": limit, "written": written[:1]})
    else:
        _show(result, limit)
        click.echo(f"written: {written[0]}")
    ctx.exit(DIFFERS if result.disagreeing and not result.synthetic else 0)


def _cohorts(
    source: str,
    split: str,
    schemes: tuple[str, ...],
    also: tuple[str, ...],
    limit: int | None,
    cache: Path | None,
    download: bool,
    missing: list[str],
) -> dict[str, Cohort]:
    """The cohorts by name; what is not on this disk is named in ``missing``."""
    from mousecmr_data import api

    manifest = api.resolve_manifest(source)
    usable = schemes or tuple(s for s, found in manifest.splits.items() if found.mice) or ("upstream-notebook",)
    wanted: dict[str, tuple[str, str | None, str]] = {}
    for scheme in usable:
        name = "internal" if len(usable) == 1 else f"internal, {scheme}"
        wanted[name] = (source, None if split == "all" else split, scheme)
    for other in also or (EXTERNAL_PHANTOMS if source == "phantom" else ()):
        field = api.resolve_manifest(other).acquisition.get("field_strength")
        name = f"{field.value:g} T" if field else api.resolve_manifest(other).name
        wanted[name if name not in wanted else f"{name}, {other}"] = (other, None, "upstream-notebook")
    cohorts = {}
    for name, (place, part, scheme) in wanted.items():
        fetched = download or place.startswith("phantom") or Path(place).is_dir()
        try:
            cohort = api.load(part, source=place, split_scheme=scheme, cache=cache, download=fetched)
        except MissingDataError as e:
            missing.append(f"{e.found}\nNext: mousecmr fetch  (or reproduce --download)")
            continue
        cohorts[name] = cohort.select(cohort.mice[:limit])
    return cohorts


def _show(result: Any, limit: int | None) -> None:
    from mousecmr_data.evaluation.reproduction import describe_policies, format_cohorts, format_rows, format_times
    from mousecmr_data.evaluation.timing import TIMES_NOTE

    output.warn_synthetic(result.synthetic)
    mark = f"  {SYNTHETIC_DATA}" if result.synthetic else ""
    click.echo(f"weights: {result.name}; trained on: {result.trained_on}")
    for cohort in result.rows:
        table = format_rows(result, cohort)
        title = f"{cohort}: columns are ED/ES rule / post-processing; the verdict is on {describe_policies(result.headline)}"
        output.print_table(list(table.columns), table.to_numpy().tolist(), title=title + mark)
    for title, table in (
        ("cohorts side by side", format_cohorts(result)),
        (f"times on {result.machine}", format_times(result)),
    ):
        output.print_table(list(table.columns), table.to_numpy().tolist(), title=title + mark)
    click.echo(TIMES_NOTE)
    for note in result.notes:
        click.echo(f"Caveat: {note}")
    if limit:
        click.echo(f"A trial: the first {limit} mice of each cohort only.")
    click.secho(result.verdict, bold=True)
