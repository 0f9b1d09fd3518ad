"""`mousecmr tune`: reviewed results make a better network, which has a name and says where it comes from."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

import mousecmr_data  # noqa: E402
from mousecmr_data.cli.main import main  # noqa: E402
from mousecmr_data.formats.nifti import write_nifti_images  # noqa: E402
from mousecmr_data.inference import list_models, load_model  # noqa: E402
from mousecmr_data.models.safetensors import write_weights  # noqa: E402
from mousecmr_data.pipeline import open_result, open_results  # noqa: E402

MICE = ("Mouse5", "Mouse6")
SHORT = ("epochs=2", "steps_per_epoch=4", "batch_size=4", "crop=128", "augmentation=none", "learning_rate=0.0003")
QUICK = (*SHORT, "epochs=1", "steps_per_epoch=1", "learning_rate=1e-9")


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result


def tune(*words: object, settings: tuple[str, ...] = SHORT, code: int = 0) -> str:
    options = [word for setting in settings for word in ("--set", setting)]
    return run("tune", *words, "--device", "cpu", "--threads", 1, *options, code=code).output


@pytest.fixture(scope="module")
def made(phantom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two synthetic mice, by weights with noise, reviewed in one of two frames as the truth says."""
    folder = tmp_path_factory.mktemp("made")
    worse = load_model("phantom-small", device="cpu", engine="eager").network
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in worse.named_parameters():
            if values.ndim == 4 and name.startswith(("decoder", "head")):
                values += torch.randn(values.shape, generator=noise) * values.std() * 1.4
    about = {"name": "worse", "trained_on": "synthetic mice", "synthetic_training": True}
    write_weights(folder / "worse.safetensors", worse, about)
    truth = {}
    for name in MICE:
        ds = mousecmr_data.open_mouse(name, source="phantom", cache=phantom_cache)
        labelled = np.flatnonzero(ds["labelled"].values)[:2]
        truth[name] = ds.isel(frame=labelled, slice=slice(0, 5)).load()
        write_nifti_images(truth[name], folder / "in" / f"{name}.nii.gz")
    network = ("--weights", folder / "worse.safetensors", "--engine", "eager")
    run("segment", folder / "in", "-o", folder / "out", *network, "--no-pictures")
    for name, opened in open_results(folder / "out").items():
        for k, labels in enumerate(truth[name]["mask"].isel(frame=0).transpose("slice", "y", "x").values):
            edit: Any = {"labels": labels} if labels.any() else {"status": "excluded"}
            opened.apply_edit(0, k, **edit, reader="AB", save=False)
        opened.save()
    return folder


def test_reviewed_mice_make_weights_with_a_name_that_segment_takes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    text = tune(made / "out", "-o", tmp_path / "tuned", "--name", "lab-7T")
    assert "leave-one-out" in text and "--weights lab-7T" in text
    table = pd.read_csv(tmp_path / "tuned" / "mice.csv")
    assert table["mouse"].tolist() == list(MICE) and (table["edited"] + table["excluded"]).tolist() == [5, 5]
    assert table["dice_after"].mean() > table["dice_before"].mean() + 0.01
    card = list_models()["lab-7T"]
    assert card.synthetic_training and "Mouse5" in card.weights.trained_on and "AB" in card.weights.trained_on
    assert "began with worse (SYNTHETIC)" in card.weights.trained_on
    assert any("before" in number and "after" in number for number in card.measured.values())
    by_name, by_path = load_model("lab-7T"), load_model(tmp_path / "tuned" / "lab-7T.safetensors")
    assert by_name.origin == by_path.origin and by_name.origin.name == "lab-7T"
    start = load_model("phantom-small").network
    assert [getattr(by_name.network, k) for k in ("channels", "reduce", "context", "scaling")] == [
        getattr(start, k) for k in ("channels", "reduce", "context", "scaling")
    ]
    about = json.loads((tmp_path / "tuned" / "tuning.json").read_text())
    assert about["began_with_sha256"] == load_model(made / "worse.safetensors").origin.sha256
    assert not list((tmp_path / "tuned").glob(".mousecmr-tuning/*"))
    run("segment", made / "in", "-o", tmp_path / "again", "--weights", "lab-7T", "--engine", "eager", "--no-pictures")
    rows = pd.read_csv(tmp_path / "again" / "mice.csv")
    assert set(rows["weights"]) == {"lab-7T"} and rows["marks"].str.contains("trained on synthetic mice").all()
    assert "lab-7T-2" in tune(made / "out", "-o", tmp_path / "other", "--name", "lab-7T", code=1)
    own = tmp_path / "cache" / "weights" / "own" / "lab-7T.safetensors"
    own.write_bytes(own.read_bytes()[:-1] + b"\1")
    assert "SHA-256" in run("segment", made / "in", "-o", tmp_path / "b", "--weights", "lab-7T", code=1).output


