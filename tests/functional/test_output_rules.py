"""Every command that writes: never into its inputs, never over a file of somebody else, comfortably over its own."""

from __future__ import annotations

import csv
import errno
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import layout_files
import numpy as np
import pytest
from click.testing import CliRunner, Result
from evaluated import beating, cohort, shifted
from workbooks import assert_twins

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("pingouin", reason="the extra evaluation is not installed")

from mousecmr_data._utils.outputs import RECORD_FILE
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest
from mousecmr_data.errors import CacheError, ManifestError, OutputError
from mousecmr_data.evaluation.report import write_report
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure, write_movie

SIZES = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}
TINY = ("channels=[2,4,4,8,8]", "reduce=4", "epochs=1", "steps_per_epoch=1", "batch_size=2", 'device="cpu"')


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, result.output
    return result


def say(*words: object, code: int = 0) -> str:
    return " ".join(run(*words, code=code).output.split())


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with mice, their manifest and two results."""
    for k in range(3):
        images, masks = layout_files.arrays((64, 64, 2, 3), k)
        layout_files.write(tmp_path / "files" / f"A{k}.h5", (0, 1), images, masks, SIZES)
    splits = {"train": ["A0"], "validation": ["A1"], "test": ["A2"]}
    create_manifest(tmp_path / "files", tmp_path / "lab", DatasetInfo("lab", synthetic=True), splits=splits)
    mice = cohort(3)
    for by in (1, 2):
        evaluate(shifted(mice, by), mice.values()).write(tmp_path / f"{by}.json")
    return tmp_path


def make_words(command: str, lab: Path, out: Path) -> list[object]:
    """Return the words of a command that writes to ``out``, a file or a folder."""
    mouse, source = lab / "files" / "A0.h5", ("--source", lab / "lab")
    return {
        "show": ["show", mouse, "-o", out],
        "measure": ["measure", mouse, "--csv", out],
        "compare": ["compare", lab / "1.json", lab / "2.json", "--csv", out],
        "merge": ["merge", lab / "1.json", lab / "1.json", "-o", out],
        "evaluate": ["evaluate", lab / "files", "--truth", lab / "files", "-o", out],
        "report": ["evaluate", lab / "files", "--truth", lab / "files", "--report", out],
        "bundle": ["bundle", "create", out, *source],
        "export": ["export", "--weights", "phantom-small", "--size", 64, 64, "-o", out],
        "train": ["train", *source, "-o", out, *(w for s in TINY for w in ("--set", s))],
        "publish": ["publish", *source, "--repo-id", "lab/mice-synthetic", "--dry-run", "-o", out],
        "convert": ["convert", *source, "--workers", 1, "-o", out],
        "nifti": ["convert", *source, "--to", "nifti", "-o", out],
        "manifest": ["manifest", "create", lab / "files", "-o", out],
    }[command]  # type: ignore[return-value]


FILE_COMMANDS = ("measure", "compare", "merge", "evaluate", "bundle", "export")
TABLE_COMMANDS = {"measure": "frames", "compare": "comparison"}
"""Commands that write a table for people, and the sheet of its workbook."""
FOLDER_COMMANDS = {
    "show": "A0_montage.png",
    "report": "tables/overlap.csv",
    "train": "config.json",
    "publish": "README.md",
}
"""A file that each of them writes."""


def prepare(command: str, lab: Path) -> None:
    if command == "bundle":
        run("fetch", "--source", lab / "lab")
    if command == "export":
        pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    if command == "publish":
        pytest.importorskip("datasets", reason="the extra huggingface is not installed")


@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_a_file_of_somebody_else_is_replaced_with_overwrite_only(command: str, lab: Path) -> None:
    prepare(command, lab)
    out = lab / "out" / "mine.txt"
    out.parent.mkdir()
    out.write_text("mine")
    words = make_words(command, lab, out)
    text = say(*words, code=1)
    assert "exists" in text and "--overwrite" in text
    assert out.read_text() == "mine"
    run(*words, "--overwrite")
    written = out.read_bytes()
    assert written != b"mine"
    run(*words)  # over its own, unedited
    out.write_bytes(written + b"edited")
    assert "was edited" in say(*words, code=1)
    assert out.read_bytes() == written + b"edited"
    twins = {"mine.xlsx"} if command in TABLE_COMMANDS else set()
    assert {p.name for p in out.parent.glob("[!.]*")} == {"mine.txt", *twins}


@pytest.mark.parametrize("command", TABLE_COMMANDS)
def test_a_table_has_a_workbook_beside_it_under_the_same_rule(command: str, lab: Path) -> None:
    out = lab / "out" / "table.csv"
    out.parent.mkdir()
    out.with_suffix(".xlsx").write_text("mine")
    words = make_words(command, lab, out)
    text = say(*words, code=1)
    assert "table.xlsx exists" in text and "--overwrite" in text
    assert [p.name for p in out.parent.iterdir()] == ["table.xlsx"]
    assert "table.xlsx" in say(*words, "--overwrite")
    assert_twins(out, TABLE_COMMANDS[command])
    run(*words)  # over its own, unedited
    assert "the name of a CSV file" in say(*make_words(command, lab, out.with_suffix(".xlsx")), code=1)
    assert_twins(out, TABLE_COMMANDS[command])


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_folder_of_results_replaces_only_its_own_unedited_files(command: str, lab: Path) -> None:
    prepare(command, lab)
    out, name = lab / "out", FOLDER_COMMANDS[command]
    words = make_words(command, lab, out)
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    for more in ((), ("--overwrite",)):
        assert "did not" in say(*words, *more, code=1)
        assert [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()] == [name]
    shutil.rmtree(out)
    run(*words)
    written = (out / name).read_bytes()
    (out / "note.txt").write_text("mine")
    run(*words)
    (out / name).write_bytes(written + b"edited")
    text = say(*words, code=1)
    assert "was edited" in text and "--overwrite" in text
    assert (out / name).read_bytes() == written + b"edited"
    if command != "train":  # its configuration is compared with that of the run
        run(*words, "--overwrite")
        assert (out / name).read_bytes() != written + b"edited"
    assert (out / "note.txt").read_text() == "mine"


MEETING = ("files", "lab", "files/new", "lab/new", ".", "files/A0.h5")


@pytest.mark.parametrize(
    ("command", "targets"),
    [
        *((name, MEETING) for name in ("train", "publish", "convert", "nifti")),
        ("manifest", ("files", "files/new", ".", "lab", "files/A0.h5")),
        ("report", ("files", "files/new", "files/A0.h5")),
        ("evaluate", ("files", "files/new", "files/A0.h5")),
        ("bundle", ("lab/new", "files/A0.h5", "lab/files.csv")),
        ("show", ("files/A0.h5", "files/A0.h5/new")),
    ],
)
def test_outputs_that_meet_inputs_are_refused_before_any_work(
    command: str, targets: tuple[str, ...], lab: Path
) -> None:
    prepare(command, lab)
    before = {p: p.read_bytes() for p in lab.rglob("*") if p.is_file()}
    for target in targets:
        result = CliRunner().invoke(main, [str(w) for w in make_words(command, lab, lab / target)])
        assert result.exit_code, (target, result.output)
        assert "Traceback" not in result.output
        assert {p: p.read_bytes() for p in lab.rglob("*") if p.is_file()} == before, target


@pytest.mark.parametrize("command", ["measure", "compare", "merge", "evaluate"])
def test_not_even_overwrite_replaces_an_input(command: str, lab: Path) -> None:
    inputs = {"measure": "files/A0.h5", "compare": "1.json", "merge": "1.json", "evaluate": "files/A1.h5"}
    target = lab / inputs[command]
    (lab / "link").symlink_to(target)
    before = target.read_bytes()
    for path in (target, lab / "link"):
        assert "the input" in say(*make_words(command, lab, path), "--overwrite", code=1)
    assert target.read_bytes() == before


def test_commands_share_a_folder(lab: Path) -> None:
    out = lab / "out"
    words = [make_words("show", lab, out), make_words("measure", lab, out / "m.csv"), make_words("report", lab, out)]
    for _ in range(2):
        for command in words:
            run(*command)
    assert {"A0_montage.png", "m.csv", "report.html"} <= set(json.loads((out / RECORD_FILE).read_text())["files"])


def test_the_present_folder_as_output(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files lie inside it: its parent may be on another disk, or not writable."""
    (lab / "here").mkdir()
    monkeypatch.chdir(lab / "here")
    for command in ("show", "report"):
        run(*make_words(command, lab, Path()))
    assert (lab / "here" / "report.html").is_file()
    for command in ("convert", "nifti"):
        assert "exists" in say(*make_words(command, lab, Path()), code=1)
    words = [*make_words("nifti", lab, Path())]
    words[words.index("nifti")] = "nnunet"
    assert "Dataset130_MouseCMR" in say(*words, code=1)


