"""One self-contained HTML page of text, tables and figures, and the same tables and figures as files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mousecmr_data._utils.atomic import write_bytes, write_text
from mousecmr_data._utils.notices import RESEARCH_ONLY, SYNTHETIC_DATA
from mousecmr_data.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

DPI = 150


@dataclass(frozen=True)
class ReportTable:
    """A table as it is shown (text cells) and, for the CSV file, as it was computed."""

    name: str
    """Of its files."""
    caption: str
    shown: pd.DataFrame
    full: pd.DataFrame | None = None

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[str(v) for v in row] for row in self.shown.itertuples(index=False)]

    @property
    def sides(self) -> list[str]:
        """For each column, whether it is of words ("left") or of numbers ("right")."""
        columns = zip(*self.cells, strict=True)
        return ["right" if all(c[:1].isdigit() or c[:1] in "−–" for c in column) else "left" for column in columns]


@dataclass(frozen=True)
class ReportSection:
    """A heading with what stands below it."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)
    """By the name of its files: the figure and its caption."""


@dataclass(frozen=True)
class ReportPage:
    """A page."""

    title: str
    synthetic: bool
    lead: Sequence[str]
    sections: Sequence[ReportSection]

    def write(self, folder: str | Path, name: str = "report.html") -> list[Path]:
        """Write the page, ``figures/*.png`` and ``.svg``, ``tables/*.csv`` and ``.tex``; returns the paths."""
        folder = Path(folder)
        template = _load_template()
        drawn = {
            (stem, ending): _render_figure(figure, ending)
            for section in self.sections
            for stem, (figure, _) in section.figures.items()
            for ending in ("png", "svg")
        }
        pictures = {stem: _make_data_url(drawn[stem, "png"], "png") for stem, _ in drawn}
        html = template.render(page=self, pictures=pictures, synthetic=SYNTHETIC_DATA, purpose=RESEARCH_ONLY)
        written = [write_text(folder / name, html)]
        for (stem, ending), picture in drawn.items():
            written.append(write_bytes(folder / "figures" / f"{stem}.{ending}", picture))
        for section in self.sections:
            for table in section.tables:
                written += _write_table(table, folder / "tables", self.synthetic)
        return written


def _load_template() -> Template:
    try:
        from jinja2 import Environment
    except ImportError as e:
        raise MissingExtraError.from_module("jinja2", "evaluation") from e
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def format_number(value: Any, digits: int) -> str:
    """A number for people; a dash where it is missing."""
    if value is None or pd.isna(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no minus before a zero


def format_interval(low: Any, high: Any, digits: int) -> str:
    """An interval for people."""
    return "–" if pd.isna(low) and pd.isna(high) else f"{format_number(low, digits)} to {format_number(high, digits)}"


def list_records(table: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a table as (index, values by column)."""
    return [(str(k), {str(c): v for c, v in row.items()}) for k, row in table.to_dict("index").items()]


def _write_table(table: ReportTable, folder: Path, synthetic: bool) -> list[Path]:
    full = table.shown if table.full is None else table.full
    csv = (full.assign(synthetic=True) if synthetic else full).to_csv(index=not isinstance(full.index, pd.RangeIndex))
    caption = f"{table.caption}{' SYNTHETIC mice.' if synthetic else ''}"
    escaped = table.shown.astype(str).map(_escape_latex).rename(columns=_escape_latex)
    tex = escaped.to_latex(index=False, caption=_escape_latex(caption), label=f"tab:{table.name}")
    return [write_text(folder / f"{table.name}.csv", csv), write_text(folder / f"{table.name}.tex", tex)]


_SIGNS = {"±": r"$\pm$", "µ": r"\textmu{}", "−": "$-$", "×": r"$\times$", "ρ": r"$\rho$", "–": "--", "≥": r"$\geq$"}


def _escape_latex(text: str) -> str:
    text = re.sub(r"([%&_#])", r"\\\1", text)
    for sign, code in _SIGNS.items():
        text = text.replace(sign, code)
    return text


def _render_figure(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if ending == "svg" else {}
    figure.savefig(buffer, format=ending, dpi=DPI, facecolor=figure.get_facecolor(), metadata=metadata)
    figure.set_layout_engine("none")  # the layout is found: the next format need not look for it again
    return buffer.getvalue()


def _make_data_url(picture: bytes, ending: str) -> str:
    kind = {"png": "image/png", "svg": "image/svg+xml"}[ending]
    return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"
