"""Agilent FDF and Bruker 2dseq."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scanner_files as scanner
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, MissingDataError
from mousecmr_data.formats.discover import FoundScan, find_scans
from mousecmr_data.formats.fdf import read_fdf, read_fdf_header, read_procpar
from mousecmr_data.formats.nifti import read_nifti
from mousecmr_data.formats.read import read_scan

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


def test_text_of_several_lines_in_procpar(tmp_path: Path) -> None:
    path = tmp_path / "procpar"
    text = 'text 2 2 0 0 0 2 1 0 1 64\n1 "first\n\nlast \\"quoted\\""\n0\n'
    several = 'names 4 2 8 0 0 2 1 0 1 64\n2 "a\nb"\n"c"\n0\n'
    path.write_text(text + several + scanner.procpar())
    parameters = read_procpar(path)
    assert parameters["text"] == ('first\n\nlast "quoted"',)
    assert parameters["names"] == ("a\nb", "c")
    assert parameters["tr"] == (0.005,)
    path.write_text(text[:-10])
    with pytest.raises(FileLayoutError, match="ends too early"):
        read_procpar(path)


@pytest.mark.parametrize(
    ("parameters", "rate", "source"),
    [
        ("heartrate 1 1 1e+18 -1e+18 0 2 1 0 1 64\n1 461.5\n0\n", 461.5, "procpar (heartrate)"),
        ("rrdelay 1 1 1e+18 -1e+18 0 2 1 0 1 64\n1 0.125\n0\n", 480.0, "procpar (rrdelay)"),
        ("", None, None),
    ],
)
def test_fdf_takes_the_heart_rate_from_procpar(
    tmp_path: Path, images: Images, parameters: str, rate: float | None, source: str | None
) -> None:
    ds = read_fdf(scanner.fdf(images, tmp_path / "cine.img", parameters=parameters))
    assert (ds.attrs.get("heart_rate_bpm"), ds.attrs.get("heart_rate_source")) == (rate, source)
    (tmp_path / "cine.img" / "procpar").write_text("tr 1 1\n1 2\n0\n")
    ds = read_fdf(sorted((tmp_path / "cine.img").glob("*.fdf")))  # the header has the frame time
    assert "heart_rate_bpm" not in ds.attrs
    assert ds.attrs["notes"].startswith("procpar is damaged")


def test_fdf_of_one_slice_per_folder(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        scanner.fdf(images[:, z : z + 1], tmp_path / f"sa_{z + 1:02d}.img", first=float(z))
    scanner.fdf(images[:1], tmp_path / "scout_01.img", sequence="scout")
    turned = "1.0000,0.0000,0.0000,0.0000,0.0000,-1.0000,0.0000,1.0000,0.0000"
    scanner.fdf(images[:, :1], tmp_path / "long_01.img", orientation=turned)
    damaged = scanner.fdf(images[:, :1], tmp_path / "sa_05.img", first=4.0)[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    scan, alone = find_scans(tmp_path)
    ds = read_scan(scan)
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)
    assert "long_01.img: 1 slice, 3 frames" in scan.notes[0]
    assert "scout_01.img: 4 slices, 1 frame, a localiser by its name" in scan.notes[0]
    assert ds.attrs["notes"].splitlines()[0] == scan.notes[0]
    assert ds.attrs["incomplete"].endswith("sa_05.img.")
    with pytest.raises(FileLayoutError, match="ends too early"):
        read_scan(alone)


def test_fdf_of_several_directions_or_shifted_slices_is_refused(tmp_path: Path, images: Images) -> None:
    paths = scanner.fdf(images[:1], tmp_path / "scout.img")
    content = paths[0].read_bytes()
    paths[0].write_bytes(content.replace(b"orientation[] = {1.0000,", b"orientation[] = {0.0000,"))
    with pytest.raises(FileLayoutError, match="differ in their orientation"):
        read_fdf(paths)
    paths[0].write_bytes(content.replace(b"location[] = {0.000000", b"location[] = {0.100000"))
    with pytest.raises(FileLayoutError, match="shifted within their plane"):
        read_fdf(paths)


def test_a_folder_named_by_a_relative_path_has_a_name(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = scanner.fdf(images, tmp_path / "cine.img")
    monkeypatch.chdir(tmp_path / "cine.img")
    with pytest.raises(FileLayoutError, match=r"^cine\.img is not a complete grid"):
        read_fdf([Path(p.name) for p in paths[1:]])


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
    for old, new in (
        ("FG_MOVIE", "FG_SLICE"),
        ("VisuCoreSize=( 2 )\n72 80", "VisuCoreSize=( 2 )\n72 81"),
        ("##", "%%"),
    ):
        visu.write_text(text.replace(old, new))
        with pytest.raises(FileLayoutError):
            read_bruker([path])
    visu.unlink()
    with pytest.raises(MissingDataError, match="visu_pars"):
        read_bruker([path])


TURNED = (1, 0, 0, 0, 0, -1, 0, 1, 0)
FLAT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def read_2dseq(path: Path) -> xr.Dataset:
    pytest.importorskip("brukerapi")
    return read_scan(FoundScan("m", "Bruker", (path,)))


def test_bruker_slices_are_sorted_by_their_positions(tmp_path: Path, images: Images) -> None:
    order = [2, 0, 3, 1]
    path = scanner.bruker(
        images[:, order], tmp_path / "7" / "pdata" / "1", positions=[(-12.8, -12.8, z) for z in order]
    )
    ds = read_2dseq(path)
    np.testing.assert_array_equal(ds["image"].values, images // 2 * 2)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([(-12.8, -12.8, z) for z in (0, 1, 2, 3.5)], "1 mm apart, but slices 2 and 3 1.5 mm"),
        ([(-12.8, -12.8, z) for z in (0, 1, 1, 2)], "two slices at the same position"),
        ([(-12.8 + z, -12.8, z) for z in range(4)], "shifted within their plane by up to 30.0 pixels"),
    ],
)
def test_bruker_slices_that_are_no_stack_are_refused(
    tmp_path: Path, images: Images, positions: list[tuple[float, ...]], message: str
) -> None:
    with pytest.raises(FileLayoutError, match=message):
        read_2dseq(scanner.bruker(images, tmp_path / "7" / "pdata" / "1", positions=positions))


def test_bruker_packages_in_other_directions_are_not_part_of_the_stack(tmp_path: Path, images: Images) -> None:
    positions = [(-12.8, -12.8, z) for z in range(3)] + [(-12.8, 0, -12.8)]
    path = scanner.bruker(images, tmp_path / "7" / "pdata" / "1", orientation=(*FLAT * 3, *TURNED), positions=positions)
    ds = read_2dseq(path)
    np.testing.assert_array_equal(ds["image"].values, images[:, :3] // 2 * 2)
    assert "Slices in 2 directions (3, 1): only the largest stack is used." in ds.attrs["notes"]
    path = scanner.bruker(
        images, tmp_path / "8" / "pdata" / "1", orientation=(*FLAT * 2, *TURNED * 2), positions=positions
    )
    with pytest.raises(FileLayoutError, match=r"slices in 2 directions \(2, 2 slices\)"):
        read_2dseq(path)


@pytest.mark.parametrize(
    ("groups", "added", "note"),
    [
        (((3, "FG_CYCLE"),), 2 * 200, "3 repetitions of the cine (FG_CYCLE): the last is used."),
        (((4, "FG_FLOW"),), 0, "4 flow encodings (FG_FLOW): number 1 is used."),
        (((2, "FG_FLOW"), (3, "FG_CYCLE")), 4 * 200, "the last is used"),
    ],
)
def test_bruker_cycles_and_flow_encodings(
    tmp_path: Path, images: Images, groups: tuple[tuple[int, str], ...], added: int, note: str
) -> None:
    ds = read_2dseq(scanner.bruker(images, tmp_path / "7" / "pdata" / "1", groups=groups))
    np.testing.assert_array_equal(ds["image"].values, images // 2 * 2 + added)
    assert note in ds.attrs["notes"]
    assert ds["time"].values.tolist() == [0.0, 5.0, 10.0]


def test_bruker_cycles_alone_are_the_frames(tmp_path: Path, images: Images) -> None:
    ds = read_2dseq(scanner.bruker(images[:1], tmp_path / "7" / "pdata" / "1", groups=((3, "FG_CYCLE"),)))
    np.testing.assert_array_equal(ds["image"].values, [images[0] // 2 * 2 + 200 * k for k in range(3)])
    assert not ds.attrs["frame_time_known"]


def test_bruker_images_other_than_a_cine_are_refused_with_a_way_on(tmp_path: Path, images: Images) -> None:
    path = scanner.bruker(images, tmp_path / "7" / "pdata" / "1", groups=((2, "FG_ECHO"),))
    with pytest.raises(FileLayoutError, match=r"frame groups FG_SLICE \(4\), FG_MOVIE \(3\), FG_ECHO \(2\)") as e:
        read_2dseq(path)
    assert "as NIfTI (x, y, slice, frame)" in str(e.value)
    from brukerapi.dataset import Dataset

    nibabel: Any = pytest.importorskip("nibabel")
    echo = Dataset(path).data[..., 0]
    nibabel.save(nibabel.Nifti1Image(echo, np.diag([0.1, 0.1, 1.0, 1.0])), tmp_path / "echo.nii")
    np.testing.assert_array_equal(
        read_nifti(tmp_path / "echo.nii", spacing=(1, 0.1, 0.1))["image"].values, images // 2 * 2
    )
    phase = path.parent / "visu_pars"
    phase.write_text(phase.read_text().replace("=MAGNITUDE_IMAGE", "=PHASE_IMAGE").replace("FG_ECHO", "FG_CYCLE"))
    with pytest.raises(FileLayoutError, match="PHASE_IMAGE"):
        read_2dseq(path)


def test_bruker_takes_times_and_heart_rate_of_a_gated_movie(tmp_path: Path, images: Images) -> None:
    times = "##$VisuCardiacMovieFrameTime=( 3 )\n(0, 0) (8, 8) (16, 16)\n"
    cycle = "##$VisuCardiacCycle=133\n"
    cases = (
        (times + cycle + "##$VisuCardiacHeartRate=450\n", 8.0, 450.0, "visu_pars (VisuCardiacHeartRate)"),
        (cycle, 133 / 3, 60_000 / 133, "visu_pars (VisuCardiacCycle)"),
    )
    for k, (extra, step, rate, source) in enumerate(cases):
        ds = read_2dseq(scanner.bruker(images, tmp_path / str(k) / "pdata" / "1", cycle_first=True, extra=extra))
        assert float(ds["time"].attrs["frame_time"]) == pytest.approx(step, abs=1e-4)
        assert ds.attrs["heart_rate_bpm"] == pytest.approx(rate)
        assert ds.attrs["heart_rate_source"] == source


def test_bruker_warnings_are_notes(tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("brukerapi")
    from brukerapi.dataset import Dataset

    load = Dataset.load_data

    def warn(self: Any) -> None:
        warnings.warn(f"{self.path} has something unusual", RuntimeWarning, stacklevel=1)
        load(self)

    monkeypatch.setattr(Dataset, "load_data", warn)
    ds = read_2dseq(scanner.bruker(images, tmp_path / "7" / "pdata" / "1"))
    assert "brukerapi: 2dseq has something unusual" in ds.attrs["notes"].splitlines()


def test_the_cine_of_a_bruker_study_is_found(tmp_path: Path, images: Images) -> None:
    pytest.importorskip("brukerapi")

    def write(number: int, frames: Images, **options: Any) -> Path:
        uid = "##$VisuStudyUid=( 65 )\n<1.2.3>\n" + options.pop("extra", "")
        return scanner.bruker(frames, tmp_path / "study" / str(number) / "pdata" / "1", extra=uid, **options)

    name = "##$VisuAcquisitionProtocol=( 65 )\n<{}>\n"
    write(1, images[:1], extra=name.format("1_Localizer"))
    for z in (3, 1, 0, 2):
        write(5 + z, images[:, z : z + 1] + 100 * (z == 2), first=float(z))
    write(9, images[:, :1], orientation=TURNED)
    write(10, images[:, 2:3], first=2.0)
    damaged = write(11, images[:, :1], first=4.0)
    (damaged.parent / "visu_pars").write_text("nothing")
    scan, alone = find_scans(tmp_path)
    ds = read_scan(scan)
    np.testing.assert_array_equal(ds["image"].values, images // 2 * 2)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)
    for text in ("scan 1/pdata/1 (1_Localizer): 4 slices, 1 frame, a localiser", "scan 9/pdata/1: 1 slice, 3 frames",
                 "scan 7/pdata/1: 1 slice, 3 frames, the same slices scanned earlier"):  # fmt: skip
        assert text in scan.notes[0]
    assert scan.incomplete[0].endswith("scan 11.")
    assert ds.attrs["source"] == "Bruker 2dseq, scans 10, 8, 6, 5"
    with pytest.raises(FileLayoutError, match="visu_pars cannot be read"):
        read_scan(alone)
