"""Ways to get a good score, or a wrong one without a word, out of `evaluate` and `reproduce`: each is refused or named.

Both use the same checks. A row: what is done to the masks, the words that must be said, and whether `evaluate` refuses
(unless told to go on), or only names it. `reproduce` judges none of them, except where it says so below.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from evaluated import make_dataset, mouse, ring

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.evaluation import evaluate, reproduce
from mousecmr_data.evaluation.scoring import EvaluationConfig

pytest.importorskip("pingouin", reason="the extra evaluation is not installed")

Masks = dict[str, Any]
CENTRES = {"A0": (14, 16), "A1": (34, 18), "A2": (16, 40), "A3": (34, 42)}
ED_FRAME, ES_FRAME = 0, 3


def make_heart(name: str) -> Any:
    """Return a mouse of 8 slices, the outer ones empty, that contracts until frame 3."""
    wall = [10 - 2.5 * np.sin(np.pi * f / 6) ** 2 for f in range(6)]
    masks = np.stack([ring(CENTRES[name], 0.62 * w, w + 2, (8, 50, 58)) for w in wall])
    masks[:, [0, 7]] = 0
    return mouse(name, masks, [ED_FRAME, ES_FRAME])


@pytest.fixture(scope="module")
def mice(tmp_path_factory: pytest.TempPathFactory) -> md.Cohort:
    return make_dataset(tmp_path_factory.mktemp("wrong"), {name: make_heart(name) for name in CENTRES})


@pytest.fixture
def good(mice: md.Cohort) -> Masks:
    """Masks of whole cines that are off by one pixel."""
    return {name: np.roll(make_heart(name)["mask"].values, 1, axis=3) for name in mice}


def change_all(function: Callable[[np.ndarray], Any]) -> Callable[[Masks], Masks]:
    return lambda masks: {name: function(m) for name, m in masks.items()}


def change_one(function: Callable[[np.ndarray], Any]) -> Callable[[Masks], Masks]:
    return lambda masks: {**masks, "A0": function(masks["A0"].copy())}


def swap_ed_es(m: np.ndarray) -> np.ndarray:
    m[[ED_FRAME, ES_FRAME]] = m[[ES_FRAME, ED_FRAME]]
    return m


def clear(m: np.ndarray, *index: Any) -> np.ndarray:
    m[index] = 0
    return m


def restore_truth(masks: Masks) -> Masks:
    return {name: np.roll(m, -1, axis=3) for name, m in masks.items()}


def restore_truth_but_a_few_voxels(masks: Masks) -> Masks:
    truth = restore_truth(masks)
    for m in truth.values():
        m[:, 4, 2, 2:5] = 1
    return truth


@dataclass(frozen=True)
class Way:
    change: Callable[[Masks], Masks]
    words: str
    refused: bool = True
    """By `evaluate`."""
    judged: bool = False
    """By `reproduce`: it counts as what it is, masks without a heart."""


SWAP = np.array([0, 2, 1], np.uint8)
WAYS: dict[str, Way] = {
    "swapped labels": Way(change_all(lambda m: SWAP[m]), "labels 1 and 2 look swapped"),
    "reversed slices, uneven": Way(change_all(lambda m: m[:, ::-1]), "slices look to be in the opposite order"),
    "mirrored columns": Way(change_all(lambda m: m[..., ::-1]), "columns look mirrored"),
    "mirrored rows": Way(change_all(lambda m: m[:, :, ::-1]), "rows look mirrored"),
    "turned by half": Way(change_all(lambda m: m[:, :, ::-1, ::-1]), "rows look mirrored and columns look mirrored"),
    "one mouse mirrored": Way(change_one(lambda m: m[..., ::-1]), "A0 (orientation): columns look mirrored"),
    "transposed axes": Way(change_all(lambda m: m.transpose(0, 1, 3, 2)), "axes look transposed"),
    "file order of axes": Way(change_all(lambda m: m.transpose(2, 3, 1, 0)), "(y, x, slice, frame)"),
    "shifted by one slice up": Way(change_all(lambda m: np.roll(m, 1, axis=1)), "shifted by 1 slice"),
    "shifted by one slice down": Way(change_all(lambda m: np.roll(m, -1, axis=1)), "shifted by 1 slice"),
    "a slice left out": Way(change_all(lambda m: m[:, 1:]), "the prediction has the shape (6, 7, 50, 58)"),
    "swapped ED and ES": Way(change_all(swap_ed_es), "ED and ES look swapped"),
    "one mask for every frame": Way(change_all(lambda m: m[[0] * len(m)]), "the masks at ED and ES are the same"),
    "a frame left out": Way(change_all(lambda m: m[:3]), "the prediction has the shape (3, 8, 50, 58)"),
    "the truth": Way(restore_truth, "the masks are those of the truth", refused=False),
    "the truth but a few voxels": Way(restore_truth_but_a_few_voxels, "those of the truth", refused=False),
    "masks of another mouse": Way(lambda m: {**m, "A0": clear(m["A3"].copy(), 0, 1, 34)}, "look like those of A3"),
    "one mouse's masks for all": Way(lambda m: dict.fromkeys(m, m["A1"]), "the same as those of"),
    "mice in another order": Way(lambda m: dict(zip(m, [*m.values()][::-1], strict=True)), "look like those of A3"),
    "boolean masks": Way(change_all(lambda m: m > 0), "is boolean: a mask of one structure"),
    "0 and 1": Way(change_all(lambda m: (m > 0).astype(np.uint8)), "no frame has the label 2 (LV blood pool)"),
    "0 and 255": Way(change_all(lambda m: (m > 0).astype(np.uint8) * 255), "255"),
    "probabilities": Way(change_all(lambda m: m * 0.4), "0.4"),
    "empty masks": Way(change_all(np.zeros_like), "nothing of the LV blood pool was predicted", judged=True),
    "one empty heart": Way(
        change_one(lambda m: clear(m, slice(None))), "A0 (empty): nothing of the LV", refused=False, judged=True
    ),
    "one frame empty": Way(
        change_one(lambda m: clear(m, ES_FRAME)), "nothing of the LV blood pool was predicted at ES", False, True
    ),
    "a bad mouse left out": Way(lambda m: {k: v for k, v in m.items() if k != "A0"}, "A0 (missing)"),
    "a mouse of no cohort": Way(lambda m: {**m, "B9": m["A0"]}, "B9 (ignored)", refused=False, judged=True),
}


def test_good_masks_have_no_problem(mice: md.Cohort, good: Masks) -> None:
    result = evaluate(good, mice)
    assert result.problems == () and 0.85 < result.mice[0].frames[0].dice < 0.99
    reproduction = reproduce(good, {"internal": mice}, rules=("paper",), phases=("annotated",))
    assert reproduction.doubts == []


@pytest.mark.parametrize("way", WAYS)
def test_evaluate_refuses_or_names(way: str, mice: md.Cohort, good: Masks) -> None:
    row = WAYS[way]
    masks = row.change(good)
    if row.refused:
        with pytest.raises(MouseCMRError) as e:
            evaluate(masks, mice)
        said = str(e.value)
    else:
        said = "\n".join(f"{p.mouse} ({p.kind}): {p.text}" for p in evaluate(masks, mice).problems)
    assert row.words in said


@pytest.mark.parametrize("way", WAYS)
def test_reproduce_judges_none_of_them(way: str, mice: md.Cohort, good: Masks) -> None:
    row = WAYS[way]
    try:
        result = reproduce(row.change(good), {"internal": mice}, rules=("paper",), phases=("annotated",))
    except MouseCMRError as e:
        assert row.words in str(e) and not row.judged
        return
    assert result.reproduced is None
    if row.judged:
        named = "\n".join([*result.judgement[1], *result.notes, *(p.text for p in find_problems(result))])
        assert result.outcome == "differs" and row.words.partition(": ")[2] in named
    else:
        assert result.outcome is None and row.words in "\n".join(result.doubts)


def find_problems(result: Any) -> Any:
    return result.evaluations["internal"][result.headline].problems


def write(folder: Path, masks: Masks, **attrs: Any) -> Path:
    """Write files of the dataset's layout, with attributes ``attrs``."""
    folder.mkdir()
    for name, array in masks.items():
        with h5py.File(folder / f"{name}.h5", "w") as f:
            f.create_dataset("Masks", data=array.transpose(2, 3, 1, 0))
            f.attrs.update({k: v(name) if callable(v) else v for k, v in attrs.items()})
    return folder


