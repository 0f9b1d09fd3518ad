"""``mousecmr reproduce``: the published table beside a measured one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.environment import require_engine, require_extra
from mousecmr_data._utils.text import SYNTHETIC_DATA
from mousecmr_data.cli import options, output
from mousecmr_data.errors import MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.schema import EXTERNAL_PHANTOMS, PHANTOM, PHANTOMS, SMALL_WEIGHTS, SPLIT_SCHEME

if TYPE_CHECKING:
    from mousecmr_data.dataset.cohort import Cohort

STATUS = {"agrees": 0, "better": 4, "differs": 5}
NOT_JUDGED, TRIAL = 3, 6
"""Exit statuses. Other errors of the command line have 1 and 2."""


@click.command()
@options.weights
@options.source
@options.cache
@click.option("--split", default="test", help="The split of the internal cohort that is used, or `all`.")
@click.option("--split-scheme", "schemes", multiple=True, help="Which split schemes. Default: every published one.")
@click.option(
    "--also",
    multiple=True,
    metavar="SOURCE",
    help="Add an external cohort: a manifest folder or a phantom. Default with the phantom: "
    f"{', '.join(EXTERNAL_PHANTOMS)}.",
)
@click.option("--predictions", type=options.PATH, help="Use these masks instead of a network.")
@click.option(
    "--phases",
    type=click.Choice(["annotated", "volume-curve"]),
    multiple=True,
    help="Only this ED/ES rule. Default: both. Without volume-curve only labelled frames are segmented, which is ten "
    "times faster.",
)
@click.option(
    "--postprocessing",
    type=options.POSTPROCESSING,
    multiple=True,
    help="Only this post-processing rule. Default: paper and upstream-code.",
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first mice of each cohort, for a trial.")
@options.device
@options.engine
@options.force
@click.option("--download", is_flag=True, help="Download missing files and weights (about 1 GB for the test mice).")
@options.output_folder("Folder for the page, tables, figures and result files.", Path("reproduction"))
@options.overwrite_edited
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
    force: bool,
    download: bool,
    folder: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare a network with the published table, row by row, under both ED/ES and both post-processing rules.

    Exit status 0: agrees (or the mice are synthetic, which is not judged); 4: better; 5: differs; 3: it could not be
    judged, because files, weights or predictions are missing or do not fit; 6: a trial (--limit). The verdict is for
    the article's own rules.
    """
    extra = "evaluation" if predictions else "segment,evaluation"
    require_extra(extra, "jinja2", "matplotlib", "pingouin")
    if not predictions:
        require_engine(extra)
    from mousecmr_data._utils.outputs import check_folder
    from mousecmr_data.evaluation.reproduction import (
        DOCUMENT_FILE,
        PAGE_FILE,
        make_document,
        reproduce,
        write_reproduction,
    )

    inputs = options.find_inputs(source, cache, predictions, weights, *(Path(a) for a in also if a not in PHANTOMS))
    check_folder(folder, [PAGE_FILE, DOCUMENT_FILE], overwrite=overwrite, inputs=inputs)
    missing: list[str] = []
    if source == PHANTOM and not predictions:
        also = also or tuple(EXTERNAL_PHANTOMS)
    cohorts = _load_cohorts(source, split, schemes, also, cache, download, missing)
    network: Any = predictions
    if predictions is None:
        from mousecmr_data.inference.predictor import load_model

        try:
            network = load_model(weights, device=device, engine=engine, force=force, cache=cache, offline=not download)
        except MissingDataError as e:
            missing.append(str(e))
    if missing:
        for text in missing:
            click.echo(f"Cannot run: {text}", err=True)
        if not download:
            click.echo("With --download, this command downloads what has a source.", err=True)
        trial = f"mousecmr reproduce --source {PHANTOM} --weights {SMALL_WEIGHTS}"
        click.echo(f"To try it without them: {trial}", err=True)
        ctx.exit(NOT_JUDGED)
    rules, phases = postprocessing or ("paper", "upstream-code"), phases or ("annotated", "volume-curve")
    total = sum(min(limit or len(c), len(c)) for c in cohorts.values())
    try:
        with output.progress("segmenting and scoring", total) as advance:
            result = reproduce(network, cohorts, rules=rules, phases=phases, limit=limit, progress=advance)
    except MissingExtraError:
        raise
    except MouseCMRError as e:
        click.echo(f"Could not be judged: {e}", err=True)
        ctx.exit(NOT_JUDGED)
    written = write_reproduction(result, folder, overwrite=overwrite)
    if as_json:
        output.print_json({**make_document(result), "written": written[:1]})
    else:
        _print_result(result)
        click.echo(f"written: {written[0]}")
    if result.doubts or (result.outcome is None and not result.synthetic):
        ctx.exit(NOT_JUDGED)
    ctx.exit(TRIAL if result.trial else STATUS[result.outcome or "agrees"])


def _load_cohorts(
    source: str,
    split: str,
    schemes: tuple[str, ...],
    also: tuple[str, ...],
    cache: Path | None,
    download: bool,
    missing: list[str],
) -> dict[str, Cohort]:
    """Return the cohorts by name; add a text to ``missing`` for each whose files are not on this disk."""
    from mousecmr_data import api

    splits = api.resolve_manifest(source).splits
    schemes = schemes or tuple(s for s, scheme in splits.items() if scheme.mice) or (SPLIT_SCHEME,)
    requested: dict[str, tuple[str, str | None, str]] = {}
    for scheme in schemes:
        name = "internal" if len(schemes) == 1 else f"internal, {scheme}"
        requested[name] = (source, None if split == "all" else split, scheme)
    for other in also:
        manifest = api.resolve_manifest(other)
        field = manifest.acquisition.get("field_strength")
        name = f"{field.value:g} T" if field else manifest.name
        requested[name if name not in requested else f"{name}, {other}"] = (other, None, SPLIT_SCHEME)
    cohorts = {}
    for name, (origin, part, scheme) in requested.items():
        fetch = download or origin in PHANTOMS or Path(origin).is_dir()
        try:
            cohorts[name] = api.load(
                part, source=origin, split_scheme=scheme, cache=cache, download=fetch, layout_cache=False
            )
        except MissingDataError as e:
            missing.append(str(e))
    return cohorts


def _print_result(result: Any) -> None:
    from mousecmr_data.evaluation.reproduction import (
        TIMES_NOTE,
        describe_policies,
        describe_run,
        format_cohorts,
        format_rows,
        format_times,
    )

    output.warn_synthetic(result.synthetic)
    mark = f"  {SYNTHETIC_DATA}" if result.synthetic else ""
    for line in describe_run(result):
        click.echo(line)
    note = f"columns are ED/ES rule / post-processing; the verdict is for {describe_policies(result.headline)}"
    tables = {f"{cohort}: {note}": format_rows(result, cohort) for cohort in result.rows}
    tables |= {"cohorts side by side": format_cohorts(result), f"times on {result.machine}": format_times(result)}
    for title, table in tables.items():
        output.print_table(list(table.columns), table.to_numpy().tolist(), title=title + mark)
    click.echo(TIMES_NOTE)
    for caveat in result.notes:
        click.echo(f"Caveat: {caveat}")
    click.secho(result.verdict, bold=True)
