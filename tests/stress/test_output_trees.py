"""Every writing command on random folder trees, with outputs inside, beside, above and at inputs: no file changes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import layout_files
import nibabel
import numpy as np
import pytest
import scanner_files
from click.testing import CliRunner
from evaluated import cohort, shifted

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("datasets", reason="the extra huggingface is not installed")

from mousecmr_data.cli.main import main
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.inference.predictor import SHIPPED_FOLDER

TREES = 200 if os.environ.get("MOUSECMR_STRESS") else 4
SEED = int(os.environ.get("MOUSECMR_SEED", "1"))
pytestmark = pytest.mark.stress

SIZES = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}
NETWORK = ("--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--region", "full")
TINY = ("channels=[2,4,4,8,8]", "reduce=4", "epochs=1", "steps_per_epoch=1", "batch_size=2", 'device="cpu"')
OWN_FILES = (
    "mice.csv", "frames.csv", "slices.csv", "flags.csv", "manifest.json", "result.json", "masks.nii.gz", "report.html",
    "measures.csv", "montage.png", "config.json", "curves.csv", "best.safetensors", "reproduction.html", "dataset.toml",
    "README.md", "SHA256SUMS", "provenance.json", "figures/dice.png", "tables/overlap.csv", ".mousecmr-files.json",
    "tables.xlsx", "A0.h5", "dataset.json", "A0/result.json", "A0_montage.png", "OUTDATED.txt", "note.txt",
)  # fmt: skip
"""Names that this library gives its own results; in the trees they are the user's."""


