"""Tables for people: CSV files, also as spreadsheet programs write them, and Excel workbooks; no text is a formula."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pandas as pd

from mousecmr_data._utils.atomic import write_bytes, write_text
from mousecmr_data._utils.environment import find_missing_modules
from mousecmr_data._utils.outputs import check_file, write_file
from mousecmr_data._utils.text import join_names
from mousecmr_data.errors import ArgumentError, ManifestError, MissingDataError
from mousecmr_data.schema import FORMULA_STARTS

Cell = TypeVar("Cell")

DELIMITERS = ";\t,"
CURE = "in Excel: Save as, CSV UTF-8"
_OTHER_SCRIPT = re.compile(rb"[\x80-\xff]{3}")
"""Three such bytes in a row are no Western text: two or three accented letters do not follow each other."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WORKBOOK_SUFFIX = ".xlsx"
MAX_SHEET_ROWS = 2**20 - 1
"""Rows of a sheet in Excel, less the header."""
WORKBOOK_DATE = datetime(2000, 1, 1, tzinfo=UTC)
"""Stated in every workbook instead of the present time, so that equal tables give equal files."""


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has (at least) ``columns``, as text by column; empty rows are left out.

    The file may be as Excel writes it: commas, semicolons or tabs, UTF-8 with or without a mark, UTF-16 or cp1252,
    any case in the header, spaces around the cells. Raises MissingDataError if there is no such file, and
    ManifestError with the line and the cure if it cannot be read.
    """
    expected = f"a CSV file with the columns {join_names(columns)}"
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}.", expected)
    lines = _decode(path, expected).splitlines()
    if lines and re.fullmatch(r'"?sep=.?"?', lines[0]):  # Excel's own note of the delimiter
        lines[0] = ""
    header: list[str] = []
    rows: list[dict[str, str]] = []
    for number, cells in _split_lines(lines, path):
        if not any(cells):
            continue
        if not header:
            header = [cell.casefold() for cell in cells]
            if missing := [c for c in columns if header.count(c) != 1]:
                found = f"{path}, line {number}: the columns are {join_names(cells)}."
                raise ManifestError(found, expected, f"name one column {join_names(missing)}")
            continue
        if any(cells[len(header) :]):
            found = f"{path}, line {number}: {len(cells)} cells for {len(header)} columns."
            raise ManifestError(found, expected, f"a comma within a cell needs quotes; {CURE}")
        row = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
        if not row[columns[0]]:
            raise ManifestError(f"{path}, line {number}: the column {columns[0]} is empty.", expected, "fill it in")
        rows.append(row)
    if not header:
        raise ManifestError(f"{path} is empty.", expected)
    return rows


def _decode(path: Path, expected: str) -> str:
    data = path.read_bytes()
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\0" in data:
        what = "an Excel workbook" if data.startswith(b"PK") else "not a text file"
        raise ManifestError(f"{path} is {what}.", expected, CURE)
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        number = data.count(b"\n", 0, e.start) + 1
    try:
        if not _OTHER_SCRIPT.search(data):
            return data.decode("cp1252")
    except UnicodeDecodeError:
        pass
    found = f"{path}, line {number}: letters that are neither UTF-8 nor Western European (cp1252)."
    raise ManifestError(found, expected, CURE)


def _split_lines(lines: Sequence[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number (from 1) and the cells of each line; the delimiter is the commonest of the first full line."""
    first = next((line for line in lines if line.strip(f"{DELIMITERS} ")), "")
    reader = csv.reader(lines, delimiter=max(DELIMITERS, key=first.count))
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as e:
        raise ManifestError(f"{path}, line {reader.line_num}: {e}.", "a CSV file", CURE) from e


def disarm_cell(value: Cell) -> Cell | str:
    """Put an apostrophe before text that a spreadsheet program would take for a formula; numbers stay as they are."""
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _disarm_table(table: pd.DataFrame, index: bool) -> pd.DataFrame:
    """Return ``table`` with harmless texts, and its index as columns if ``index``."""
    safe = table.reset_index() if index else table.copy()
    for name in safe.columns[[dtype.kind == "O" for dtype in safe.dtypes]]:
        safe[name] = safe[name].map(disarm_cell)
    return safe


def _has_index(table: pd.DataFrame) -> bool:
    return not isinstance(table.index, pd.RangeIndex)


def format_csv(table: pd.DataFrame, *, index: bool = False, missing: str = "") -> str:
    """Return ``table`` as CSV, its texts harmless in spreadsheet programs; the only function that makes CSV tables."""
    return str(_disarm_table(table, index).to_csv(index=False, na_rep=missing, lineterminator="\n"))


def check_table(path: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raise OutputError if :func:`write_table` may not write ``path`` or its workbook, or if they meet ``inputs``.

    Raises ArgumentError if ``path`` is named as a workbook.
    """
    if path.suffix.lower() == WORKBOOK_SUFFIX:
        csv_path = path.with_suffix(".csv")
        found = f"{path} is the name of an Excel workbook."
        raise ArgumentError(found, "the name of a CSV file; the workbook is written beside it", f"--csv {csv_path}")
    for file in (path, path.with_suffix(WORKBOOK_SUFFIX)):
        check_file(file, overwrite=overwrite, inputs=inputs)


def write_table(path: Path, table: pd.DataFrame, sheet: str, *, overwrite: bool = False) -> list[Path]:
    """Write a table for people: the CSV file ``path``, and beside it an Excel workbook of the same name.

    Both have the index of ``table`` if it is more than numbers of rows. Return the paths that were written: without
    the workbook where :func:`write_workbook` writes none. Raises OutputError if a file may not be replaced.
    """
    with write_file(path, twin=path.with_suffix(WORKBOOK_SUFFIX).name, overwrite=overwrite) as partial:
        write_text(partial, format_csv(table, index=_has_index(table)))
        twins = write_workbook(partial.with_suffix(WORKBOOK_SUFFIX), {sheet: table})
    return [path, *(path.with_name(twin.name) for twin in twins)]


def write_workbook(path: Path, sheets: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write an Excel workbook with one sheet per table, and return its path.

    Return an empty list, and write nothing, without xlsxwriter, and for a table with more rows than Excel has. Texts
    are as harmless as in :func:`format_csv`; none is a formula or a link.
    """
    if "xlsxwriter" in find_missing_modules("evaluation") or max(map(len, sheets.values())) > MAX_SHEET_ROWS:
        return []
    options = {"strings_to_formulas": False, "strings_to_urls": False, "remove_timezone": True, "in_memory": True}
    buffer = io.BytesIO()  # a full disk is then an OSError of write_bytes, not one of xlsxwriter
    with pd.ExcelWriter(buffer, engine="xlsxwriter", engine_kwargs={"options": options}) as writer:
        writer.book.set_properties({"created": WORKBOOK_DATE})
        for name, table in sheets.items():
            safe = _disarm_table(table, index=_has_index(table))
            safe.to_excel(writer, sheet_name=name[:31], index=False, freeze_panes=(1, 0))
    return [write_bytes(path, buffer.getvalue())]
