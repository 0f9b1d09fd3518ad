"""A student: `mousecmr train --teacher` on mice without masks, as a user would."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import h5py
import layout_files
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

import keras_file  # noqa: E402

import mousecmr_data  # noqa: E402
from mousecmr_data.cli.main import main  # noqa: E402
from mousecmr_data.dataset.cohort import Cohort  # noqa: E402
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest  # noqa: E402
from mousecmr_data.errors import ArgumentError, UnknownNameError  # noqa: E402
from mousecmr_data.inference import load_model  # noqa: E402
from mousecmr_data.models.safetensors import read_weights  # noqa: E402
from mousecmr_data.training import TrainConfig, get_recipe, train  # noqa: E402

SPLITS = {"train": ["A", "B"], "validation": ["C"]}
SETTINGS = {"channels": [2, 2, 2, 2, 2], "batch_size": 2, "steps_per_epoch": 2, "crop": 32, "device": "cpu"}


def make_config(teacher: Path | str) -> TrainConfig:
    return replace(get_recipe("student"), teacher=str(teacher), epochs=2, **SETTINGS)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A Keras file of a tiny network, as the authors' file is."""
    path = tmp_path / "teacher.h5"
    keras_file.write_keras(path, keras_file.randomised((2, 2, 2, 2, 2)))
    return path


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """The manifest of three mice of five frames of three slices, without masks."""
    (tmp_path / "files").mkdir()
    for seed, name in enumerate("ABC"):
        with h5py.File(tmp_path / "files" / f"{name}.h5", "w") as f:
            f.create_dataset("Images", data=layout_files.arrays(seed=seed)[0])
    info = DatasetInfo("unlabelled", voxel_size_mm=(1.0, 0.1, 0.1), frame_time_ms=5.0)
    create_manifest(tmp_path / "files", tmp_path / "manifest", info, splits=SPLITS)
    return tmp_path / "manifest"


def load_both(source: Path, cache: Path) -> list[Cohort]:
    return [mousecmr_data.load(mice=mice, source=source, cache=cache) for mice in SPLITS.values()]


def test_a_student_learns_every_frame_without_masks_and_its_card_names_the_teacher(
    tmp_path: Path, teacher: Path, unlabelled: Path
) -> None:
    folder = tmp_path / "run"
    words = ["train", "--teacher", str(teacher), "--source", str(unlabelled), "--split-scheme", "own"]
    words += ["-o", str(folder), "--epochs", "1", "--cache", str(tmp_path / "cache")]
    settings = [w for k, v in SETTINGS.items() for w in ("--set", f"{k}={v}")]
    result = CliRunner().invoke(main, [*words, *settings])
    assert result.exit_code == 0, result.output
    assert "Dice to the teacher" in result.output and "times fewer" in result.output
    run, card = json.loads((folder / "run.json").read_text()), tomllib.loads((folder / "best.toml").read_text())
    assert [run["data"][role]["slices"] for role in ("training", "validation")] == [30, 15], "all slices of all frames"
    assert "truth_dice" not in run["outcome"]["student"], "there are no masks"
    student, taught_by = load_model(folder / "best.safetensors", engine="eager"), load_model(teacher, engine="eager")
    assert (
        run["teacher"]["sha256"]
        == taught_by.origin.sha256
        == read_weights(folder / "best.safetensors")[1]["teacher"]["sha256"]
    )
    assert "taught by teacher.h5" in student.origin.trained_on
    assert taught_by.origin.sha256 in card["weights"]["limits"]
    assert card["weights"]["sha256"] == student.origin.sha256
    assert card["measured"]["Dice to the teacher"] in result.output


def test_a_run_that_was_stopped_ends_like_an_uninterrupted_one(tmp_path: Path, teacher: Path, unlabelled: Path) -> None:
    torch.set_num_threads(1)

    class Stop(Exception):
        pass

    def stop(_: object) -> None:
        raise Stop

    config, cohorts = make_config(teacher), load_both(unlabelled, tmp_path / "a")
    with pytest.raises(Stop):  # while the teacher labels the mice
        train(*cohorts, tmp_path / "stopped", config, progress=stop, cache=tmp_path / "a")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "teachers").iterdir()}
    assert len(kept) == 1
    with pytest.raises(Stop):  # after the first epoch
        train(*cohorts, tmp_path / "stopped", config, on_epoch=stop, cache=tmp_path / "a")
    resumed = train(*cohorts, tmp_path / "stopped", config, cache=tmp_path / "a")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items()), "a mouse is labelled once"
    whole = train(*cohorts, tmp_path / "whole", config, cache=tmp_path / "b")
    assert all(torch.equal(v, resumed.network.state_dict()[k]) for k, v in whole.network.state_dict().items())
    runs = [
        json.loads((tmp_path / name / "run.json").read_text())["outcome"]["student"] for name in ("stopped", "whole")
    ]
    assert np.allclose(list(runs[0].values()), list(runs[1].values()))


def test_wrong_teachers_are_refused_with_advice(tmp_path: Path, unlabelled: Path) -> None:
    cohorts = load_both(unlabelled, tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'phantom-small'"):
        train(*cohorts, tmp_path / "run", make_config("phantom-smal"), cache=tmp_path)
    with pytest.raises(ArgumentError, match="--teacher WEIGHTS"):
        train(*cohorts, tmp_path / "run", make_config(""), cache=tmp_path)
    assert not (tmp_path / "run").exists()