def test_weights_that_are_not_better_are_not_written(made: Path, tmp_path: Path) -> None:
    text = tune(made / "out", "-o", tmp_path / "tuned", "--name", "same", settings=QUICK, code=1)
    assert "no weights were written" in text and "review more mice" in text
    assert sorted(p.name for p in (tmp_path / "tuned").glob("*")) == [
        ".mousecmr-files.json", "curves.csv", "mice.csv", "tuning.json",
    ]  # fmt: skip
    assert "same" not in list_models()


def test_an_interrupted_run_goes_on_and_leaves_no_weights(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mousecmr_data.training import tuning

    fit, done = tuning.fit, []

    def stop_in_the_second_fold(*args: Any, **kwargs: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(args[3].name)
        return fit(*args, **kwargs)

    monkeypatch.setattr(tuning, "fit", stop_in_the_second_fold)
    words = (made / "out", "-o", tmp_path / "tuned", "--name", "later")
    assert "The same command goes on" in tune(*words, code=130)
    assert not list((tmp_path / "tuned").glob("*.safetensors")) and "later" not in list_models()
    resumed = []

    def note(*args: Any, **kwargs: Any) -> Any:
        resumed.append((args[3].name, kwargs["resume"]))
        return fit(*args, **kwargs)

    monkeypatch.setattr(tuning, "fit", note)
    tune(*words)
    assert resumed == [("fold-1", True), ("fold-2", False), ("all", False)]
    assert "later" in list_models()


@pytest.mark.parametrize("name", ["phantom-small", "published", "mousecmr-9.4T-unet3plus", "a/b", ""])
def test_names_of_others_are_refused_with_one_that_works(made: Path, tmp_path: Path, name: str) -> None:
    from mousecmr_data.training.tuning import check_name

    text = tune(made / "out", "-o", tmp_path / "tuned", "--name", name, code=1)
    check_name(text.split("Next: --name ")[1].strip())
    assert not (tmp_path / "tuned").exists()


def test_what_cannot_be_tuned_on_is_said_with_what_to_do(made: Path, tmp_path: Path) -> None:
    out = shutil.copytree(made / "out", tmp_path / "out")
    (out / MICE[0] / "review.json").unlink()
    shutil.copyfile(out / MICE[0] / "automatic_masks.nii.gz", out / MICE[0] / "masks.nii.gz")
    words = ("-o", tmp_path / "tuned", "--name", "mine")
    text = tune(out, *words, code=1)
    assert f"{MICE[0]}: nobody reviewed it" in text and f"mousecmr review {out}" in text
    opened = open_result(out / MICE[0])
    opened.apply_edit(0, 0, status="excluded", reader="AB")
    assert "no reviewed slice has a ventricle" in tune(out, *words, code=1)
    assert "results of the same images" in tune(out / MICE[1], made / "out", *words, code=1)
    moved = shutil.copytree(made / "out", tmp_path / "elsewhere" / "out")
    (moved / "manifest.json").unlink()
    text = tune(moved, *words, code=1)
    assert "weights worse that segmented Mouse5 are not here" in text and "--weights NAME_OR_FILE" in text
    assert "leave-one-out" in tune(moved, *words, "--weights", made / "worse.safetensors", settings=QUICK, code=1)
