"""No command changes or removes a file that was there: inputs, files of others, edited results."""

import json
from pathlib import Path

import h5py
import layout_files
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch", reason="the extra torch is not installed")

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.formats.nifti import write_nifti_images

NETWORK = ("--weights", "phantom-small", "--engine", "eager", "--device", "cpu")


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def segment(*words: object, code: int = 0) -> str:
    return run("segment", *words, *NETWORK, "--no-pictures", code=code).output


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scan_bytes(phantom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    ds = mousecmr_data.open_mouse("Mouse5", source="phantom", cache=phantom_cache)
    few = ds.isel(frame=[0, 7], slice=slice(3, 5))
    return write_nifti_images(few, tmp_path_factory.mktemp("scan") / "a.nii").read_bytes()


@pytest.fixture
def study(tmp_path: Path, scan_bytes: bytes) -> Path:
    """A folder Study1 with a scan and a note, and a zip-like sibling."""
    (tmp_path / "Study1").mkdir()
    (tmp_path / "Study1" / "Study1.nii").write_bytes(scan_bytes)
    (tmp_path / "Study1" / "note.txt").write_text("operator: A")
    return tmp_path


@pytest.mark.parametrize("target", [".", "Study1", "Study1/results", "Study1/Study1.nii"])
def test_segment_refuses_outputs_that_meet_its_inputs(
    study: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    before = read_tree(study)
    result = CliRunner().invoke(main, ["segment", "Study1/", "-o", target, *NETWORK])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert read_tree(study) == before


def test_files_of_others_in_the_output_folder_stay(study: Path) -> None:
    out = study / "out"
    (out / "Study1").mkdir(parents=True)
    (out / "Study1" / "mine.txt").write_text("mine")
    (out / "readme.md").write_text("mine")
    segment(study / "Study1", "-o", out)
    assert (out / "Study1" / "masks.nii.gz").is_file()
    assert (out / "Study1" / "mine.txt").read_text() == (out / "readme.md").read_text() == "mine"
    segment(study / "Study1", "-o", out, "--postprocessing", "none")
    assert (out / "Study1" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["mice.csv", "tables.xlsx", "manifest.json", "Study1/masks.nii.gz", "Study1/result.json"]
)
def test_a_users_file_with_a_name_of_a_result_is_refused(study: Path, name: str) -> None:
    out = study / "out"
    (out / "Study1").mkdir(parents=True)
    (out / name).write_text("my own")
    for more in ((), ("--overwrite",)):
        text = segment(study / "Study1", "-o", out, *more, code=1)
        assert "did not write there" in " ".join(text.split())
        assert (out / name).read_text() == "my own"


def test_an_edited_mask_is_replaced_with_overwrite_only(study: Path) -> None:
    out = study / "out"
    segment(study / "Study1", "-o", out)
    masks = out / "Study1" / "masks.nii.gz"
    image = nibabel.load(masks)
    data = np.asarray(image.dataobj).copy()
    data[0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), masks)
    edited = masks.read_bytes()
    text = segment(study / "Study1", "-o", out, "--postprocessing", "none", code=1)
    assert "was edited" in text
    assert "--overwrite" in text
    assert masks.read_bytes() == edited
    assert "later one" in (out / "Study1" / "OUTDATED.txt").read_text()
    segment(study / "Study1", "-o", out, "--postprocessing", "none", "--overwrite")
    assert masks.read_bytes() != edited
    assert not (out / "Study1" / "OUTDATED.txt").exists()


@pytest.mark.parametrize("content", ['{"files": 3}', '{"files": {}}', "{}", "mine"])
def test_a_failed_mouse_leaves_a_users_file_alone(study: Path, content: str) -> None:
    own = study / "out" / "Study1" / "result.json"
    own.parent.mkdir(parents=True)
    own.write_text(content)
    segment(study / "Study1", "-o", study / "out", code=1)
    assert [p.name for p in own.parent.iterdir()] == ["result.json"]
    assert own.read_text() == content


def test_results_from_before_files_were_listed_are_known(study: Path) -> None:
    out = study / "out"
    segment(study / "Study1", "-o", out)
    for record in (out / "manifest.json", out / "Study1" / "result.json"):
        table = json.loads(record.read_text())
        del table["files"]
        record.write_text(json.dumps(table))
    (out / "tables.xlsx").unlink(missing_ok=True)  # there was no workbook then
    assert "left as it is" in segment(study / "Study1", "-o", out)
    segment(study / "Study1", "-o", out, "--postprocessing", "none")
    assert "masks.nii.gz" in json.loads((out / "Study1" / "result.json").read_text())["files"]


def test_predict_never_writes_over_its_input(tmp_path: Path) -> None:
    mice = [
        layout_files.write(tmp_path / f"{n}.h5", (0,), *layout_files.arrays((24, 20, 2, 1), k))
        for k, n in enumerate("AB")
    ]
    before = read_tree(tmp_path)
    for more in ((), ("--overwrite",)):
        run("predict", *mice, "-o", tmp_path, *NETWORK, *more, code=1)
        assert read_tree(tmp_path) | {} == {**before, **{k: v for k, v in read_tree(tmp_path).items() if ".locks" in k}}


def test_a_name_inside_a_file_cannot_lead_out_of_the_output_folder(tmp_path: Path) -> None:
    path = layout_files.write(tmp_path / "in" / "A.h5", (0,), *layout_files.arrays((24, 20, 2, 1), 0))
    with h5py.File(path, "r+") as f:
        f.attrs["mouse"] = "../../escaped"
    run("predict", path, "-o", tmp_path / "out", *NETWORK)
    assert (tmp_path / "out" / "escaped.h5").is_file()
    assert not [p for p in tmp_path.parent.rglob("escaped*") if p.parent != tmp_path / "out"]


def test_two_inputs_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    mice = []
    for seed, folder in enumerate("xy"):
        mice.append(layout_files.write(tmp_path / folder / "A.h5", (0,), *layout_files.arrays((24, 20, 2, 1), seed)))
    text = run("predict", *mice, "-o", tmp_path / "out", "--overwrite", *NETWORK, code=1).output
    assert "both called A" in " ".join(text.split())
    assert [p.name for p in (tmp_path / "out").glob("*.h5")] == ["A.h5"]
