"""Run the examples of the documentation on synthetic mice, in Python and on the command line, and check its links."""

import hashlib
import json
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import evaluated
import h5py
import hostile_files
import keras_file
import layout_files
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from servers.cohort import git_blob_sha1
from servers.host import Host

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.evaluation import protocols
from mousecmr_data.evaluation.protocols import hash_protocol, list_protocols, read_protocol
from mousecmr_data.schema import DEFAULT_DATASET
from mousecmr_data.schema import manifest as manifests

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")
MICE = {"Mouse4": "train", "Mouse7": "train", "Mouse1": "validation", "Mouse6": "test"}
CHANNELS = (2, 2, 4, 4, 4)
ONLY_PARSED = {
    "mousecmr demo": "it makes and segments many synthetic mice: `make demo`",
    "mousecmr serve": "a server",
    "mousecmr review": "a server",
    "mousecmr evaluate predicted/ --source phantom": "25 synthetic mice",
    "mousecmr evaluate predicted/ --source my-manifest": "masks of one's own mice",
    "mousecmr evaluate results_AB": "results of two readers: test_review.py",
    "mousecmr evaluate masks/my-": "masks of nnU-Net and MONAI: test_a_guide_leads_to_a_row_of_the_leaderboard",
    "mousecmr convert --source phantom-64": "130 small mice: test_a_guide_leads_to_a_row_of_the_leaderboard",
    "mousecmr reproduce": "test_reproduce.py",
    "mousecmr measure results": "a reviewed result: test_review.py",
    "mousecmr measure my_ED": "a reviewed result: test_review.py",
    "mousecmr publish": "an upload: test_publish.py",
    "mousecmr segment": "scans of several formats: test_segment_command.py",
    "mousecmr train": "hours: test_training.py",
    "mousecmr benchmark": "trains: test_benchmark.py",
    "mousecmr tune": "a reviewed result: test_tuning.py",
    "mousecmr predict --split test --weights runs": "weights of a run: test_training.py",
    "mousecmr export": "takes a minute: test_export_onnx.py",
    "mousecmr phantom": "130 synthetic mice: test_commands_on_files.py",
    "mousecmr predict --source phantom": "25 synthetic mice: test_predict_cohort.py",
    "mousecmr predict Mouse6 Mouse10": "synthetic mice: test_model_commands.py",
    "mousecmr predict --split test -o /shared": "a cluster: test_dask.py",
}
"""Commands that are read by the command line, but not run, by their first words."""
PREPARED = {
    "measuring": ["mousecmr fetch"],
    "predicting": ["mousecmr predict Mouse6 -o predicted"],
    "evaluation": [
        *(f"mousecmr evaluate predictions --split all -o {name}.json" for name in ("mine", "theirs")),
        *(
            f"mousecmr evaluate predictions --split {s} -o {name}.json"
            for s, name in (("train", "part1"), ("test", "part2"))
        ),
    ],
}
"""Commands before those of a page, for files that it takes for granted."""
GUIDES = [p for p in PAGES if p.stem in ("nnunet", "monai")]
"""Pages whose commands and examples go together: test_a_guide_leads_to_a_row_of_the_leaderboard runs them."""