RAW, PAPER = (json.dumps({"postprocessing": rule}) for rule in ("none", "paper"))


def test_the_file_of_another_mouse_is_refused(mice: md.Cohort, good: Masks, tmp_path: Path) -> None:
    other = write(tmp_path / "p", good, mouse=lambda name: "Mouse7" if name == "A2" else name)
    with pytest.raises(MouseCMRError, match=r"A2 \(mouse\): the file says that it is of Mouse7"):
        evaluate(other, mice)
    assert "A2 (mouse)" in reproduce(other, {"internal": mice}, phases=("annotated",)).doubts[0]
    assert [p.kind for p in evaluate(other, mice, strict=False).problems] == ["mouse"], "named with --go-on, too"


def test_post_processed_masks_are_not_post_processed_by_another_rule(
    mice: md.Cohort, good: Masks, tmp_path: Path
) -> None:
    made = write(tmp_path / "paper", good, prediction_settings=PAPER)
    with pytest.raises(MouseCMRError, match="made with the post-processing paper, which upstream-code cannot follow"):
        evaluate(made, mice, EvaluationConfig(postprocessing="upstream-code"))
    result = reproduce(made, {"internal": mice}, phases=("annotated",))
    assert result.outcome is None and "predict --postprocessing none" in result.doubts[0]
    raw = write(tmp_path / "raw", good, prediction_settings=RAW)
    assert reproduce(raw, {"internal": mice}, phases=("annotated",)).doubts == []
    assert evaluate(made, mice).mice[0].about == {"postprocessing": "paper"}, "as given, they are scored"


