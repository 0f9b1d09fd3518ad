"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from mousecmr_data._utils.atomic import dump_json
from mousecmr_data._utils.progress import open_bar
from mousecmr_data._utils.text import SYNTHETIC_DATA


def print_json(value: Any) -> None:
    """Print ``value`` as JSON; NaN becomes null, paths and other objects their text.

    Where the output is not UTF-8, all other characters than ASCII are escaped, so that names are not changed.
    """
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(dump_json(value, ascii_only=not is_utf8), nl=False)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, note: str | None = None
) -> None:
    """Print rows as a table: numbers to the right, missing values as a dash."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", caption=note)
    table.caption_justify = "left"
    for i, name in enumerate(columns):
        numeric = any(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_format_cell(v) for v in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # lines in a file are not cut at 80 columns
    console.print(table)


def _format_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value).replace("[", r"\[")


def warn_synthetic(synthetic: bool) -> None:
    """Print a notice on standard error if what is shown is synthetic."""
    if synthetic:
        click.secho(SYNTHETIC_DATA, fg="yellow", err=True)


progress = partial(open_bar, True)
"""Show a progress bar on standard error; yield the function that advances it."""