def test_a_linked_folder_among_results_is_not_followed(lab: Path) -> None:
    (lab / "out").mkdir()
    (lab / "out" / "tables").symlink_to(lab / "files")
    assert "tables" in say(*make_words("report", lab, lab / "out"), code=1)
    assert sorted(p.name for p in (lab / "files").iterdir()) == ["A0.h5", "A1.h5", "A2.h5"]


def test_a_damaged_record_is_somebody_elses_file(lab: Path) -> None:
    (lab / "out").mkdir()
    (lab / "out" / RECORD_FILE).write_text("mine")
    for command in ("show", "measure"):
        out = lab / "out" / ("m.csv" if command == "measure" else "")
        assert RECORD_FILE in say(*make_words(command, lab, out), code=1)
    assert [p.name for p in (lab / "out").iterdir()] == [RECORD_FILE]


def test_python_functions_keep_the_rule(lab: Path) -> None:
    ds, path = beating("M"), lab / "own.png"
    path.write_bytes(b"mine")
    (lab / "r.json").write_text("mine")
    evaluation = evaluate(shifted(cohort(2)), cohort(2).values())
    writers: list[Callable[..., Any]] = [
        lambda **o: save_figure(plot_montage(ds), path, **o),
        lambda **o: write_movie(ds, lab / "own.gif", **o),
        lambda **o: write_nifti_images(ds, lab / "own.nii", **o),
        lambda **o: evaluation.write(lab / "r.json", **o),
    ]
    (lab / "own.gif").write_bytes(b"mine")
    (lab / "own.nii").write_bytes(b"mine")
    for write in writers:
        with pytest.raises(OutputError, match="exists"):
            write()
        write(overwrite=True)
        write()
    (lab / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="did not write there"):
        write_report(evaluation, lab)


