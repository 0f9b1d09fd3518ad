"""``mousecmr evaluate``: anyone's predictions against the experts' masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mousecmr_data._utils.notices import SYNTHETIC_DATA
from mousecmr_data.cli import options, output

if TYPE_CHECKING:
    from mousecmr_data.evaluation.result import Evaluation


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@options.source
@options.cache
@click.option("--split", default="test", show_default=True, help="Mice to score: a split's, or `all`.")
@options.split_scheme
@click.option(
    "--truth",
    type=click.Path(path_type=Path, exists=True),
    help="HDF5 file or folder of files with the experts' masks, instead of --source.",
)
@options.spacing
@options.phenotypes
@click.option(
    "--phases",
    type=click.Choice(["annotated", "volume-curve"]),
    default="annotated",
    show_default=True,
    help="Where ED and ES of the predictions are: the annotators' frames, or the predicted curve's extremes.",
)
@click.option(
    "--postprocessing",
    type=click.Choice(["paper", "upstream-code", "none"]),
    default="none",
    show_default=True,
    help="Applied to the predictions before they are scored.",
)
@click.option(
    "--empty",
    type=click.Choice(["missing", "diagonal"]),
    default="missing",
    show_default=True,
    help="A distance where only one of two masks is empty: missing, or the stack's diagonal.",
)
@click.option("--go-on", is_flag=True, help="Score what can be scored; what does not fit is named in the result.")
@click.option("--observer", type=click.Path(path_type=Path), help="A second observer's masks, to stand beside.")
@click.option(
    "-o", "--output", "result", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here."
)
@click.option(
    "--report", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write the HTML report here."
)
@options.processes(1)
@options.as_json
def command(
    predictions: Path,
    source: str,
    cache: Path | None,
    split: str,
    split_scheme: str,
    truth: Path | None,
    spacing: tuple[float, float, float] | None,
    phenotypes: Path | None,
    phases: Any,
    postprocessing: Any,
    empty: Any,
    go_on: bool,
    observer: Path | None,
    result: Path | None,
    folder: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Score PREDICTIONS: a folder of NIfTI or HDF5 files named for their mice, a file, or a Zarr store.

    Dice, HD95, ASSD, volumes, EF and mass, agreement statistics. Mice that are missing and masks that are of
    another shape, transposed, mirrored or with swapped labels are named. `mousecmr compare` takes two results.
    """
    from mousecmr_data import api
    from mousecmr_data.evaluation.report import write_report
    from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate

    mice: Any
    if truth:
        mice = {str(d.attrs["mouse"]): d for d in (api.open_mouse(p, spacing=spacing) for p in _files(truth))}
    else:
        chosen = None if split == "all" else split
        mice = api.load(chosen, source=source, split_scheme=split_scheme, phenotypes=phenotypes, cache=cache)

    def scored(given: Path, policies: EvaluationConfig) -> Evaluation:
        with output.progress(f"scoring {given.name}", len(mice)) as advance:
            return evaluate(given, mice, policies, strict=not go_on, workers=workers, progress=advance)

    first = scored(predictions, EvaluationConfig(phases, postprocessing, empty))
    second = (
        scored(observer, EvaluationConfig(empty=empty)) if observer else None
    )  # a person's masks are left as they are
    written = [first.write(result)] if result else []
    if folder:
        written += write_report(first, folder, observer=second, mice=mice, predictions=predictions)[:1]
    if as_json:
        output.print_json({**_summary(first), "observer": _summary(second) if second else None, "written": written})
        return
    _show(first)
    if second:
        click.secho("second observer", bold=True)
        _show(second)
    for path in written:
        click.echo(f"written: {path}")


def _files(truth: Path) -> list[Path]:
    return [truth] if truth.is_file() else sorted(p for p in truth.iterdir() if p.suffix in (".h5", ".hdf5"))


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    from dataclasses import asdict

    from mousecmr_data.evaluation.tables import tabulate_agreement, tabulate_overlap

    return {
        "name": evaluation.name,
        "synthetic": evaluation.synthetic,
        "truth": evaluation.truth,
        "policies": evaluation.policies,
        "overlap": tabulate_overlap(evaluation).to_dict("records"),
        "agreement": tabulate_agreement(evaluation).reset_index().to_dict("records"),
        "problems": [asdict(p) for p in evaluation.problems],
    }


def _show(evaluation: Evaluation) -> None:
    from mousecmr_data.evaluation.report import format_agreement, format_overlap
    from mousecmr_data.evaluation.tables import tabulate_agreement

    output.warn_synthetic(evaluation.synthetic)
    for p in evaluation.problems:
        click.secho(f"{p.mouse} ({p.kind}): {p.text}", fg="yellow", err=True)
    mark = f" {SYNTHETIC_DATA}" if evaluation.synthetic else ""
    shown = [format_overlap(evaluation)]
    measures = tabulate_agreement(evaluation)
    if measures["n"].max() > 1:
        shown.append(format_agreement(measures))
    for title, table in zip((f"{len(evaluation.mice)} mice.{mark}", mark.strip() or None), shown, strict=False):
        output.print_table(list(table.shown.columns), table.cells, title=title, note=table.caption)
    if caveat := evaluation.truth.get("caveat"):
        click.echo(f"{evaluation.truth['split_scheme']}: {caveat}")
