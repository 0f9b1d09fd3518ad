"""Entries of the leaderboard: made from masks, checked, ranked; tampered ones are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import layout_files
import numpy as np
import pytest

import mousecmr_data as md
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, OutputError, PredictionError
from mousecmr_data.evaluation import protocols
from mousecmr_data.evaluation.leaderboard import (
    CARD_FILE,
    RESULTS_FILE,
    Entry,
    check_leaderboard,
    compute_means,
    hash_table,
    rank_entries,
    submit,
    tabulate_runs,
    write_leaderboard,
)
from mousecmr_data.evaluation.protocols import Protocol, hash_protocol, read_protocol

SOURCE = "phantom-64"
MICE = ["Mouse6", "Mouse10", "Mouse12"]
CARD = {"method": "masks of the truth, moved by a pixel", "licence": "CC-BY-4.0", "url": "https://example.org/method"}


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protocol]:
    """A protocol with three test mice, which are scored in a second, as if it were one of the package."""
    table = json.loads((protocols.PROTOCOLS_FOLDER / "internal.json").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("protocols")
    for name in ("three", "other"):
        changed = {**table, "name": name, "test": MICE}
        text = json.dumps({**changed, "sha256": hash_protocol(changed)})
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "PROTOCOLS_FOLDER", folder)
        yield read_protocol("three")
    read_protocol.cache_clear()


def write_masks(folder: Path, cache: Path, by: int, mice: list[str] = MICE) -> Path:
    """Write the truth, moved by pixels, as a stranger's files would hold it."""
    for name, ds in md.load(mice=mice, source=SOURCE, cache=cache).items():
        labelled = np.flatnonzero(ds["labelled"].values).tolist()
        masks = np.roll(ds["mask"].values, by, axis=3).transpose(2, 3, 1, 0)
        layout_files.write(folder / f"{name}.h5", labelled, np.zeros(masks.shape, np.uint16), masks)
    return folder


