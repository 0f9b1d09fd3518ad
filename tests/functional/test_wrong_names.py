"""Wrong names and wrong kinds of arguments: the error says what was found, and suggests what was probably meant."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout_files
import pytest
from click.testing import CliRunner

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.errors import ArgumentError, MouseCMRError, UnknownNameError, find_similar


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = layout_files.lab(tmp_path, {"Mouse5": (0, 2), "Mouse6": (0, 2), "Mouse19": (0, 2)})
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return str(folder)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Train", "train"),
        ("val", "validation"),
        ("tset", "test"),
        ("TEST ", "test"),
        ("x", None),
        ("", None),
        (5, None),
    ],
)
def test_the_most_similar_name_is_found(typed: object, meant: str | None) -> None:
    assert find_similar(typed, ["train", "validation", "test"]) == meant


WRONG: dict[str, tuple[Callable[[str], Any], type[MouseCMRError], str]] = {
    "splits": (lambda s: md.load(split=["train", "test"], source=s), ArgumentError, "load one split after the other"),  # type: ignore[arg-type]
    "case": (lambda s: md.load(split="Train", source=s), UnknownNameError, "mean 'train'"),
    "short": (lambda s: md.load(split="tes", source=s), UnknownNameError, "mean 'test'"),
    "scheme": (lambda s: md.load(split_scheme="upstream", source=s), UnknownNameError, "mean 'upstream-notebook'"),
    "number": (lambda s: md.load(mice=5, source=s), ArgumentError, r"5 is not a list .* \['Mouse5', 'Mouse6'\]"),  # type: ignore[arg-type]
    "numbers": (lambda s: md.load(mice=[5], source=s), UnknownNameError, "no mouse 5 here"),  # type: ignore[list-item]
    "none": (lambda s: md.load(mice=[], source=s), ArgumentError, "list of mice is empty"),
    "none to fetch": (lambda s: md.fetch([], source=s), ArgumentError, "list of mice is empty"),
    "none to verify": (lambda s: md.verify([], source=s), ArgumentError, "list of mice is empty"),
    "twice": (lambda s: md.load(mice=["Mouse5", "Mouse6", "Mouse5"], source=s), ArgumentError, "Mouse5: named more"),
    "twice to select": (lambda s: md.load(source=s).select(["Mouse6"] * 2), ArgumentError, "Mouse6: named more"),
    "commas": (lambda s: md.load(mice="Mouse5,Mouse19", source=s), UnknownNameError, "one name each: Mouse5 Mouse19"),
    "no source": (lambda _: md.load(source=None), UnknownNameError, "no source None"),  # type: ignore[arg-type]
    "case of source": (lambda _: md.load(source="Phantom"), UnknownNameError, "mean 'phantom'"),
    "unlike": (lambda _: md.load(source="lab-9"), UnknownNameError, "source='phantom' makes synthetic mice"),
    "chunk": (lambda s: md.load(source=s, chunks={"frames": 4}), ArgumentError, "mean 'frame'"),
    "chunks": (lambda s: md.load(source=s, chunks=4), ArgumentError, "chunks=4"),  # type: ignore[arg-type]
    "frames": (lambda s: md.load(source=s).slices(0), ArgumentError, "frames=0 is not"),  # type: ignore[arg-type]
    "phase": (lambda s: md.load(source=s).slices("ED"), ArgumentError, r"Next: frames=\['ED'\]"),
    "label": (lambda s: md.load(source=s).slices("labeled"), ArgumentError, "Next: frames='labelled'"),
    "folds": (lambda s: md.load(source=s).folds(2.0), ArgumentError, "2.0 folds of 3 mice"),  # type: ignore[arg-type]
    "position": (lambda s: md.load(source=s)[0], UnknownNameError, r"cohort\[0\]: mice are opened by name"),  # type: ignore[call-overload]
    "measured": (lambda s: md.measure(md.load(source=s)), ArgumentError, r"for ds in cohort.values\(\)"),  # type: ignore[arg-type]
    "scored": (lambda _: md.evaluate({}, "phantom"), ArgumentError, r"evaluate\(predictions, mousecmr_data.load\(sou"),  # type: ignore[arg-type]
    "weights": (lambda _: md.load_model("phantom-smal"), UnknownNameError, "mean 'phantom-small'"),
    "engine": (lambda _: md.load_model("phantom-small", engine="Eager"), UnknownNameError, "mean 'eager'"),
}


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_in_python(call: Callable[[str], Any], error: type[MouseCMRError], text: str, source: str) -> None:
    if "load_model" in call.__code__.co_names:
        pytest.importorskip("torch", reason="the extra torch is not installed")
    with pytest.raises(error, match=f"(?s){text}") as e:
        call(source)
    assert "5.16" not in str(e.value) and "fetch" not in str(e.value.next_step), "no download is offered"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["convert", "--split", "Train"], "mean 'train'"),
        (["convert", "--split", "tes"], "mean 'test'"),
        (["measure", "Mouse5,Mouse19"], "one name each: Mouse5 Mouse19"),
        (["convert", "Mouse5", "Mouse5"], "Mouse5: named more than once"),
        (["fetch", "mouse5"], "mean 'Mouse5'"),
        (["info", "--source", "Phantom"], "mean 'phantom'"),
        (["mesure", "Mouse5"], "mean 'measure'"),
    ],
)
def test_on_the_command_line(words: list[str], text: str, source: str) -> None:
    result = CliRunner().invoke(main, words if "--source" in words else [*words, "--source", source])
    assert result.exit_code in (1, 2)
    assert re.search(text, result.output, re.IGNORECASE), result.output


def test_a_dataset_of_a_name_says_how_to_load_it() -> None:
    torch_data = pytest.importorskip("mousecmr_data.adapters.torch", reason="the extra torch is not installed")
    with pytest.raises(ArgumentError, match=r"Next: dataset\(mousecmr_data.load\(source='phantom'\)\)"):
        torch_data.dataset("phantom")
    cohort = md.load(source="phantom")[:1]
    with pytest.raises(ArgumentError, match="There is no kind 'slice'") as e:
        torch_data.dataset(cohort, "slice")
    assert ast.literal_eval(str(e.value.next_step).split()[-1].rstrip("?")) == "slices"