@dataclass(frozen=True)
class Tree:
    """A folder tree of a user, and where its inputs are."""

    root: Path
    files: Path
    """Folder of mice in HDF5."""
    scan: Path
    """Folder of a DICOM series or of a NIfTI file."""
    manifest: Path
    results: tuple[Path, Path]
    weights: Path


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of every kind, made once."""
    kit = tmp_path_factory.mktemp("kit")
    for k in range(3):
        images, masks = layout_files.arrays((24, 20, 2, 3), k)
        layout_files.write(kit / "files" / f"A{k}.h5", (0, 1), images, masks, SIZES)
    images = np.random.default_rng(0).integers(0, 4000, (2, 2, 24, 20)).astype(np.uint16)
    scanner_files.dicom_classic(images, kit / "dicom")
    (kit / "nifti").mkdir()
    image = nibabel.Nifti1Image(images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1.0, 1.0]))  # type: ignore[no-untyped-call,attr-defined]
    nibabel.save(image, kit / "nifti" / "scan.nii.gz")  # type: ignore[attr-defined]
    mice = cohort(3)
    for by in (1, 2):
        evaluate(shifted(mice, by), mice.values()).write(kit / f"{by}.json")
    shutil.copy(SHIPPED_FOLDER / "phantom-small.safetensors", kit / "own.safetensors")
    return kit


def grow(root: Path, kit: Path, rng: random.Random) -> Tree:
    """Make a random tree of folders with the inputs, files of the user, and links."""
    folders = [root]
    for _ in range(rng.randint(2, 6)):
        folders.append(rng.choice(folders) / rng.choice(["a", "study 1", "b.d", "Ünï", "x$y$z", "A0", "-c"]))
        folders[-1].mkdir(parents=True, exist_ok=True)

    def place(name: str) -> Path:
        target = rng.choice(folders) / (name if rng.random() < 0.7 else f"in_{name}")
        shutil.copytree(kit / name, target, dirs_exist_ok=True) if (kit / name).is_dir() else shutil.copy(
            kit / name, target
        )
        return target

    files, scan = place("files"), place(rng.choice(["dicom", "nifti"]))
    results, weights = (place("1.json"), place("2.json")), place("own.safetensors")
    manifest = rng.choice(folders) / "lab"
    splits = {"train": ["A0"], "validation": ["A1"], "test": ["A2"]}
    create_manifest(files, manifest, DatasetInfo(f"lab{root.name}", synthetic=True), splits=splits)
    folders += [files, scan, manifest]
    for _ in range(rng.randint(3, 12)):
        path = rng.choice(folders) / rng.choice(OWN_FILES)
        if not path.exists() and not any(p.is_file() for p in path.parents):
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(rng.choice([b"", b"my own\n", b'{"files": 3}', rng.randbytes(200)]))
    for k in range(rng.randint(0, 3)):
        present = sorted(p for p in root.rglob("*") if p != root)
        link = rng.choice(folders[: len(folders) - 3]) / rng.choice([f"link{k}", f"link{k}.csv", f"link{k}.json"])
        if not link.exists() and not link.is_symlink():
            link.symlink_to(rng.choice([*present, root / "nowhere"]))
    return Tree(root, files, scan, manifest, results, weights)


def read_tree(root: Path) -> dict[str, str]:
    """Return what there is: folders, targets of links, checksums of files."""
    found = {}
    for folder, folders, files in os.walk(root):
        for path in (Path(folder) / name for name in [*folders, *files]):
            if path.is_symlink():
                found[str(path)] = f"-> {path.readlink()}"
            else:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def choose_output(tree: Tree, rng: random.Random, suffix: str) -> str:
    """Return a path inside, beside, above or at an input or a file of the user, or a new one."""
    present = [*map(Path, sorted(read_tree(tree.root))), tree.root]
    inputs = [tree.files, tree.scan, tree.manifest, *tree.results, tree.weights]
    base = rng.choice([*inputs, rng.choice(present), rng.choice(present)])
    new = rng.choice(["out", "out/deep", f"new{suffix}", *OWN_FILES])
    path = rng.choice([base, base.parent, base / new, base.parent / new, base.parent / f"{base.name}{suffix}"])
    if rng.random() < 0.2:
        return os.path.relpath(path)
    return str(path)


def list_commands(tree: Tree, out: Callable[[str], str], rng: random.Random) -> Iterator[list[str]]:
    """Yield the writing commands: the quick ones, and one of the slow ones."""
    mouse, other = str(tree.files / "A0.h5"), str(tree.files / "A1.h5")
    lab = ("--source", str(tree.manifest))
    a, b = map(str, tree.results)
    yield ["show", mouse, "-o", out("")]
    yield ["measure", mouse, other, "--csv", out(".csv")]
    yield ["compare", a, b, "--csv", out(".csv")]
    yield ["merge", a, a, "-o", out(".json")]
    evaluated = ["evaluate", str(tree.files), "--truth", str(tree.files)]
    yield [*evaluated, "-o", out(".json"), *rng.choice([(), ("--report", out(""))])]
    yield ["manifest", "create", str(tree.files), "-o", out("-manifest")]
    yield ["bundle", "create", out(".zip"), *lab]
    kind = rng.choice(["zarr", "nifti", "nnunet"])
    yield ["convert", *lab, "--to", kind, "-o", out(".zarr"), *(("--workers", "1") if kind == "zarr" else ())]
    yield ["predict", mouse, "-o", out(""), *NETWORK]
    yield ["segment", rng.choice([str(tree.scan), mouse, str(tree.files)]), "-o", out(""), *NETWORK, "--no-pictures"]
    yield rng.choice(
        [
            ["export", "--weights", str(tree.weights), "--size", "64", "64", "-o", out(".onnx")],
            ["publish", *lab, "--repo-id", "lab/mice-synthetic", "--dry-run", "-o", out("")],
            ["train", *lab, "-o", out(""), *(w for s in TINY for w in ("--set", s))],
            ["reproduce", *lab, "--predictions", str(tree.files), "--phases", "annotated", "-o", out("")],
            ["phantom", "Mouse5", "--cache", out("")],
            ["demo", "--per-group", "1", "--segment", "0", "-o", out("")],
        ]
    )


@pytest.mark.parametrize("number", range(TREES))
def test_no_command_changes_a_file_that_was_there(
    number: int, kit: Path, phantom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1000 * SEED + number)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    root = tmp_path / f"{number}"
    root.mkdir()
    tree = grow(root, kit, rng)
    monkeypatch.chdir(rng.choice([root, tree.files, tree.scan, tree.manifest]))
    CliRunner().invoke(main, ["fetch", "--source", str(tree.manifest)], catch_exceptions=False)
    before = read_tree(root)
    for words in list_commands(tree, lambda suffix: choose_output(tree, rng, suffix), rng):
        result = CliRunner().invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exc_info)
        after = read_tree(root)
        changed = {p: after.get(p, "gone") for p, content in before.items() if after.get(p) != content}
        assert not changed, (words, result.output)
        assert not [p for p in after if "/.part-" in p], (words, "a temporary file was left")
        COUNTS[words[0], result.exit_code == 0] = COUNTS.get((words[0], result.exit_code == 0), 0) + 1


COUNTS: dict[tuple[str, bool], int] = {}
"""How often each command was refused and succeeded."""


def test_both_outcomes_are_tried() -> None:
    if len(COUNTS) == 0:
        pytest.skip("the trees were not run")
    done = sum(n for (_, has_succeeded), n in COUNTS.items() if has_succeeded)
    assert 0.1 < done / sum(COUNTS.values()) < 0.9
