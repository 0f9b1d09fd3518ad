"""The commands as a user runs them, on real and synthetic files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from layout_files import write
from workbooks import assert_twins

from mousecmr_data.cli.main import main


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_measure_the_real_stack(real_mouse: Path, tmp_path: Path) -> None:
    (mouse,) = json.loads(run("measure", real_mouse, "--json").stdout)
    assert mouse["ef_percent"] is None
    assert mouse["frames"][0]["blood_pool_ul"] == pytest.approx(29.5, rel=0.005)
    assert mouse["frames"][0]["mass_mg"] == pytest.approx(120, rel=0.005)
    text = run("measure", real_mouse, "--csv", tmp_path / "m.csv").stdout
    assert "29.5" in text
    assert "not in the file" in text
    assert "29.47" in (tmp_path / "m.csv").read_text()


def test_show_the_real_stack(real_mouse: Path, tmp_path: Path) -> None:
    run("show", real_mouse, "-o", tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["MouseMedian_montage.png", "MouseMedian_volume.png"]


def test_show_an_unlabelled_mouse(tmp_path: Path) -> None:
    out = run("show", write(tmp_path / "m.h5", ()), "-o", tmp_path / "pictures").stdout
    assert "No frame is labelled" in out
    assert len(list((tmp_path / "pictures").glob("[!.]*"))) == 1


def test_synthetic_mice_are_marked(phantom_cache: Path, tmp_path: Path) -> None:
    common = ("--source", "phantom", "--cache", phantom_cache)
    assert "SYNTHETIC" in run("measure", "Mouse1", *common).output
    assert "SYNTHETIC" in run("show", "Mouse1", *common, "-o", tmp_path).output
    (mouse,) = json.loads(run("measure", "Mouse1", *common, "--json").stdout)
    assert mouse["synthetic"] is True
    assert mouse["ef_percent"] > 0
    plans = json.loads(run("phantom", "--list", "--json", "--cache", phantom_cache).stdout)
    assert len(plans) == 130
    output = run("phantom", "Mouse1", "--cache", phantom_cache).stdout
    assert "1 mouse in" in output


def test_info(tmp_path: Path) -> None:
    info = json.loads(run("info", "--json", "--cache", tmp_path).stdout)
    assert info["mice"] == 130
    assert info["on_disk"] == {"missing": 130}
    assert info["synthetic"] is False
    assert "slice-order" in run("info", "--issues").stdout
    assert "SYNTHETIC" in run("info", "--source", "phantom").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("measure", "nothing.h5"), "no file nothing.h5"),
        (("measure", "Mouse131"), "no mouse 'Mouse131'"),
        (("measure", "Mouse4", "--source", "nowhere"), "no source 'nowhere'"),
        (("show", "Mouse4", "--source", "phantom", "--spacing", "1", "1", "1"), "which is not a file"),
        (("phantom", "mouse4"), "did you mean 'Mouse4'"),
        (("info", "--source", "nowhere"), "no source 'nowhere'"),
    ],
)
def test_wrong_input_is_reported(arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    assert message in run(*arguments, code=1).output


def test_the_published_layout_of_voxels_can_be_overridden(real_mouse: Path) -> None:
    (one,) = json.loads(run("measure", real_mouse, "--json").stdout)
    (two,) = json.loads(run("measure", real_mouse, "--spacing", 2, 0.1, 0.1, "--json").stdout)
    ratio = two["frames"][0]["blood_pool_ul"] / one["frames"][0]["blood_pool_ul"]
    assert ratio == pytest.approx(2)
    assert two["voxel_size_source"] == "given by the caller"


def test_demo(tmp_path: Path, phantom_cache: Path) -> None:
    result = run("demo", "-o", tmp_path / "out", "--per-group", 1, "--segment", 1, "--cache", phantom_cache)
    assert "SYNTHETIC" in result.output
    assert "mousecmr fetch" in result.output
    assert {p.name for p in (tmp_path / "out").glob("[!.]*")} == {
        "measures.csv",
        "measures.xlsx",
        "montage.png",
        "volume.png",
        "Mouse6_segmented.gif",
    }
    assert_twins(tmp_path / "out" / "measures.csv", "measures")


def test_paths_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    mouse = write(tmp_path / "m.h5")
    (tmp_path / "file").write_text("")
    for arguments in (
        ("measure", mouse, "--csv", tmp_path / "file" / "x.csv"),
        ("show", mouse, "-o", tmp_path / "file" / "sub"),
        ("phantom", "Mouse1", "--cache", tmp_path / "file" / "cache"),
    ):
        assert "Error: " in run(*arguments, code=1).output
