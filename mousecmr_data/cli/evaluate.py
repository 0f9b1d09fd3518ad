"""``mousecmr evaluate``: predicted masks scored against expert masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.environment import require_extra
from mousecmr_data._utils.text import SYNTHETIC_DATA, format_count
from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.evaluation.result import Evaluation


@click.command()
@click.argument("predictions", type=options.PATH)
@options.source
@options.cache
@click.option(
    "--split",
    show_default="test; with --mice, all",
    help="The split whose mice are scored, or `all`.",
)
@click.option(
    "--mice",
    "wanted",
    multiple=True,
    metavar="NAMES",
    help="Score these mice only, such as Mouse4,Mouse7; may be repeated.",
)
@options.split_scheme
@click.option(
    "--truth",
    type=click.Path(path_type=Path, exists=True),
    help="HDF5 file or folder of HDF5 files with the expert masks, instead of --source.",
)
@options.spacing
@options.axes
@options.phenotypes
@click.option(
    "--phases",
    type=click.Choice(["annotated", "volume-curve"]),
    default="annotated",
    help="ED and ES of the predictions. annotated: the experts' frames; volume-curve: from the smoothed curve of the "
    "predicted volumes, as in `mousecmr segment`, which needs every frame.",
)
@click.option(
    "--postprocessing",
    type=options.POSTPROCESSING,
    default="none",
    help="Which connected components of the predictions are kept before they are scored.",
)
@click.option(
    "--empty",
    type=click.Choice(["missing", "diagonal"]),
    default="missing",
    help="A distance where only one of two masks is empty: missing, or the length of the stack's diagonal.",
)
@options.labels("the predictions and the observer's masks")
@click.option("--go-on", is_flag=True, help="Score what can be scored, and list the rest in the result.")
@click.option("--observer", type=options.PATH, help="Masks of a second observer, scored for comparison.")
@click.option(
    "--against",
    type=options.PATH,
    help="Compare two readers: PREDICTIONS and this are folders of `mousecmr segment` with the same mice, reviewed.",
)
@options.output_file("Write the result to this file.")
@click.option("--report", type=options.FOLDER, help="Write the HTML report to this folder.")
@options.overwrite_file
@options.processes(1)
@options.as_json
def command(
    predictions: Path,
    source: str,
    cache: Path | None,
    split: str | None,
    wanted: tuple[str, ...],
    split_scheme: str,
    truth: Path | None,
    spacing: options.Spacing | None,
    axes: str | None,
    phenotypes: Path | None,
    labels: str | None,
    go_on: bool,
    observer: Path | None,
    against: Path | None,
    path: Path | None,
    report: Path | None,
    overwrite: bool,
    workers: int,
    as_json: bool,
    **policies: Any,
) -> None:
    """Score PREDICTIONS: a folder of NIfTI, NRRD, MetaImage or HDF5 files named after their mice, one file, or a Zarr
    store.

    The result has Dice, HD95, ASSD, volumes, EF, mass and agreement statistics. Missing mice, and masks that have
    another shape, are transposed or mirrored, or have swapped labels, are reported. `mousecmr compare` compares two
    results.
    """
    require_extra("evaluation", "pingouin", *(("matplotlib", "jinja2") if report else ()))
    if against:
        _compare_readers(predictions, against, path, overwrite, as_json)
        return
    from mousecmr_data import api
    from mousecmr_data._utils.outputs import check_file, check_folder
    from mousecmr_data.evaluation.predictions import open_predictions
    from mousecmr_data.evaluation.report import REPORT_FILE, write_report
    from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate
    from mousecmr_data.schema.labels import parse_label_map
    from mousecmr_data.schema.manifest import resolve_names
    from mousecmr_data.schema.variables import HDF5_SUFFIXES

    label_map = parse_label_map(labels) if labels else None
    inputs = options.find_inputs(source, cache, predictions, truth, observer, phenotypes)
    if path:
        check_file(path, overwrite=overwrite, inputs=inputs)
    if report:
        check_folder(report, [REPORT_FILE], overwrite=overwrite, inputs=inputs)
    for masks in filter(None, (predictions, observer)):
        open_predictions(masks).names()  # wrong paths and missing extras are errors before anything is downloaded
    names = [name for word in wanted for name in word.replace(",", " ").split()]
    mice: Any
    if truth:
        files = [truth] if truth.is_file() else sorted(p for p in truth.iterdir() if p.suffix in HDF5_SUFFIXES)
        mice = {str(ds.attrs["mouse"]): ds for ds in (api.open_mouse(p, spacing=spacing, axes=axes) for p in files)}
        mice = {name: mice[name] for name in resolve_names(names, mice)} if wanted else mice
    else:
        chosen = None if split == "all" or (wanted and not split) else split or "test"
        reading: Any = {"source": source, "split_scheme": split_scheme, "phenotypes": phenotypes, "cache": cache}
        mice = api.load(chosen, mice=names if wanted else None, **reading)

    def score(masks: Path, config: EvaluationConfig) -> Evaluation:
        with output.progress(f"scoring {masks.name}", len(mice)) as advance:
            return evaluate(masks, mice, config, strict=not go_on, workers=workers, labels=label_map, progress=advance)

    result = score(predictions, EvaluationConfig(**policies))
    # The observer's masks are a person's: they are not post-processed.
    second = score(observer, EvaluationConfig(empty=policies["empty"])) if observer else None
    written = [result.write(path, overwrite=overwrite)] if path else []
    if report:
        opened = open_predictions(predictions, labels=label_map)
        written += write_report(result, report, observer=second, mice=mice, predictions=opened, overwrite=overwrite)[:1]
    if as_json:
        output.print_json(
            {**_summarize(result), "observer": _summarize(second) if second else None, "written": written}
        )
        return
    _print_result(result)
    if second:
        click.secho("second observer", bold=True)
        _print_result(second)
    for file in written:
        click.echo(f"written: {file}")


def _summarize(evaluation: Evaluation) -> dict[str, Any]:
    from dataclasses import asdict

    from mousecmr_data.evaluation.tables import tabulate_agreement, tabulate_overlap

    return {
        **{k: getattr(evaluation, k) for k in ("name", "synthetic", "notices", "truth", "policies")},
        "overlap": tabulate_overlap(evaluation).to_dict("records"),
        "agreement": tabulate_agreement(evaluation).reset_index().to_dict("records"),
        "problems": [asdict(p) for p in evaluation.problems],
    }


def _print_result(evaluation: Evaluation) -> None:
    from mousecmr_data.evaluation.report import format_agreement, format_overlap
    from mousecmr_data.evaluation.tables import tabulate_agreement
    from mousecmr_data.metrics.volumes import is_heart_rate_plausible

    for notice in evaluation.notices:
        click.secho(notice, fg="yellow", err=True)
    for p in evaluation.problems:
        click.secho(f"{p.mouse} ({p.kind}): {p.text}", fg="yellow", err=True)
    rates = {m.mouse: m.curve["heart_rate_bpm"] for m in evaluation.mice if m.curve}
    if doubtful := [f"{m} {bpm:.0f}" for m, bpm in rates.items() if not is_heart_rate_plausible(bpm)]:
        text = "No mouse has these heart rates (1/min); the peak rates are wrong, too: " + ", ".join(doubtful)
        click.secho(text, fg="yellow", err=True)
    mark = SYNTHETIC_DATA if evaluation.synthetic else ""
    tables = {f"{format_count(len(evaluation.mice), 'mouse')}. {mark}".strip(): format_overlap(evaluation)}
    measures = tabulate_agreement(evaluation)
    if measures["n"].max() > 0:
        tables[mark] = format_agreement(measures)
    for title, table in tables.items():
        output.print_table(list(table.shown.columns), table.cells, title=title or None, note=table.caption)
    if caveat := evaluation.truth.get("caveat"):
        click.echo(f"{evaluation.truth['split_scheme']}: {caveat}")


def _compare_readers(a: Path, b: Path, path: Path | None, overwrite: bool, as_json: bool) -> None:
    """Print the agreement of two readers, and write it as JSON."""
    from dataclasses import asdict

    from mousecmr_data._utils.atomic import write_json
    from mousecmr_data._utils.outputs import check_file, write_file
    from mousecmr_data.evaluation.tables import compare_readers
    from mousecmr_data.pipeline.review import open_results

    if path:
        check_file(path, overwrite=overwrite, inputs=[a, b])
    opened = [open_results(folder) for folder in (a, b)]
    result = compare_readers(*({name: r.read_phases() for name, r in one.items()} for one in opened))
    readers = [sorted({n for r in one.values() for n in r.review.readers}) for one in opened]
    content: dict[str, Any] = {
        "a": a,
        "b": b,
        "readers_a": readers[0],
        "readers_b": readers[1],
        "synthetic": result.synthetic,
    }
    content |= {k: v.to_dict("records") for k, v in asdict(result).items() if k != "synthetic"}
    if path:
        with write_file(path, overwrite=overwrite) as partial:
            write_json(partial, content)
    if as_json:
        output.print_json(content)
        return
    output.warn_synthetic(result.synthetic)
    names = [", ".join(r) or "nobody" for r in readers]
    rows = result.measures.to_dict("records")
    output.print_table(
        ["measure", "n", "A", "B", "bias A − B", "limits of agreement", "CV %", "ICC(2,1)"],
        [
            [
                *(f"{r['measure']}, {r['unit']}", r["n"], r["a_mean"], r["b_mean"], f"{r['bias']:.2f}"),
                *(f"{r['lower']:.2f} to {r['upper']:.2f}", r["cv_percent"], f"{r['icc']:.3f}"),
            ]
            for r in rows
        ],
        title=f"A: {a}, reviewed by {names[0]}\nB: {b}, reviewed by {names[1]}",
    )
    output.print_table(
        ["structure", "phase", "n", "Dice", "SD"],
        [[r["structure"], r["phase"], r["n"], f"{r['dice']:.3f}", f"{r['sd']:.3f}"] for r in content["overlap"]],
        note="nan: fewer mice than this needs (SD, limits and CV: 2; ICC: 5)",
    )
    if path:
        click.echo(f"written: {path}")