def test_what_somebody_else_wrote_meanwhile_stays(tmp_path: Path) -> None:
    from mousecmr_data._utils.atomic import atomic_folder
    from mousecmr_data._utils.outputs import write_file

    with pytest.raises(OutputError, match="exists"), write_file(tmp_path / "a.csv") as partial:
        partial.write_text("ours")
        (tmp_path / "a.csv").write_text("theirs")
    with pytest.raises(OutputError, match="exists"), atomic_folder(tmp_path / "b") as folder:
        (folder / "x").write_text("ours")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "y").write_text("theirs")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b" / "y").read_text() == "theirs"


def test_writers_in_one_folder_lose_no_entry_of_the_record(tmp_path: Path) -> None:
    from mousecmr_data._utils.outputs import write_file

    def write(folder: Path, number: int) -> None:
        with write_file(folder / f"{number}.txt") as partial:
            partial.write_text("x")

    for turn in range(20):
        folder = tmp_path / f"{turn}"
        threads = [threading.Thread(target=write, args=(folder, k)) for k in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(json.loads((folder / RECORD_FILE).read_text())["files"]) == 12


# Spreadsheets, LaTeX, formulas in figures

FORMULAS = ("=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx")


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    for k, name in enumerate(FORMULAS):
        layout_files.write(tmp_path / f"{k}.h5", attrs={**SIZES, "mouse": name, "phenotype": name})
    files = [tmp_path / f"{k}.h5" for k in range(len(FORMULAS))]
    run("measure", *files, "--csv", tmp_path / "m.csv")
    out = tmp_path / "out"
    network = ("--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--no-pictures")
    run("segment", *files, "-o", out, *network)
    mice = [beating(name, seed=k, phenotype=name) for k, name in enumerate(FORMULAS)]
    truth = {str(ds.attrs["mouse"]): ds for ds in mice}
    write_report(evaluate(shifted(truth), mice), tmp_path / "report")
    tables = [tmp_path / "m.csv", *out.rglob("*.csv"), *(tmp_path / "report").rglob("*.csv")]
    assert len(tables) > 10
    names = 0
    for table in tables:
        with table.open(newline="") as f:
            for cell in (cell for row in csv.reader(f) for cell in row):
                if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                    float(cell)
                names += cell.startswith("'")
    assert names > 30
    workbooks = [*out.rglob("*.xlsx"), *(tmp_path / "report").rglob("*.xlsx")]
    assert len(workbooks) > 5
    for workbook in workbooks:
        with zipfile.ZipFile(workbook) as archive:
            sheets = [archive.read(n).decode() for n in archive.namelist() if "worksheets/sheet" in n]
            texts = ElementTree.fromstring(archive.read("xl/sharedStrings.xml")).itertext()
        assert not any("<f>" in sheet for sheet in sheets)
        for text in texts:
            if text.startswith(("=", "+", "-", "@", "\t", "\r")):
                float(text)


def test_no_mouse_of_a_manifest_is_called_like_a_formula(tmp_path: Path) -> None:
    layout_files.write(tmp_path / "files" / "=1+1.h5", attrs=SIZES)
    with pytest.raises(ManifestError, match="'=1\\+1'"):
        create_manifest(tmp_path / "files", tmp_path / "m", DatasetInfo("lab"))


HOSTILE = r"$\frac{a$ \input{/etc/passwd} 50% & a_b #1 {x} ~^ [y]"


def test_names_are_text_in_latex_and_in_figures(tmp_path: Path) -> None:
    mice = [beating(HOSTILE + str(k), seed=k, phenotype=f"{HOSTILE}{k % 2}", source=HOSTILE) for k in range(3)]
    truth = {str(ds.attrs["mouse"]): ds for ds in mice}
    masks = shifted(truth)
    write_report(evaluate(masks, mice), tmp_path / "report", mice=truth, predictions=masks)
    text = (tmp_path / "report" / "tables" / "mice.tex").read_text()
    assert r"\$\textbackslash{}frac\{a\$ \textbackslash{}input\{/etc/passwd\} 50\% \& a\_b \#1" in text
    assert "\\input" not in text
    save_figure(plot_montage(mice[0]), tmp_path / "montage.png")
    predicted = mice[0].assign(predicted=mice[0]["mask"].assign_attrs(weights=HOSTILE))
    save_figure(plot_volume_curve(predicted, "predicted", HOSTILE), tmp_path / "curve.png")


# A full disk; two runs


def test_a_full_disk_is_an_error_in_words(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", fill)
        for command in ("train", "show"):
            assert "The disk is full" in say(*make_words(command, lab, lab / command), code=1)
    monkeypatch.setattr("mousecmr_data._utils.atomic.get_free_bytes", lambda _: 0)
    from mousecmr_data._utils.atomic import atomic_path

    with pytest.raises(CacheError, match="disk is full"), atomic_path(lab / "x.npy"):
        raise OSError("16384 requested and 0 written")  # NumPy's words, without a number


SMALL_DISK = "mkdir -p {disk} && mount -t tmpfs -o size={size}k none {disk} && {command}"


@pytest.mark.parametrize("size", [40, 1200])
def test_a_small_disk(size: int, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no small disk can be mounted here: unshare -rm does not work")
    disk, mousecmr = tmp_path / "disk", f"{sys.executable} -m mousecmr_data.cli.main"
    rng = np.random.default_rng(0)
    for k in range(3):  # images that do not compress
        images, masks = rng.integers(0, 60000, (128, 128, 4, 5)).astype(np.uint16), None
        masks = layout_files.arrays((128, 128, 4, 5))[1]
        layout_files.write(tmp_path / "big" / f"B{k}.h5", (0, 1), images, masks, SIZES)
    splits = {"train": ["B0"], "validation": ["B1"], "test": ["B2"]}
    create_manifest(tmp_path / "big", tmp_path / "biglab", DatasetInfo("big"), splits=splits)
    run("fetch", "--source", tmp_path / "biglab")
    settings = " ".join(f"--set '{s}'" for s in ("channels=[8,16,32,32,32]", *TINY[1:]))
    for command in (
        f"convert --workers 1 -o {disk}/x.zarr",
        f"convert --to nifti -o {disk}/n",
        f"train -o {disk}/t {settings}",
    ):
        shell = SMALL_DISK.format(disk=disk, size=size, command=f"{mousecmr} {command} --source {tmp_path / 'biglab'}")
        done = subprocess.run(["unshare", "-rm", "sh", "-c", shell], capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert "Errno" not in output and "Traceback" not in output
        assert done.returncode == 0 or "The disk is full" in output, output


def test_two_runs_of_segment_in_one_folder(lab: Path) -> None:
    """The second is refused in words, also through a link to the folder, and the first loses nothing."""
    from mousecmr_data.pipeline.batch import segment_batch
    from mousecmr_data.pipeline.config import SegmentConfig

    config = SegmentConfig(weights="phantom-small", engine="eager", device="cpu", pictures=False)
    refused: list[str] = []
    (lab / "link").symlink_to(lab / "out")

    def start_second(event: Any) -> None:
        if event.kind == "reading":
            for folder in (lab / "out", lab / "link"):
                words = [
                    sys.executable,
                    "-m",
                    "mousecmr_data.cli.main",
                    "segment",
                    lab / "files" / "A1.h5",
                    "-o",
                    folder,
                ]
                more = ["--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--no-pictures"]
                done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
                assert done.returncode == 1
                refused.append(" ".join(done.stderr.split()))

    result = segment_batch([lab / "files" / "A0.h5"], lab / "out", config, progress=start_second)
    assert not result.errors
    assert len(refused) == 2 and all("Another run is writing to" in text for text in refused)
    assert sorted(p.name for p in (lab / "out").glob("[!.]*")) == [
        "A0", "flags.csv", "frames.csv", "manifest.json", "mice.csv", "slices.csv", "tables.xlsx"
    ]  # fmt: skip
    second = segment_batch([lab / "files" / "A1.h5"], lab / "out", config)
    assert not second.errors
    assert (lab / "out" / "A0" / "masks.nii.gz").is_file() and (lab / "out" / "A1" / "masks.nii.gz").is_file()