def test_boolean_files_are_refused(mice: md.Cohort, good: Masks, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", {k: m > 0 for k, m in good.items()})
    with pytest.raises(MouseCMRError, match=r"is boolean: a mask of one structure[\s\S]*--labels"):
        evaluate(folder, mice)


def test_a_file_scored_against_itself_is_named(mice: md.Cohort) -> None:
    path = mice.source.get_path("A1")
    result = CliRunner().invoke(main, ["evaluate", str(path), "--truth", str(path)])
    assert result.exit_code == 0 and "(truth): the masks are those of the truth" in result.stderr


def test_the_command_refuses_with_its_own_exit_status(mice: md.Cohort, good: Masks, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", {k: SWAP[m] for k, m in good.items()})
    words = [
        "reproduce",
        "--source",
        mice.source.manifest.source,
        "--predictions",
        str(folder),
        "--phases",
        "annotated",
    ]
    words += ["-o", str(tmp_path / "r"), "--cache", str(mice.source.cache_root)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3 and "Could not be judged" in result.output
    assert "labels 1 and 2 look swapped" in (tmp_path / "r" / "reproduction.html").read_text()


def test_existing_masks_of_a_phantom_need_no_other_cohorts(phantom_cache: Path, tmp_path: Path) -> None:
    mice = md.load("test", source="phantom", mice=["Mouse6"], cache=phantom_cache)
    folder = write(tmp_path / "p", {"Mouse6": np.roll(mice["Mouse6"]["mask"].values, 1, axis=3)})
    words = ["reproduce", "--source", "phantom", "--predictions", str(folder), "--phases", "annotated", "--limit", "1"]
    result = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "r"), "--cache", str(phantom_cache)])
    assert result.exit_code == 6, result.output
    assert "7 T" not in result.output