@pytest.fixture(scope="module")
def made(protocol: Protocol, phantom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with masks of two seeds, and a leaderboard with one entry made from them."""
    folder = tmp_path_factory.mktemp("made")
    for seed in (0, 1):
        write_masks(folder / f"masks/moved/seed-{seed}", phantom_cache, 1 + seed)
    submit(folder / "masks/moved", "moved", protocol, SOURCE, folder / "board", **CARD, cache=phantom_cache)
    return folder


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be tampered with."""
    return Path(shutil.copytree(made, tmp_path / "made"))


def read(board: Path, file: str) -> dict[str, Any]:
    return dict(json.loads((board / "board/moved" / file).read_text(encoding="utf-8")))


def write(board: Path, card: dict[str, Any], results: dict[str, Any], *, sign: bool = True) -> None:
    """Write both files; a careful forger also brings the checksum up to date."""
    if sign:
        card["results_sha256"] = hash_table(results)
    for file, table in ((CARD_FILE, card), (RESULTS_FILE, results)):
        (board / "board/moved" / file).write_text(json.dumps(table), encoding="utf-8")


def test_an_entry_names_what_it_was_made_from_and_passes(made: Path, protocol: Protocol, phantom_cache: Path) -> None:
    card, results = (read(made, file) for file in (CARD_FILE, RESULTS_FILE))
    for table in (card, results):
        assert table["protocol"] == {"name": "three", "version": 1, "sha256": protocol.sha256}
        assert table["source"] == {"name": SOURCE, "version": "2"} and table["synthetic"] is True
    assert card["seeds"] == [0, 1] and card["training"]["all"]["train"] == list(protocol.parts[0].train)
    assert [len(run["mice"]) for run in results["runs"]] == [3, 3]
    assert 0.5 < results["means"]["all"]["clean"]["dice"] < 0.95
    (without,) = check_leaderboard(made / "board")
    (check,) = check_leaderboard(made / "board", masks=made / "masks", cache=phantom_cache)
    assert without.problems == check.problems == ()
    assert (without.rescored, check.rescored) == (False, True)


def edit_numbers(e: SimpleNamespace) -> None:
    e.results["runs"][0]["mice"][0]["frames"][0]["dice"] = 0.999


def edit_means(e: SimpleNamespace) -> None:
    e.results["means"]["all"]["clean"]["dice"] = 0.999


def edit_volumes(e: SimpleNamespace) -> None:
    e.results["runs"][0]["mice"][0]["predicted"]["ef_percent"] += 3


def get_mouse(e: SimpleNamespace, run: int = 0) -> Any:
    return e.results["runs"][run]["mice"][0]


def edit_measures(e: SimpleNamespace) -> None:
    """Volumes nearer to the truth; SV and EF follow from them."""
    predicted = get_mouse(e)["predicted"]
    predicted |= {k: 1.1 * predicted[k] for k in ("edv_ul", "esv_ul", "sv_ul")}


def lose_distance(e: SimpleNamespace) -> None:
    """A missing distance is left out of the mean."""
    get_mouse(e)["frames"][0]["hd95_mm"] = None


def zero_distance(e: SimpleNamespace) -> None:
    get_mouse(e)["frames"][0] |= {"hd95_mm": 0.0, "assd_mm": 0.0}


def invent_dice(e: SimpleNamespace) -> None:
    get_mouse(e)["frames"][0]["dice"] = 0.8123


def lose_frame(e: SimpleNamespace) -> None:
    for run in (0, 1):
        last = get_mouse(e, run)["frames"][-1]["frame"]
        get_mouse(e, run)["frames"] = [f for f in get_mouse(e, run)["frames"] if f["frame"] != last]


def double_frame(e: SimpleNamespace) -> None:
    get_mouse(e)["frames"].append(get_mouse(e)["frames"][0])


def lose_structure(e: SimpleNamespace) -> None:
    get_mouse(e)["frames"].pop()


def change_group(e: SimpleNamespace) -> None:
    get_mouse(e)["phenotype"] = "easy"


def change_truth(e: SimpleNamespace) -> None:
    get_mouse(e, 1)["frames"][0]["truth_ul"] += float(np.prod(get_mouse(e)["voxel_size_mm"]))


def copy_seed(e: SimpleNamespace) -> None:
    e.results["runs"][1]["mice"] = e.results["runs"][0]["mice"]


def take_the_truth(e: SimpleNamespace) -> None:
    for frame in get_mouse(e)["frames"]:
        frame |= {"dice": 1.0, "hd95_mm": 0.0, "assd_mm": 0.0, "predicted_ul": frame["truth_ul"]}
    get_mouse(e)["predicted"] = get_mouse(e)["truth"]


def change_both(**values: Any) -> Callable[..., None]:
    def change(e: SimpleNamespace) -> None:
        for key, value in values.items():
            e.card[key] = e.results[key] = {**e.card[key], **value} if isinstance(value, dict) else value

    return change


def change_card(**values: Any) -> Callable[..., None]:
    return lambda e: e.card.update(values)


def invent_checksum(e: SimpleNamespace) -> None:
    e.results["runs"][0]["mice"][0]["prediction_sha256"] = "checked"


def repeat_masks(e: SimpleNamespace) -> None:
    first, second, _ = e.results["runs"][0]["mice"]
    second["prediction_sha256"] = first["prediction_sha256"]


def train_on_test_mice(e: SimpleNamespace) -> None:
    e.card["training"]["all"]["train"].append("Mouse6")


def train_on_more(e: SimpleNamespace) -> None:
    e.card["training"]["all"]["validation"].append("Mouse15")


def lose_mouse(e: SimpleNamespace) -> None:
    e.results["runs"][1]["mice"].pop()


def lose_seed(e: SimpleNamespace) -> None:
    e.results["runs"].pop()


def add_mouse(e: SimpleNamespace) -> None:
    e.results["runs"][0]["mice"].append({**e.results["runs"][0]["mice"][0], "mouse": "Mouse15"})


def add_condition(e: SimpleNamespace) -> None:
    e.results["runs"].append({**e.results["runs"][0], "condition": "noise-1"})


def mix_protocols(e: SimpleNamespace) -> None:
    e.results["protocol"] = read_protocol("other").reference


def name_own_protocol(e: SimpleNamespace) -> None:
    """A protocol of the submitter's own, in a file beside the entry."""
    path = str(protocols.PROTOCOLS_FOLDER / "three.json")
    e.card["protocol"] = e.results["protocol"] = {**e.card["protocol"], "name": path}


def change_policy(e: SimpleNamespace) -> None:
    e.results["policies"]["empty"] = "missing"


TAMPERED: dict[Callable[..., None], str] = {
    edit_numbers: "cannot have a Dice|means",
    edit_means: "means are not those",
    edit_volumes: "EF that does not follow from the volumes of Mouse6",
    edit_measures: "EDV that does not follow",
    lose_distance: "distances of nan",
    zero_distance: "distances of 0.000",
    invent_dice: "no whole number of voxels",
    lose_frame: "Mouse6 with other frames or another group",
    double_frame: "there twice in a frame",
    lose_structure: "a structure is missing",
    change_group: "Mouse6 with other frames or another group",
    change_truth: "other numbers than in moved",
    copy_seed: "(1, 'all', 'clean') has the masks of (0, 'all', 'clean')",
    take_the_truth: "the masks of Mouse6 are those of the truth",
    invent_checksum: "not a SHA-256",
    repeat_masks: "same masks",
    train_on_test_mice: "Mouse6 tested, and used for training",
    train_on_more: "Mouse15 used for training, which",
    lose_mouse: "Mouse12 missing",
    lose_seed: "is missing",
    add_mouse: "Mouse15 not of the condition",
    add_condition: "noise-1",
    mix_protocols: "differ in 'protocol'",
    change_policy: "other policies",
    change_both(protocol={"version": 2}): "the protocol is",
    change_both(protocol={"sha256": "ab" * 32}): "the protocol is",
    change_both(protocol={"name": "mine"}): "is none of other, three",
    name_own_protocol: "is none of other, three",
    change_card(training=["Mouse1"]): "another kind",
    change_card(seeds="01"): "another kind|(seed, part, condition)",
    change_both(synthetic=False): "the entry says otherwise",
    change_both(source={"name": "phantom-7T"}): "cannot be followed",
    change_both(source={"version": "1"}): "the masks are of",
    change_card(licence="free for friends"): "licence",
    change_card(name="another"): "differ in 'name'",
    change_card(method=" "): "what the method is",
    change_card(method=["a"]): "'method' is no text",
    change_card(created="yesterday"): "another kind",
    change_card(created=2020): "'created' is no text",
    change_card(data_used="none"): "'data_used' is no list",
    change_card(parameters=-5): "'parameters' is -5",
    change_card(parameters="5"): "'parameters' is '5'",
    change_card(memory_mb=float("inf")): "'memory_mb' is inf",
    change_card(seeds=[[0]]): "another kind",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=list(TAMPERED.values()))
def test_a_tampered_entry_is_refused_without_its_masks(board: Path, tamper: Callable[..., None]) -> None:
    card, results = (read(board, file) for file in (CARD_FILE, RESULTS_FILE))
    tamper(SimpleNamespace(card=card, results=results))
    write(board, card, results)
    (check,) = check_leaderboard(board / "board")
    assert any(part in problem for problem in check.problems for part in TAMPERED[tamper].split("|")), check.problems


def test_numbers_that_were_edited_carelessly_are_refused(board: Path) -> None:
    card, results = (read(board, file) for file in (CARD_FILE, RESULTS_FILE))
    results["runs"][0]["mice"][0]["frames"][0]["assd_mm"] += 0.001
    write(board, card, results, sign=False)
    (check,) = check_leaderboard(board / "board")
    assert "its checksum is another one" in check.problems[0]


NESTED = "[" * 100_000


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other", "schema_version": 1}', NESTED], ids=range(4))
def test_a_file_that_is_no_card_is_refused(board: Path, text: str) -> None:
    (board / "board/moved" / CARD_FILE).write_text(text, encoding="utf-8")
    (check,) = check_leaderboard(board / "board")
    assert CARD_FILE in check.problems[0] and check.entry is None


def test_a_doubled_name_is_refused(board: Path) -> None:
    shutil.copytree(board / "board/moved", board / "board/again")
    checks = check_leaderboard(board / "board")
    assert any("in the folder 'again'" in p for p in checks[0].problems)
    assert any("is taken by" in p for p in checks[1].problems)


def test_a_seed_too_large_for_a_number_is_refused(board: Path) -> None:
    path = board / "board/moved" / RESULTS_FILE
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1e999', 1), encoding="utf-8")
    (check,) = check_leaderboard(board / "board")
    assert "OverflowError" in check.problems[0]


def rename(board: Path, name: str, **changes: Any) -> None:
    """Copy the entry under another name."""
    folder = Path(shutil.copytree(board / "board/moved", board / "board" / name))
    for file in (CARD_FILE, RESULTS_FILE):
        table = json.loads((folder / file).read_text(encoding="utf-8")) | {"name": name}
        results = table if file == RESULTS_FILE else json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
        table |= changes if file == CARD_FILE else {}
        (folder / file).write_text(json.dumps(table), encoding="utf-8")
    card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8")) | {"results_sha256": hash_table(results)}
    (folder / CARD_FILE).write_text(json.dumps(card), encoding="utf-8")


def test_masks_of_another_entry_are_refused_unless_it_was_withdrawn(board: Path) -> None:
    rename(board, "taken")
    first, second = check_leaderboard(board / "board")
    assert first.problems == () and second.problems == ("the masks are those of the entry moved",)
    card = read(board, CARD_FILE) | {"withdrawn": "a wrong list of training mice"}
    (board / "board/moved" / CARD_FILE).write_text(json.dumps(card), encoding="utf-8")
    assert [c.problems for c in check_leaderboard(board / "board")] == [(), ()]


def test_letters_that_look_alike_and_other_files_are_refused(board: Path) -> None:
    rename(board, "m\u043eved")  # a Cyrillic o
    (board / "board/moved/page.html").touch()
    first, second = check_leaderboard(board / "board")
    assert "there is also page.html" in first.problems[0]
    assert "other characters than letters" in second.problems[0]


def test_masks_of_better_images_are_refused_where_the_images_differ(made: Path, phantom_cache: Path) -> None:
    """On the small phantom, a blur of 0.1 mm changes no image: its masks may be the same."""
    table = json.loads((protocols.PROTOCOLS_FOLDER / "three.json").read_text(encoding="utf-8"))
    table |= {"name": "worse", "conditions": [
        {"name": "clean"},
        {"name": "blur-1", "corruption": "blur", "severity": 1, "strength": 0.1},
        {"name": "noise-1", "corruption": "noise", "severity": 1, "strength": 0.03},
    ]}  # fmt: skip
    text = json.dumps({**table, "sha256": hash_protocol(table)})
    (protocols.PROTOCOLS_FOLDER / "worse.json").write_text(text, encoding="utf-8")
    for condition in ("clean", "blur-1", "noise-1"):
        shutil.copytree(made / "masks/moved/seed-0", made / "copied" / condition)
    with pytest.raises(FileLayoutError, match=r"noise-1'\) has the masks of") as error:
        submit(made / "copied", "copied", read_protocol("worse"), SOURCE, made / "new", **CARD, cache=phantom_cache)
    assert "'blur-1') has the masks" not in str(error.value)
    (protocols.PROTOCOLS_FOLDER / "worse.json").unlink()


def copy_mask(board: Path) -> None:
    folder = board / "masks/moved/seed-0"
    shutil.copy(folder / "Mouse6.h5", folder / "X.h5")


def change_mask(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = folder / "seed-0/Mouse6.h5"
    with layout_files.h5py.File(path) as f:
        masks, labelled = change(f["Masks"][()]), f["Frames_with_ROI"][()].ravel().tolist()
    path.unlink()
    layout_files.write(path, labelled, np.zeros(masks.shape, np.uint16), masks)


def forge_scores(board: Path) -> None:
    """Change a distance, which no other number follows from, and everything that is computed from it."""
    card, results = (read(board, file) for file in (CARD_FILE, RESULTS_FILE))
    results["runs"][0]["mice"][0]["frames"][0]["hd95_mm"] *= 0.9
    write(board, card, results)
    runs = Entry.read(board / "board/moved").runs
    results["means"] = compute_means(tabulate_runs(read_protocol("three"), runs))
    write(board, card, results)
    assert check_leaderboard(board / "board")[0].problems == ()


CHANGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "masks changed": (lambda b: change_mask(b / "masks/moved", lambda m: np.roll(m, 1, 0)), "not those that were"),
    "wrong shape": (lambda b: change_mask(b / "masks/moved", lambda m: m[:-4]), "has the shape"),
    "mouse missing": (lambda b: (b / "masks/moved/seed-0/Mouse6.h5").unlink(), "no prediction"),
    "mouse added": (
        lambda b: shutil.copy(b / "masks/moved/seed-0/Mouse6.h5", b / "masks/moved/seed-0/X.h5"),
        "ignored",
    ),
    "seed missing": (lambda b: shutil.rmtree(b / "masks/moved/seed-1"), "other runs"),
    "scores forged with care": (forge_scores, "other scores than stated"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_masks_at_hand_are_scored_again(board: Path, kind: str, phantom_cache: Path) -> None:
    tamper, message = CHANGED[kind]
    tamper(board)
    (check,) = check_leaderboard(board / "board", masks=board / "masks", cache=phantom_cache)
    assert any(message in p for p in check.problems), check.problems


def test_masks_that_do_not_fit_are_not_submitted(protocol: Protocol, tmp_path: Path, phantom_cache: Path) -> None:
    def send(name: str = "mine", masks: Path = tmp_path / "masks", **options: Any) -> None:
        options = {**CARD, "source": SOURCE, **options}
        submit(masks, name, protocol, options.pop("source"), tmp_path / "board", **options, cache=phantom_cache)

    with pytest.raises(MissingDataError, match="no folder"):
        send()
    write_masks(tmp_path / "masks", phantom_cache, 1, MICE[:2])
    with pytest.raises(PredictionError, match="Mouse12"):
        send()
    write_masks(tmp_path / "masks", phantom_cache, 1, [*MICE, "Mouse15"])
    with pytest.raises(PredictionError, match="Mouse15"):
        send()
    (tmp_path / "masks/Mouse15.h5").unlink()
    for options, message in (
        ({"name": "../mine"}, "cannot be called"),
        ({"licence": "none"}, "--licence CC-BY-4.0"),
        ({"source": "phantom-7T"}, "cannot be followed"),
    ):
        with pytest.raises(ArgumentError, match=message):
            send(**options)  # type: ignore[arg-type]
    write_masks(tmp_path / "truth", phantom_cache, 0)
    with pytest.raises(FileLayoutError, match="those of the truth"):
        send(masks=tmp_path / "truth")
    send()
    with pytest.raises(OutputError):
        send()
    (tmp_path / "board/mine/notes.txt").touch()
    with pytest.raises(OutputError, match=r"notes\.txt"):
        send(overwrite=True)
    (tmp_path / "board/mine/notes.txt").unlink()
    send(overwrite=True)
    with pytest.raises(ArgumentError, match="its case"):
        send("Mine")


def test_ties_go_to_the_smaller_network_and_withdrawn_entries_have_no_rank(board: Path) -> None:
    entry = Entry.read(board / "board/moved")
    entries = [
        Entry(name, {**entry.card, **card}, entry.results, entry.runs)
        for name, card in {
            "late": {"created": "2099"}, "large": {"parameters": 9}, "small": {"parameters": 5},
            "gone": {"withdrawn": "an error in the training lists", "parameters": 1},
        }.items()
    ]  # fmt: skip
    assert [(r["name"], r["rank"]) for r in rank_entries(entries)] == [
        ("small", 1), ("large", 2), ("late", 3), ("gone", None),
    ]  # fmt: skip


def test_the_page_lists_entries_without_a_problem(board: Path) -> None:
    shutil.copytree(board / "board/moved", board / "board/copied")
    path = write_leaderboard(check_leaderboard(board / "board"), board / "index.html")
    text = path.read_text(encoding="utf-8")
    assert "<strong>moved</strong>" not in text  # its name was taken: neither is shown
    shutil.rmtree(board / "board/copied")
    text = write_leaderboard(check_leaderboard(board / "board"), path).read_text(encoding="utf-8")
    assert "<strong>moved</strong>" in text and "SYNTHETIC" in text and "Mouse12" in text