@pytest.mark.parametrize("page", [p for p in PAGES if p not in GUIDES], ids=lambda p: p.stem)
def test_examples_run(page: Path, tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [m["code"] for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if not m["skip"]]
    if not code:
        pytest.skip(f"{page.name} has no example to run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, page.name, "exec"), names)


def test_the_lightning_example_runs(tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import lightning  # noqa: F401
    except (ImportError, RuntimeError) as e:  # its torchmetrics imports a torchvision that may not fit torch
        pytest.skip(f"Lightning is not installed, or not usable (pip install lightning): {e}")
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = (m["code"] for m in BLOCK.finditer(page) if "import lightning" in m["code"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning advises more workers
        names: dict[str, Any] = {}
        exec(compile(code, "training.md", "exec"), names)
    assert names["trainer"].callback_metrics["validation_loss"] > 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the commands name. Four small mice and a small network, on a server of this
    computer, stand in for the dataset and the published weights."""
    home = tmp_path / "home"
    keras_file.write_keras(tmp_path / "net.h5", keras_file.randomised(CHANNELS))
    weights = (tmp_path / "net.h5").read_bytes()
    files = {}
    for k, name in enumerate(MICE):
        ds = evaluated.beating(name, seed=k)
        arrays = [ds[v].values.transpose(2, 3, 1, 0) for v in ("image", "mask")]
        files[f"Data/{name}.h5"] = layout_files.write(tmp_path / f"{name}.h5", (0, 3), *arrays).read_bytes()
        layout_files.write(home / "my_mice" / f"Own{k}.h5", (0, 3), *arrays)
        layout_files.write(home / "predictions" / f"{name}.h5", range(6), arrays[0], np.roll(arrays[1], 1, 1))
    shutil.copy(tmp_path / "Mouse6.h5", home / "my_mouse.h5")
    shutil.copy(home / "predictions" / "Mouse6.h5", home / "predicted.h5")
    for name in ("a", "b"):
        layout_files.write(home / "mine" / f"{name}.h5", (0, 3), *arrays)
    acdc = np.array([0, 2, 3], np.uint8)[arrays[1]].swapaxes(0, 1)
    nibabel.save(nibabel.Nifti1Image(acdc, np.diag([0.1, 0.1, 1, 1])), home / "masks.nii.gz")
    hostile_files.write_nifti(home / "scans" / "M1.nii", side=32)
    with Host({**files, "ModelWeights/SEG459.h5": weights}) as host:
        folder = tmp_path / "manifests" / DEFAULT_DATASET
        shutil.copytree(manifests.MANIFESTS_FOLDER / DEFAULT_DATASET, folder)
        rows = [f"{Path(path).stem},{path},{git_blob_sha1(body)},," for path, body in files.items()]
        (folder / "files.csv").write_text("\n".join(["mouse,path,git_blob_sha1,sha256,size", *rows]) + "\n")
        splits = {s: [m for m in MICE if MICE[m] == s] for s in ("train", "validation", "test")}
        (folder / "splits.toml").write_text(
            "\n".join(["[upstream-notebook]", *(f"{k} = {v}" for k, v in splits.items())])
        )
        text = (folder / "weights.toml").read_text()
        for name, value in {
            "url": f'"{host.template}"', "sha256": f'"{hashlib.sha256(weights).hexdigest()}"',
            "size": len(weights), "channels": list(CHANNELS),
        }.items():  # fmt: skip
            text = re.sub(rf"^{name} = .*", f"{name} = {value}", text, flags=re.MULTILINE)
        (folder / "weights.toml").write_text(text)
        text = re.sub(
            r"^url = .*", f'url = "{host.template}"', (folder / "dataset.toml").read_text(), flags=re.MULTILINE
        )
        (folder / "dataset.toml").write_text(re.sub(r"^\[stack\]\n([^\[].*\n)*", "", text, flags=re.MULTILINE))
        monkeypatch.setattr(manifests, "MANIFESTS_FOLDER", folder.parent)
        monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(home)
        yield home


def read_commands(text: str) -> list[list[str]]:
    """Return the words of each command in the console blocks of a page's text; comments are left out."""
    commands: list[list[str]] = []
    language: str | None = None  # of the block that the line is in
    begun = ""  # a command whose quotation goes on in the next line
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            language = line[3:] if language is None else None
        elif language in ("", "console") and (begun or re.match(r"(\$ )?(mousecmr|export) ", line)):
            try:
                commands.append(shlex.split(f"{begun}{line}".removeprefix("$ "), comments=True))
                begun = ""
            except ValueError:
                begun += f"{line}\n"
    return commands


WITH_COMMANDS = [p for p in [ROOT / "README.md", *PAGES] if read_commands(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda p: p.stem)
def test_commands_run(page: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    for words in [*map(shlex.split, PREPARED.get(page.stem, [])), *read_commands(page.read_text(encoding="utf-8"))]:
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            continue
        command = main.get_command(group := click.Context(main, info_name="mousecmr"), words[1])
        assert command, words
        if any(" ".join(words).startswith(start) for start in ONLY_PARSED):
            command.make_context(words[1], words[2:], group)
            continue
        if words[1] == "predict" and "--engine" not in words:
            words += ["--engine", "eager", "--device", "cpu"]  # "auto" tests all engines in each new cache
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
        for path in home.glob("*/*.h5") if words[1] == "predict" else ():
            if (good := home / "predictions" / path.name).exists() and path != good:
                with h5py.File(path, "r+") as f, h5py.File(good) as g:  # the network was not trained
                    f["Masks"][...] = g["Masks"][...]


def shorten_protocols(folder: Path) -> Path:
    """Write the protocols with two training mice; all but ``internal`` also with two tested mice and conditions."""
    for name in list_protocols():
        table = json.loads((protocols.PROTOCOLS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for lists in (table, *table["parts"]):
            lists |= {k: lists[k][:2] for k in ("train", "validation") if k in lists}
        if name != "internal":
            table |= {k: table[k][:2] for k in ("test", "conditions") if k in table}
        (folder / f"{name}.json").write_text(json.dumps({**table, "sha256": hash_protocol(table)}))
    return folder


def predict_like_nnunet() -> None:
    """Write what `nnUNetv2_predict` leaves: masks, here the truth moved by a pixel, and its JSON files."""
    masks = Path("masks/my-nnunet")
    masks.mkdir(parents=True)
    for path in Path("nnunet/raw/Dataset064_Mice/imagesTs").iterdir():
        mouse, frame = path.name.removesuffix("_0000.nii.gz").split("_frame")
        truth = mousecmr_data.open_mouse(mouse, source="phantom-64")["mask"].values[int(frame)].T
        nibabel.save(
            nibabel.Nifti1Image(np.roll(truth, 1, 0), nibabel.load(path).affine), masks / path.name.replace("_0000", "")
        )
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (masks / name).write_text("{}")


@pytest.mark.parametrize("page", GUIDES, ids=lambda p: p.stem)
def test_a_guide_leads_to_a_row_of_the_leaderboard(
    page: Path, tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks from "Mice in" on, in their order; two training mice, and no program of nnU-Net."""
    for module in ("monai", "pingouin"):
        pytest.importorskip(module, reason="the extra training is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    (tmp_path / "protocols").mkdir()
    monkeypatch.setattr(protocols, "PROTOCOLS_FOLDER", shorten_protocols(tmp_path / "protocols"))
    read_protocol.cache_clear()
    names: dict[str, object] = {}
    output = ""
    text = page.read_text(encoding="utf-8").partition("## Mice in")[2]
    for block, code in re.findall(r"(```(?:console|python)\n(.*?)```)", text, re.DOTALL):
        if block.startswith("```python"):
            exec(compile(code, page.name, "exec"), names)
            continue
        for words in read_commands(block):
            if words[0] != "mousecmr":
                continue
            if words[1] == "evaluate" and page.stem == "nnunet":
                predict_like_nnunet()
            result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"
            output += result.output
    read_protocol.cache_clear()
    (entry,) = (tmp_path / "leaderboard").iterdir()
    assert entry.name in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "scored again" in output


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_links_have_targets(page: Path) -> None:
    broken = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / t).exists()]
    assert broken == []
