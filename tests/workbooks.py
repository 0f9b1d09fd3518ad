"""An Excel workbook read by its XML alone, independently of the library that wrote it."""

import csv
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

NAMESPACES = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def read_workbook(path: Path) -> dict[str, list[list[object]]]:
    """Return the rows of each sheet by its name: texts, numbers, booleans, and None for empty cells."""
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None
        texts: list[str] = []
        if "xl/sharedStrings.xml" in z.namelist():
            strings = ElementTree.fromstring(z.read("xl/sharedStrings.xml"))
            texts = ["".join(s.itertext()) for s in strings.findall("m:si", NAMESPACES)]
        book = ElementTree.fromstring(z.read("xl/workbook.xml"))
        names = [sheet.attrib["name"] for sheet in book.findall("m:sheets/m:sheet", NAMESPACES)]
        sheets = [ElementTree.fromstring(z.read(f"xl/worksheets/sheet{k + 1}.xml")) for k in range(len(names))]
    return {
        name: [_read_row(row, texts) for row in sheet.findall("m:sheetData/m:row", NAMESPACES)]
        for name, sheet in zip(names, sheets, strict=True)
    }


def _read_row(row: ElementTree.Element, texts: list[str]) -> list[object]:
    cells: list[object] = []
    for cell in row.findall("m:c", NAMESPACES):
        assert cell.find("m:f", NAMESPACES) is None, "a formula"
        column = 0
        for letter in re.sub(r"\d", "", cell.attrib["r"]):
            column = 26 * column + ord(letter) - ord("A") + 1
        cells += [None] * (column - len(cells))
        value, kind = cell.findtext("m:v", namespaces=NAMESPACES), cell.get("t")
        if value is not None:
            cells[column - 1] = texts[int(value)] if kind == "s" else value == "1" if kind == "b" else float(value)
    return cells


def assert_twins(csv_path: Path, sheet: str) -> None:
    """Assert that the workbook beside a CSV file has the one ``sheet`` with the same cells."""
    sheets = read_workbook(csv_path.with_suffix(".xlsx"))
    assert list(sheets) == [sheet]
    with csv_path.open(newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    assert len(rows) > 1
    assert len(sheets[sheet]) == len(rows)
    for texts, values in zip(rows, sheets[sheet], strict=True):
        for text, value in zip(texts, [*values, *[None] * len(texts)], strict=False):
            if isinstance(value, bool):
                assert text == str(value)
            elif isinstance(value, float):
                assert float(text) == value or abs(float(text) - value) < 1e-14 * abs(value)
            else:
                assert text == (value or "")
