import zipfile
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from workbooks import assert_twins, read_workbook

from mousecmr_data._utils import tables
from mousecmr_data._utils.tables import check_table, read_table, write_table, write_workbook
from mousecmr_data.errors import ArgumentError, ManifestError, MissingDataError, OutputError

COLUMNS = ("mouse", "phenotype")
TEXT = "Mouse,Phenotype,weight\r\nMouse1,Mädchen – 1 µg,24.5\r\n\r\nMouse2,healthy,25.0\r\n"
ROWS = [{"mouse": "Mouse1", "phenotype": "Mädchen – 1 µg"}, {"mouse": "Mouse2", "phenotype": "healthy"}]


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("cp1252"),
        TEXT.replace(",", "\t").encode("utf-16"),
        b"\xfe\xff" + TEXT.replace(",", "\t").encode("utf-16-be"),
        TEXT.replace(",", ";").replace(".", ",").encode("cp1252"),
        ("sep=;\r\n" + TEXT.replace(",", ";")).encode("utf-8-sig"),
        (";;\r\n" + TEXT.replace(",", ";").replace("\r\n\r\n", "\r\n;;\r\n") + ";;\r\n;;\r\n").encode(),
        TEXT.replace("Mouse,Phenotype,weight", " MOUSE , phenotype ,Weight (g; fasted)").encode(),
        TEXT.replace("\r\n", "\r").encode(),
    ],
    ids=["utf8", "mark", "cp1252", "utf16", "utf16-be", "semicolons", "sep", "empty-rows", "capitals", "old-mac"],
)
def test_a_table_is_read_as_excel_writes_it(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    assert [{c: row[c] for c in COLUMNS} for row in read_table(path, COLUMNS)] == ROWS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"mouse,group\nMouse1,a\n", ["line 1", "group", "phenotype"]),
        (b"mouse,phenotype,mouse\n", ["line 1", "one column mouse"]),
        (b"mouse,weight,phenotype\nMouse1,24,5,healthy\n", ["line 2", "4 cells for 3 columns", "CSV UTF-8"]),
        (b"mouse;phenotype\nMouse1;a\n;b\n", ["line 3", "mouse is empty"]),
        ("mouse,phenotype\nMouse1,野生型\n".encode("gbk"), ["line 2", "CSV UTF-8"]),
        ("mouse,phenotype\nMouse1,野生型\n".encode("cp932"), ["line 2", "CSV UTF-8"]),
        (b"PK\x03\x04\0\0", ["Excel workbook", "CSV UTF-8"]),
        (b"\n\n", ["empty"]),
        (b'mouse,phenotype\nMouse1,"' + b"x" * 200_000 + b'"\n', ["line 2", "CSV UTF-8"]),
    ],
    ids=["columns", "twice", "decimal-comma", "no-mouse", "gbk", "cp932", "xlsx", "empty", "huge"],
)
def test_what_cannot_be_read_is_named_with_line_and_cure(data: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        read_table(path, COLUMNS)
    assert all(word in str(caught.value) for word in [*words, "table.csv"]), str(caught.value)


def test_a_missing_table_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"absent\.csv"):
        read_table(tmp_path / "absent.csv", COLUMNS)


def test_a_workbook_keeps_numbers_and_text_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    table = pd.DataFrame({"mouse": ["=1+1", "小鼠"], "edv_ul": [56.9, float("nan")], "url": ["http://x.org/", ""]})
    first, second = (write_workbook(tmp_path / n, {"mice": table, "other": table})[0] for n in ("a.xlsx", "b.xlsx"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as z:
        sheet, strings = (z.read(f"xl/{n}.xml").decode() for n in ("worksheets/sheet1", "sharedStrings"))
    assert "<f>" not in sheet and "hyperlink" not in sheet
    assert "56.9" in sheet
    assert "小鼠" in strings and ">'=1+1<" in strings


def test_a_table_with_more_rows_than_a_sheet_gives_no_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_SHEET_ROWS", 1)
    assert write_workbook(tmp_path / "a.xlsx", {"mice": pd.DataFrame({"frame": [0, 1]})}) == []
    assert not list(tmp_path.iterdir())


TABLE = pd.DataFrame(
    {"mouse": ["=1+1", "小鼠"], "edv_ul": [56.9, float("nan")], "frame": [0, 7], "synthetic": [True, False]}
)


@pytest.mark.parametrize("table", [TABLE, TABLE.set_index("mouse")], ids=["rows", "index"])
def test_a_table_for_people_is_written_twice_and_reads_back_equal(table: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    path = tmp_path / "table.csv"
    check_table(path)
    assert write_table(path, table, "mice") == [path, tmp_path / "table.xlsx"]
    assert_twins(path, "mice")
    rows = [list(TABLE), ["'=1+1", 56.9, 0.0, True], ["小鼠", None, 7.0, False]]
    assert read_workbook(tmp_path / "table.xlsx") == {"mice": rows}
    check_table(path)
    write_table(path, table.iloc[:1], "mice")  # over its own, unedited
    assert_twins(path, "mice")


def test_neither_half_of_a_table_replaces_a_file_of_somebody_else(tmp_path: Path) -> None:
    for name in ("table.csv", "table.xlsx"):
        (tmp_path / name).write_text("mine")
        for act in (
            lambda: check_table(tmp_path / "table.csv"),
            lambda: write_table(tmp_path / "table.csv", TABLE, "a"),
        ):
            with pytest.raises(OutputError, match=name):
                act()
        assert [p.name for p in tmp_path.glob("[!.]*")] == [name]
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    with pytest.raises(ArgumentError, match=r"--csv .*table\.csv"):
        check_table(tmp_path / "table.XLSX")


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xlsxwriter")
    path = tmp_path / "table.csv"
    write_table(path, TABLE, "mice")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(pd.DataFrame, "to_excel", Mock(side_effect=OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_table(path, TABLE.iloc[:1], "mice")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_no_workbook_of_earlier_numbers_stays_beside_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xlsxwriter")
    path = tmp_path / "table.csv"
    write_table(path, TABLE, "mice")
    monkeypatch.setattr(tables, "find_missing_modules", Mock(return_value=["xlsxwriter"]))
    assert write_table(path, TABLE.iloc[:1], "mice") == [path]
    assert [p.name for p in tmp_path.glob("[!.]*")] == ["table.csv"]
