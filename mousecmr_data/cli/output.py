"""What the doors print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

SYNTHETIC = "SYNTHETIC DATA: made by the phantom, not measured on mice."


def print_json(value: Any) -> None:
    """Print ``value`` as JSON; NaN becomes null, paths and other objects their text."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))


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
        table.add_row(*(_cell(v) for v in row))
    console().print(table)


def console() -> Console:
    """A console on standard output; where that is no terminal, lines are not cut at 80 columns."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=160)


def warn_synthetic(synthetic: bool) -> None:
    """Say so, on standard error, when what was shown is synthetic."""
    if synthetic:
        click.secho(SYNTHETIC, fg="yellow", err=True)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value).replace("[", r"\[")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    return str(value)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error; yields the function that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    with bars:
        task = bars.add_task(what, total=total)
        yield lambda n: bars.advance(task, n)
