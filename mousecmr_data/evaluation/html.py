"""One self-contained HTML page of text, tables and figures; the tables and figures also as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mousecmr_data._utils.atomic import write_bytes, write_text
from mousecmr_data._utils.tables import format_csv, write_workbook
from mousecmr_data._utils.text import RESEARCH_ONLY, SYNTHETIC_DATA
from mousecmr_data.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

DPI = 150
VERDICT_CELLS = {
    verdict: f"{sign} {verdict}" for verdict, sign in {"agrees": "=", "better": "▲", "differs": "✗"}.items()
}
"""How verdicts are written: a sign and the word, for readers who see no colours."""


@dataclass(frozen=True)
class ReportTable:
    """A table as it is shown (text cells) and, for the CSV file, as it was computed."""

    name: str
    """Name of its files."""
    caption: str
    shown: pd.DataFrame
    full: pd.DataFrame | None = None

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[str(v) for v in row] for row in self.shown.itertuples(index=False)]

    @property
    def classes(self) -> list[str]:
        """The verdict of each row, for its colour; empty where it has none."""
        words = [[cell.rpartition(" ")[2] for cell in row if cell in VERDICT_CELLS.values()] for row in self.cells]
        return [found[0] if found else "" for found in words]

    @property
    def sides(self) -> list[str]:
        """Alignment of each column: "left" for words, "right" for numbers."""
        columns = zip(*self.cells, strict=True)
        return ["right" if all(c[:1].isdigit() or c[:1] in "−–<" for c in column) else "left" for column in columns]


@dataclass(frozen=True)
class ReportSection:
    """A heading with its text, tables and figures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    """By the name of its files: the figure and its caption."""


@dataclass(frozen=True)
class ReportPage:
    """The page: title, first paragraphs and sections."""

    title: str
    synthetic: bool
    lead: Sequence[str]
    sections: Sequence[ReportSection]
    outcome: str = ""
    """Colours the first paragraph: agrees, better, differs or none."""

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write the page, ``figures/*.png`` and ``.svg``, ``tables/*.csv``, ``.tex`` and ``.xlsx``; return the paths.

        ``folder`` is one that :func:`~mousecmr_data._utils.outputs.write_folder` moves into place.
        """
        template = _load_template()
        images = {
            (stem, suffix): _render_figure(figure, suffix)
            for section in self.sections
            for stem, (figure, _) in section.figures.items()
            for suffix in ("png", "svg")
        }
        pictures = {
            stem: f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
            for (stem, suffix), image in images.items()
            if suffix == "png"
        }
        html = template.render(page=self, pictures=pictures, synthetic=SYNTHETIC_DATA, purpose=RESEARCH_ONLY)
        paths = [write_text(folder / name, html)]
        paths += [
            write_bytes(folder / "figures" / f"{stem}.{suffix}", image) for (stem, suffix), image in images.items()
        ]
        for section in self.sections:
            for table in section.tables:
                paths += _write_table(table, folder / "tables", self.synthetic)
        return paths


def format_number(value: Any, digits: int) -> str:
    """Format a number for people; a dash where it is missing."""
    if value is None or pd.isna(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def format_p(p: Any) -> str:
    """Format a p-value for people: three digits, "< 0.001" below."""
    return "< 0.001" if p is not None and p < 0.001 else format_number(p, 3)


def describe_p(p: Any) -> str:
    """Format a p-value in a sentence: "p = 0.031", "p < 0.001"."""
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def format_column(values: pd.Series, digits: int) -> list[str]:
    """Format the numbers of a column for people."""
    return [format_number(v, digits) for v in values]


def format_interval(low: Any, high: Any, digits: int) -> str:
    """Format an interval for people: "low to high"."""
    return "–" if pd.isna(low) and pd.isna(high) else f"{format_number(low, digits)} to {format_number(high, digits)}"


def format_mean(mean: Any, sd: Any, digits: int) -> str:
    """Format a mean for people: "mean ± SD"."""
    return f"{format_number(mean, digits)} ± {format_number(sd, digits)}"


def format_bias(bias: Any, lower: Any, upper: Any) -> str:
    """Format a bias for people: "bias (lower to upper limit of agreement)"."""
    return f"{format_number(bias, 1)} ({format_interval(lower, upper, 1)})"


def list_records(table: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a table as (index, values by column)."""
    return [(str(k), {str(c): v for c, v in row.items()}) for k, row in table.to_dict("index").items()]


def _load_template() -> Template:
    try:
        from jinja2 import Environment
    except ImportError as e:
        raise MissingExtraError.from_module("jinja2", "evaluation") from e
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def _write_table(table: ReportTable, folder: Path, synthetic: bool) -> list[Path]:
    full = table.shown if table.full is None else table.full
    full = full.assign(synthetic=True) if synthetic else full
    csv = format_csv(full, index=not isinstance(full.index, pd.RangeIndex))
    caption = _escape_latex(f"{table.caption}{' SYNTHETIC mice.' if synthetic else ''}")
    escaped = table.shown.astype(str).map(_escape_latex).rename(columns=_escape_latex)
    tex = escaped.to_latex(index=False, caption=caption, label=f"tab:{table.name}")
    return [
        write_text(folder / f"{table.name}.csv", csv),
        write_text(folder / f"{table.name}.tex", tex),
        *write_workbook(folder / f"{table.name}.xlsx", {table.name: full}),
    ]


_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}",
     "]": "{]}", "\n": " ", "±": r"$\pm$", "µ": r"\textmu{}", "−": "$-$", "×": r"$\times$", "ρ": r"$\rho$", "–": "--",
     "≥": r"$\geq$"}
)  # fmt: skip


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _render_figure(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {}
    figure.savefig(buffer, format=suffix, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    figure.set_layout_engine("none")  # the layout is done; computing it again for the next format would be slow
    return buffer.getvalue()
