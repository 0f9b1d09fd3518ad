"""Agilent FDF and Bruker 2dseq."""

from pathlib import Path

import numpy as np
import pytest
import scanner_files as scanner
from numpy.typing import NDArray

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, MissingDataError
from mousecmr_data.formats.fdf import read_fdf, read_fdf_header, read_procpar

Images = NDArray[np.uint16]


@pytest.mark.parametrize("big_endian", [False, True])
def test_fdf(tmp_path: Path, images: Images, big_endian: bool) -> None:
    paths = scanner.fdf(images, tmp_path / "cine.img", big_endian=big_endian)
    ds = read_fdf(paths[::-1])
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)
    assert ds["time"].values.tolist() == [0.0, 5.0, 10.0]


def test_fdf_takes_the_frame_time_from_procpar(tmp_path: Path, images: Images) -> None:
    paths = scanner.fdf(images, tmp_path / "cine.img")
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"float  tr = 0.005000;\n", b""))
    assert read_fdf(paths).attrs["frame_time_source"] == "procpar (tr)"
    (tmp_path / "cine.img" / "procpar").unlink()
    assert not read_fdf(paths).attrs["frame_time_known"]


def test_fdf_that_is_incomplete_or_damaged(tmp_path: Path, images: Images) -> None:
    paths = scanner.fdf(images, tmp_path / "cine.img")
    with pytest.raises(FileLayoutError, match="not a complete grid of slices and frames"):
        read_fdf(paths[1:])
    content = paths[0].read_bytes()
    for old, new, message in (
        (b"rank = 2", b"rank = 3", "3 dimensions"),
        (b'"absval"', b'"phased"', "magnitude"),
        (b"bits = 32", b"bits = 12", "stores float of 12 bits"),
        (b"float  span", b"float  spam", "span"),
        (b"#!/usr", b"#!/bin", "not an FDF file"),
        (b"{72, 80}", b"{720, 80}", "ends too early"),
    ):
        paths[0].write_bytes(content.replace(old, new, 1))
        with pytest.raises(FileLayoutError, match=message):
            read_fdf_header(paths[0])
    paths[0].unlink()
    with pytest.raises(MissingDataError):
        read_fdf(paths)


def test_procpar(tmp_path: Path) -> None:
    path = tmp_path / "procpar"
    path.write_text(scanner.procpar())
    assert read_procpar(path) == {
        "tr": (0.005,),
        "pss": (-0.1, 0.0, 0.1),
        "seqfil": ("gems",),
        "array_names": ("pss", "tr, te"),
    }
    for broken in ("tr 1 1\n1 2\n0\n", "tr 1 1 0 0 0 0 0 0 0 0\n2 0.1\n0\n", "tr 1 1 0 0 0 0 0 0 0 0\n"):
        path.write_text(broken)
        with pytest.raises(FileLayoutError, match="at 'tr'"):
            read_procpar(path)


@pytest.mark.parametrize("gated", [False, True])
def test_bruker(tmp_path: Path, images: Images, gated: bool) -> None:
    pytest.importorskip("brukerapi")
    from mousecmr_data.formats.bruker import read_bruker

    path = scanner.bruker(images, tmp_path / "7" / "pdata" / "1", steps=(1.2, 0.1, 0.15), cycle_first=gated)
    ds = read_bruker([path])
    np.testing.assert_array_equal(ds["image"].values, images // 2 * 2)
    assert get_spacing(ds) == (1.2, 0.1, 0.15)
    assert ds.attrs["frame_time_known"] == (not gated)
    assert ds.attrs["mouse"] == "7"


def test_bruker_that_is_incomplete_or_damaged(tmp_path: Path, images: Images) -> None:
    pytest.importorskip("brukerapi")
    from mousecmr_data.formats.bruker import read_bruker

    path = scanner.bruker(images, tmp_path / "7" / "pdata" / "1")
    visu = path.parent / "visu_pars"
    text = visu.read_text()
    for old, new in (("FG_MOVIE", "FG_ECHO"), ("VisuCoreSize=( 2 )\n72 80", "VisuCoreSize=( 2 )\n72 81"), ("##", "%%")):
        visu.write_text(text.replace(old, new))
        with pytest.raises(FileLayoutError):
            read_bruker([path])
    visu.unlink()
    with pytest.raises(MissingDataError, match="visu_pars"):
        read_bruker([path])
