"""The report: one self-contained page, with every figure and table also as a file."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from evaluated import cohort, shifted

from mousecmr_data.errors import MissingExtraError
from mousecmr_data.evaluation.plots import _create_axes, plot_agreement, plot_overlap
from mousecmr_data.evaluation.report import write_report
from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate
from mousecmr_data.evaluation.tables import tabulate_agreement

pytest.importorskip("matplotlib", reason="the extra evaluation is not installed")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]
        self._heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self._heading and data.strip():
            self.headings.append(data)
            self._heading = False


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    mice = cohort(6, synthetic=True)
    for name in ("M1", "M2"):
        mice[name].attrs["phenotype"] = "infarction & <patch>"
    model, observer = shifted(mice), shifted(mice, 2)
    result = evaluate(model, mice.values(), EvaluationConfig(), name="a & b")
    second = evaluate(observer, mice.values())
    write_report(result, folder, observer=second, mice=mice, predictions=model)
    return folder


def test_the_page_is_self_contained_and_marked_synthetic(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = Page(text)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "http" not in re.sub(r"data:[^\"]+", "", text)
    assert "SYNTHETIC DATA" in text
    assert "infarction &amp; &lt;patch&gt;" in text and "<patch>" not in text
    assert page.headings == [
        "Overlap", "Agreement of the measures", "Dice and errors", "Best, median, worst", "Time–volume curves",
        "Groups", "A second observer", "Every mouse", "Choices and versions",
    ]  # fmt: skip
    assert "Repeated-measures ANOVA" in text


def test_figures_and_tables_are_written_as_files(written: Path) -> None:
    figures = {p.name for p in (written / "figures").iterdir()}
    names = ("agreement", "curves", "dice", "dice_and_errors", "groups", "observers", "overlays")
    assert figures == {f"{n}.{e}" for n in names for e in ("png", "svg")}
    for table in (written / "tables").glob("*.csv"):
        assert pd.read_csv(table)["synthetic"].all(), table.name
        tex = table.with_suffix(".tex").read_text()
        assert "SYNTHETIC" in tex and r"\begin{tabular}" in tex and "µ" not in tex
    measures = pd.read_csv(written / "tables" / "agreement.csv").set_index("measure")
    assert measures.loc["EF", "n"] == 6


def test_real_mice_are_not_called_synthetic(tmp_path: Path) -> None:
    mice = cohort(1)
    paths = write_report(evaluate(shifted(mice), mice.values()), tmp_path)
    assert "SYNTHETIC" not in paths[0].read_text()
    assert "overlays" not in "".join(p.name for p in paths), "no images were passed"


def test_figures_show_the_numbers() -> None:
    mice = cohort(5)
    result = evaluate(shifted(mice, 2), mice.values())
    axes = plot_agreement(result).axes[1]
    row = tabulate_agreement(result).loc["EDV"]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2]  # type: ignore[arg-type]
    drawn = [float(line.get_ydata()[0]) for line in lines]  # type: ignore[index]
    for value in (row["lower"], row["bias"], row["upper"]):
        assert min(abs(d - value) for d in drawn) < 1e-9
    assert len(plot_overlap(result).axes[0].lines) >= 4


@pytest.mark.parametrize(("module", "name"), [("jinja2", "jinja2"), ("pingouin", "pingouin")])
def test_a_missing_package_is_named(module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mice = cohort(5)
    result = evaluate(shifted(mice), mice.values())
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{name}[\s\S]*pip install 'mousecmr-data\[evaluation\]'"):
        write_report(result, tmp_path / "r")
    assert not (tmp_path / "r").exists(), "no incomplete folder is left"


@pytest.mark.parametrize("width", [2.9, 6.0, 12.0])
def test_titles_fit_their_figures(width: float) -> None:
    title = "SYNTHETIC mice: LV blood pool (µL) over time (ms) (24 of 130 mice); dots: ground truth (n = 130)"
    figure, _ = _create_axes(title, (width, 3.0))
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
