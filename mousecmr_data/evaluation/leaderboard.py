"""The leaderboard: a folder with ``card.json`` and ``results.json`` for each entry, made from masks, and its checks.

An entry is text in a repository; its masks stay with their authors. ``results.json`` has the checksum of every mask, so
that whoever has the masks can score them again. What can be checked without masks is checked always.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import resources
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mousecmr_data import api
from mousecmr_data._utils.atomic import atomic_folder, make_exists_error, to_json_value, write_json, write_text
from mousecmr_data._utils.environment import describe_machine, list_versions
from mousecmr_data._utils.outputs import make_foreign_error
from mousecmr_data._utils.text import SYNTHETIC_DATA, join_names
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.evaluation.checks import TRUTH_DICE
from mousecmr_data.evaluation.predictions import open_predictions
from mousecmr_data.evaluation.protocols import (
    KEEPS_SLICES,
    Condition,
    Protocol,
    changes_images,
    list_protocols,
    read_protocol,
)
from mousecmr_data.evaluation.result import MEASURES, MouseScore, get_timestamp, parse_mouse
from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate, make_refusal
from mousecmr_data.evaluation.tables import SCORES, format_number, list_records
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema import PHANTOMS
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label
from mousecmr_data.schema.manifest import get_constant, is_file_name
from mousecmr_data.schema.variables import ED, ES

CARD_FILE, RESULTS_FILE, STEP_FILE = "card.json", "results.json", "step.json"
_FILES = (CARD_FILE, RESULTS_FILE)
CARD_SCHEMA, RESULTS_SCHEMA = "mousecmr-card", "mousecmr-benchmark-results"
SCHEMA_VERSION = 1
LICENCES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later")
"""Licences (SPDX) under which an entry and its masks can be given."""
SCORING = EvaluationConfig(phases="annotated", postprocessing="none", empty="diagonal")
"""How every entry is scored: masks as they are given; a missed heart gets the largest distance."""
TOLERANCE = 1e-6
"""Relative difference of numbers that were computed on two machines."""
USEFUL_DICE = 0.5
"""Dice above which the same mask for two images, or of two networks, is a copy."""


# Scored masks


@dataclass(frozen=True)
class Run:
    """The scores of one network: of one seed and part, under one condition."""

    seed: int
    part: str
    condition: str
    mice: tuple[MouseScore, ...]

    @property
    def key(self) -> tuple[int, str, str]:
        return self.seed, self.part, self.condition


def score_masks(
    protocol: Protocol,
    source: str,
    masks: Any,
    run: tuple[int, str, str],
    *,
    cache: Path | None = None,
    workers: int = 1,
) -> Run:
    """Score the ``masks`` of a run: (seed, part, condition).

    Raises PredictionError where a mouse is missing, one is there that the condition has not, or masks do not fit.
    """
    condition = next(c for c in protocol.get_part(run[1]).conditions if c.name == run[2])
    mice = api.load(mice=condition.mice, source=condition.source or source, cache=cache)
    opened = open_predictions(masks)
    result = evaluate(opened, mice, SCORING, workers=workers, strict=False)
    if wrong := [p for p in result.problems if p.kind == "ignored" or p.mouse not in result.by_name]:
        raise make_refusal(wrong, opened.name, len(mice))
    return Run(*run, tuple(replace(m, curve=None) for m in result.mice))


def find_masks(folder: Path, protocol: Protocol) -> dict[tuple[int, str, str], Path]:
    """Return the folder of masks of each run (seed, part, condition).

    ``folder`` holds ``seed-0/PART/CONDITION/MOUSE.*``. A level with only one folder can be left out. Raises
    MissingDataError where one of several is missing.
    """
    if not folder.is_dir():
        raise MissingDataError(f"There is no folder {folder}.", "predicted masks")
    seeds = {int(m[1]): p for p in sorted(folder.iterdir()) if (m := re.fullmatch(r"seed-(\d+)", p.name))}
    found: dict[tuple[int, str, str], Path] = {}
    for seed, start in (seeds or {0: folder}).items():
        for part in protocol.parts:
            below = _enter(start, part.name, len(protocol.parts))
            for condition in part.conditions:
                found[seed, part.name, condition.name] = _enter(below, condition.name, len(part.conditions))
    return found


def _enter(folder: Path, name: str, count: int) -> Path:
    below = folder / name
    if below.is_dir() or count > 1:
        if not below.is_dir():
            raise MissingDataError(f"There is no folder {below}.", "masks for each part and condition of the protocol")
        return below
    return folder


def tabulate_runs(protocol: Protocol, runs: Iterable[Run]) -> pd.DataFrame:
    """Return every score of the protocol's metrics and phases, one a row.

    Columns: seed, part, condition, mouse, phenotype, metric, structure, phase, value. The value of a measure (EF,
    volumes, masses) is predicted − true, and has neither structure nor phase.
    """
    rows = []
    for run in runs:
        for m in run.mice:
            about = (*run.key, m.mouse, m.phenotype)
            rows += [
                (*about, metric, f.structure, f.phase, getattr(f, metric))
                for metric in SCORES
                if metric in protocol.metrics
                for f in m.frames
                if f.phase in protocol.phases
            ]
            rows += [
                (*about, metric, "", "", m.predicted[metric] - m.truth[metric])
                for metric in MEASURES
                if metric in protocol.metrics
            ]
    columns = ["seed", "part", "condition", "mouse", "phenotype", "metric", "structure", "phase", "value"]
    return pd.DataFrame(rows, columns=columns)


def average_mice(table: pd.DataFrame, *by: str) -> pd.Series:
    """Return one number per ``by``, metric and mouse: the mean over seeds, structures and phases; errors absolute."""
    absolute = table.assign(value=table["value"].abs())
    return absolute.groupby([*by, "metric", "mouse"], sort=False)["value"].mean()


def compute_means(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean over mice by part, condition and metric; of measures, the mean absolute error."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    by_metric = average_mice(table, "part", "condition").groupby(level=[0, 1, 2]).mean().reset_index()
    for row in by_metric.to_dict("records"):
        means.setdefault(row["part"], {}).setdefault(row["condition"], {})[row["metric"]] = float(row["value"])
    return means


# Entries


def submit(
    masks: str | Path,
    name: str,
    protocol: Protocol,
    source: str,
    leaderboard: str | Path,
    *,
    method: str,
    licence: str,
    authors: str = "",
    url: str = "",
    data_used: Sequence[str] = (),
    hardware: str = "",
    about: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Score ``masks`` and write the entry ``leaderboard/name``; return its folder.

    Parameters
    ----------
    masks
        A folder as :func:`find_masks` describes it, such as the one of a network in the results of
        :func:`mousecmr_data.evaluation.benchmark.run_benchmark`.
    method, authors, url, licence
        What the network is, whose, where it is described; the licence is one of :data:`LICENCES`.
    data_used
        Data and weights besides the protocol's mice, with their licences. Synthetic ones must say so.
    hardware
        Where it was trained. Default: this machine.
    about
        More for the card: parameters, seconds a cine, mice that were trained on if not all of the protocol.
    progress
        Called with 1 after each run.

    Raises ArgumentError, MissingDataError, PredictionError, and OutputError if there is an entry of this name.
    """
    folder = Path(leaderboard)
    if not _is_entry_name(name):
        raise ArgumentError(f"The entry cannot be called {name!r}.", "letters, digits, . _ + -", "--name my-network")
    if same := [e.name for e in list_entries(folder) if e.name.casefold() == name.casefold() and e.name != name]:
        raise ArgumentError(f"There is an entry {same[0]!r}.", "a name that differs in more than its case")
    if licence not in LICENCES:
        raise ArgumentError(f"The licence is {licence!r}.", f"one of {', '.join(LICENCES)}", f"--licence {LICENCES[1]}")
    protocol.check_source(source)
    existing = {p.name for p in (folder / name).iterdir()} if (folder / name).is_dir() else set()
    if existing and not overwrite:
        raise make_exists_error(folder / name)
    if foreign := sorted(existing - {*_FILES}):
        raise make_foreign_error(folder / name, foreign)
    about = dict(about or {})
    runs = []
    for key, path in find_masks(Path(masks), protocol).items():
        runs.append(score_masks(protocol, source, path, key, cache=cache, workers=workers))
        if progress:
            progress(1)
    manifest = api.resolve_manifest(source)
    lists = {p.name: {"train": p.train, "validation": p.validation} for p in protocol.parts}
    shared = {
        "name": name,
        "protocol": protocol.reference,
        "source": {"name": manifest.name, "version": manifest.version},
    }
    synthetic = any(m.synthetic for run in runs for m in run.mice)
    results: dict[str, Any] = {
        "schema": RESULTS_SCHEMA,
        "schema_version": SCHEMA_VERSION,
        **shared,
        "synthetic": synthetic,
        "policies": asdict(SCORING),
        "versions": list_versions("numpy", "scipy", "pandas", "xarray"),
        "means": compute_means(tabulate_runs(protocol, runs)),
        "runs": [asdict(run) for run in runs],
    }
    results = to_json_value(results)
    card = {
        "schema": CARD_SCHEMA,
        "schema_version": SCHEMA_VERSION,
        **shared,
        "synthetic": synthetic,
        "method": method,
        "authors": authors,
        "url": url,
        "licence": licence,
        "data_used": list(data_used),
        "training": lists,
        "seeds": sorted({run.seed for run in runs}),
        "hardware": hardware or describe_machine(),
        "created": get_timestamp(),
        **about,
        "withdrawn": "",
        "results_sha256": hash_table(results),
    }
    with atomic_folder(folder / name, overwrite=overwrite) as partial:
        write_json(partial / RESULTS_FILE, results)
        write_json(partial / CARD_FILE, card)
        if problems := check_entry(Entry.read(partial, name)):
            raise FileLayoutError(f"{name}: {problems[0]}", "an entry by the rules", "docs/benchmark.md")
    return folder / name


def _is_entry_name(name: str) -> bool:
    return is_file_name(name) and re.fullmatch(r"[\w.+-]+", name, re.ASCII) is not None  # no letters that look alike


def read_step_facts(masks: Path) -> dict[str, Any]:
    """Return what ``step.json`` of `mousecmr benchmark run` say about the networks, for a card; empty without them."""
    steps = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(masks.glob(f"seed-*/*/{STEP_FILE}"))]
    if not steps:
        return {}
    costs = pd.DataFrame([step["cost"] for step in steps]).mean()
    return {
        "training": {step["part"]: step["training"] for step in steps},
        "hardware": "; ".join(dict.fromkeys(step["machine"] for step in steps)),
        "config": steps[0]["config"],
        **{k: float(costs[k]) for k in _COSTS},
        "parameters": int(costs["parameters"]),
    }


def hash_table(table: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object: keys sorted, without spaces."""
    return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What is raised for values of another kind, such as a list for a name or 1e999 for a seed."""


@dataclass(frozen=True)
class Entry:
    """An entry of the leaderboard, as it is on disk."""

    name: str
    card: dict[str, Any]
    results: dict[str, Any]
    runs: tuple[Run, ...]

    @classmethod
    def read(cls, folder: Path, name: str = "") -> Entry:
        """Read an entry; raises FileLayoutError where its files are missing, not JSON, or lack what they need."""
        tables = []
        for file, schema in ((CARD_FILE, CARD_SCHEMA), (RESULTS_FILE, RESULTS_SCHEMA)):
            try:
                table = json.loads((folder / file).read_text(encoding="utf-8"))
                if (table["schema"], table["schema_version"]) != (schema, SCHEMA_VERSION):
                    raise ValueError(f"schema {table['schema']} {table['schema_version']}")
                tables.append(table)
            except (OSError, *_UNREADABLE) as e:
                found = f"{folder / file} cannot be read: {type(e).__name__}: {e}"
                raise FileLayoutError(found, f"{schema} {SCHEMA_VERSION}", "mousecmr benchmark submit") from e
        card, results = tables
        try:
            runs = tuple(
                Run(int(r["seed"]), str(r["part"]), str(r["condition"]), tuple(parse_mouse(m) for m in r["mice"]))
                for r in results["runs"]
            )
            if missing := [k for k in _CARD_KEYS if k not in card] + [k for k in _RESULTS_KEYS if k not in results]:
                raise KeyError(missing[0])
        except _UNREADABLE as e:
            raise FileLayoutError(f"{folder}: {type(e).__name__}: {e}", "the keys that submit writes") from e
        return cls(name or folder.name, card, results, runs)


_TEXTS = ("method", "authors", "url", "hardware", "created", "withdrawn")
_COSTS = ("gflop", "memory_mb", "seconds_per_cine", "training_seconds")
_SHARED_KEYS = ("name", "protocol", "source", "synthetic")
_CARD_KEYS = (
    *_SHARED_KEYS, "method", "licence", "data_used", "training", "seeds", "hardware", "created", "withdrawn",
    "results_sha256",
)  # fmt: skip
_RESULTS_KEYS = (*_SHARED_KEYS, "policies", "means")


def list_entries(leaderboard: Path) -> list[Path]:
    """Return the folders of all entries."""
    if not leaderboard.is_dir():
        return []
    return sorted(p for p in leaderboard.iterdir() if p.is_dir() and not p.name.startswith("."))


@dataclass(frozen=True)
class EntryCheck:
    """What a check found."""

    name: str
    entry: Entry | None
    problems: tuple[str, ...]
    rescored: bool = False
    """Whether the masks were at hand and gave the same numbers."""


def check_leaderboard(
    leaderboard: str | Path, *, masks: Path | None = None, cache: Path | None = None, workers: int = 1
) -> list[EntryCheck]:
    """Check every entry. ``masks``: a folder with the masks of entries, each in a folder of the entry's name.

    Raises MissingDataError if there is no entry.
    """
    folders = list_entries(Path(leaderboard))
    if not folders:
        raise MissingDataError(f"There is no entry in {leaderboard}.", "NAME/card.json and NAME/results.json")
    checks: list[EntryCheck] = []
    names: dict[str, str] = {}
    truths: dict[tuple[str, str], tuple[MouseScore, str]] = {}
    submitted: dict[tuple[str, str], dict[str, Masks]] = {}
    for folder in folders:
        try:
            entry = Entry.read(folder)
        except FileLayoutError as e:
            checks.append(EntryCheck(folder.name, None, (e.found,)))
            continue
        try:
            problems = check_entry(entry)
        except _UNREADABLE as e:  # an entry may hold anything
            checks.append(EntryCheck(folder.name, None, (f"a value is of another kind than submit writes: {e!r}",)))
            continue
        for taken in {str(entry.card["name"]), entry.name}:
            if (first := names.setdefault(taken.casefold(), entry.name)) != entry.name:
                problems.append(f"the name {taken!r} is taken by the entry {first}")
        if more := sorted(p.name for p in folder.iterdir() if p.name[0] != "." and p.name not in _FILES):
            problems.append(f"there is also {more[0]}: an entry is {' and '.join(_FILES)}")
        problems += _compare_truths(entry, truths) + _compare_entries(entry, submitted)
        own = masks / entry.name if masks else None
        rescored = own is not None and own.is_dir() and not problems
        if own is not None and rescored:
            problems += _score_again(entry, own, cache, workers)
        checks.append(EntryCheck(entry.name, entry, tuple(problems), rescored))
    return checks


def check_entry(entry: Entry) -> list[str]:
    """Return what is wrong with an entry, as far as it can be known without its masks; empty if nothing."""
    card, results = entry.card, entry.results
    problems = [f"{CARD_FILE} and {RESULTS_FILE} differ in {k!r}" for k in _SHARED_KEYS if card[k] != results[k]]
    if card["name"] != entry.name:
        problems.append(f"the card is of {card['name']!r}, in the folder {entry.name!r}")
    if not _is_entry_name(entry.name):
        problems.append(f"the name {entry.name!r} has other characters than letters, digits, . _ + -")
    problems += _check_card(card)
    if card["licence"] not in LICENCES:
        problems.append(f"the licence {card['licence']!r} is none of {', '.join(LICENCES)}")
    if not str(card["method"]).strip():
        problems.append("the card does not say what the method is")
    if card["results_sha256"] != hash_table(results):
        problems.append(f"{RESULTS_FILE} was changed after the card was written: its checksum is another one")
    if results["policies"] != asdict(SCORING):
        problems.append(f"the masks were scored with other policies: {results['policies']}")
    name = card["protocol"]["name"]
    if name not in list_protocols():  # a path is the name of a protocol, too: of somebody's own
        return [*problems, f"the protocol {name!r} is none of {', '.join(list_protocols())}"]
    protocol = read_protocol(name)
    if card["protocol"] != protocol.reference:
        return [
            *problems,
            f"the protocol is {card['protocol']}, not {protocol.name} version {protocol.version} with the checksum "
            f"{protocol.sha256[:12]}…",
        ]
    return problems + _check_source(entry, protocol) + _check_mice(entry, protocol) + _check_numbers(entry, protocol)


def _check_card(card: Mapping[str, Any]) -> list[str]:
    """Check the kinds of the values by which entries are ranked and shown."""
    problems = [f"the card's {k!r} is no text" for k in _TEXTS if not isinstance(card.get(k, ""), str)]
    if not isinstance(card["data_used"], list) or not all(isinstance(text, str) for text in card["data_used"]):
        problems.append("the card's 'data_used' is no list of texts")
    for key in (*_COSTS, "parameters"):
        number = card.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < np.inf:
            problems.append(f"the card's {key!r} is {number!r}, no number above 0")
    if isinstance(card["created"], str):
        datetime.fromisoformat(card["created"])
    return problems


def _check_source(entry: Entry, protocol: Protocol) -> list[str]:
    card, problems = entry.card, []
    name = card["source"].get("name")
    if name not in protocol.sources:
        return [f"the protocol cannot be followed on {name!r}"]
    manifest = api.resolve_manifest(name)
    if card["source"].get("version") != manifest.version:
        problems.append(f"the masks are of {name} {card['source'].get('version')}, not of {manifest.version}")
    marks = {bool(card["synthetic"]), *(m.synthetic for run in entry.runs for m in run.mice)}
    if marks != {manifest.synthetic}:
        problems.append(f"{name} is {'synthetic' if manifest.synthetic else 'real'}, and the entry says otherwise")
    return problems


def _check_mice(entry: Entry, protocol: Protocol) -> list[str]:
    problems, card = [], entry.card
    expected = {(s, p.name, c.name) for s in card["seeds"] for p in protocol.parts for c in p.conditions}
    keys = [run.key for run in entry.runs]
    if strange := sorted(set(keys) - expected) or [k for k in keys if keys.count(k) > 1]:
        problems.append(f"the run {strange[0]} (seed, part, condition) is not of the protocol, or there twice")
    if missing := sorted(expected - set(keys)):
        problems.append(f"the run {missing[0]} (seed, part, condition) is missing")
    if not card["seeds"]:
        problems.append("there is no seed")
    conditions = {(p.name, c.name): c for p in protocol.parts for c in p.conditions}
    for run in entry.runs:
        names = [m.mouse for m in run.mice]
        condition = conditions.get(run.key[1:])
        if condition is None:
            continue
        if lost := sorted(set(condition.mice) - set(names)):
            problems.append(f"{run.key}: {join_names(lost)} missing")
        if extra := sorted(set(names) - set(condition.mice)) or [n for n in names if names.count(n) > 1]:
            problems.append(f"{run.key}: {join_names(extra)} not of the condition, or there twice")
        wrong = [m.mouse for m in run.mice if not all(_is_sha256(s) for s in (m.truth_sha256, m.prediction_sha256))]
        if wrong:
            problems.append(f"{run.key}: a checksum of {wrong[0]} is not a SHA-256")
        if (tested := condition.source or card["source"]["name"]) in PHANTOMS:
            plans = make_plans(tested)
            labelled = {m: (set(plans[m].labelled_frames), plans[m].phenotype) for m in condition.mice if m in plans}
            wrong = [m.mouse for m in run.mice if labelled.get(m.mouse) != ({f.frame for f in m.frames}, m.phenotype)]
            if wrong:
                problems.append(f"{run.key}: {join_names(wrong)} with other frames or another group than in {tested}")
        masks = list(_list_masks(run).values())
        if twice := [m.mouse for m in run.mice if masks.count(m.prediction_sha256) > 1]:
            problems.append(f"{run.key}: {join_names(twice)} have the same masks")
    problems += _find_copied_runs(entry, conditions)
    for part in protocol.parts:
        lists = card["training"].get(part.name)
        if not isinstance(lists, dict) or not lists.get("train"):
            problems.append(f"the card does not list the training mice of {part.name}")
            continue
        used = {*lists["train"], *lists.get("validation", ())}
        tested = {m for c in part.conditions if not c.source for m in c.mice}
        if leaked := sorted(used & tested):
            problems.append(f"{part.name}: {join_names(leaked)} tested, and used for training")
        elif other := sorted(used - {*part.train, *part.validation}):
            problems.append(f"{part.name}: {join_names(other)} used for training, which the protocol does not allow")
    return problems


Masks = dict[tuple[Any, ...], str]
"""Checksums of masks by the mouse and what else tells them apart."""


def _list_masks(run: Run) -> Masks:
    """Return the checksums of a run's masks, by mouse, if they are good for something.

    Others may be the same without a copy: empty ones, those of blank slices, and of a network that has learned to mark
    one place in every image.
    """
    return {
        (m.mouse,): m.prediction_sha256
        for m in run.mice
        if any(f.predicted_ul and f.dice > USEFUL_DICE for f in m.frames)
    }


def _are_copies(a: Masks, b: Masks) -> bool:
    """Whether more than half of the masks are the same: those of two networks, or two images, differ in some voxel."""
    return sum(b.get(k) == sha256 for k, sha256 in a.items()) > len(a) / 2


def _find_copied_runs(entry: Entry, conditions: Mapping[tuple[str, str], Condition]) -> list[str]:
    """Find runs with the masks of another: of another training, or of other images of the mice."""

    def get_images(run: Run) -> tuple[str, str, float]:
        c, (_, *pixel) = conditions[run.key[1:]], run.mice[0].voxel_size_mm
        if c.corruption == KEEPS_SLICES or not changes_images(c, pixel):
            return c.source, "", 0.0
        return c.source, c.corruption, c.strength

    known = [run for run in entry.runs if run.key[1:] in conditions and run.mice]
    return [
        f"{b.key} has the masks of {a.key}"
        for a, b in combinations(known, 2)
        if _are_copies(_list_masks(a), _list_masks(b)) and (a.key[:2] != b.key[:2] or get_images(a) != get_images(b))
    ]


def _compare_entries(entry: Entry, submitted: dict[tuple[str, str], dict[str, Masks]]) -> list[str]:
    """Compare the masks with those of earlier entries on the same data; add them to ``submitted``."""
    own = {(*run.key, *mouse): sha256 for run in entry.runs for mouse, sha256 in _list_masks(run).items()}
    others = submitted.setdefault((str(entry.card["protocol"]), str(entry.card["source"])), {})
    problems = [f"the masks are those of the entry {name}" for name, masks in others.items() if _are_copies(own, masks)]
    if not entry.card["withdrawn"]:  # its masks may come back in an entry that mends it
        others[entry.name] = own
    return problems


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _check_numbers(entry: Entry, protocol: Protocol) -> list[str]:
    """Compare what can be computed from other numbers: means, measures, the largest possible Dice, whole voxels."""
    problems = [f"{run.key}: {text} of {m.mouse}" for run in entry.runs for m in run.mice for text in _check_mouse(m)]
    computed, stated = to_json_value(compute_means(tabulate_runs(protocol, entry.runs))), entry.results["means"]
    for run in entry.runs:
        if copied := [m.mouse for m in run.mice if all(f.dice >= TRUTH_DICE for f in m.frames)]:
            problems.append(f"{run.key}: the masks of {join_names(copied)} are those of the truth")
    if not _are_tables_close(computed, stated):
        problems.append("the means are not those of the mice")
    return list(dict.fromkeys(problems))


def _check_mouse(m: MouseScore) -> Iterator[str]:
    voxel = float(np.prod(m.voxel_size_mm))
    structures = {MEANINGS[label] for label in FOREGROUND}
    if sorted((f.frame, f.structure) for f in m.frames) != sorted(product({f.frame for f in m.frames}, structures)):
        yield "a structure is missing or there twice in a frame"
    for f in m.frames:
        total = f.truth_ul + f.predicted_ul
        most = 2 * min(f.truth_ul, f.predicted_ul) / total if total else 1.0
        shared = f.dice * total / 2
        if min(f.truth_ul, f.predicted_ul) < 0 or not 0 <= f.dice <= most + TOLERANCE:
            yield f"a Dice of {f.dice:.3f}, which its volumes do not allow,"
        elif any(abs(v / voxel - round(v / voxel)) > 0.01 for v in (f.truth_ul, f.predicted_ul, shared)):
            yield f"a Dice of {f.dice:.3f} or a volume that is no whole number of voxels"
        equal = f.dice == 1
        if not (0 <= f.hd95_mm < np.inf and 0 <= f.assd_mm < np.inf) or equal != (f.assd_mm == 0):
            yield f"distances of {f.hd95_mm:.3f} and {f.assd_mm:.3f} mm, which its Dice does not allow,"
    for side, volumes in (
        (m.truth, {(f.structure, f.phase): f.truth_ul for f in m.frames}),
        (m.predicted, {(f.structure, f.phase): f.predicted_ul for f in m.frames}),
    ):
        muscle, pool = MEANINGS[Label.MYOCARDIUM], MEANINGS[Label.BLOOD_POOL]
        density = float(get_constant("myocardial_density"))
        edv, esv = (volumes.get((pool, phase), np.nan) for phase in (ED, ES))
        expected = {
            "edv_ul": edv,
            "esv_ul": esv,
            "sv_ul": edv - esv,
            "ef_percent": 100 * (edv - esv) / edv if edv else np.nan,
            "mass_ed_mg": density * volumes.get((muscle, ED), np.nan),
            "mass_es_mg": density * volumes.get((muscle, ES), np.nan),
        }
        if wrong := [k for k, v in expected.items() if not _are_close(side[k], v)]:
            yield f"{MEASURES[wrong[0]][0]} that does not follow from the volumes"


def _are_close(a: Any, b: Any) -> bool:
    return bool(
        np.isclose(float("nan") if a is None else a, float("nan") if b is None else b, TOLERANCE, equal_nan=True)
    )


def _are_tables_close(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_are_tables_close(a[k], b[k]) for k in a)
    return not isinstance(a, dict) and not isinstance(b, dict | list | str) and _are_close(a, b)


def _compare_truths(entry: Entry, truths: dict[tuple[str, str], tuple[MouseScore, str]]) -> list[str]:
    """Compare the truth with that of other runs and earlier entries on the same data; add new ones to ``truths``."""
    problems = []
    source = entry.card["source"]
    for run in entry.runs:
        for m in run.mice:
            first, name = truths.setdefault((str(source), m.mouse), (m, entry.name))
            if first.truth_sha256 != m.truth_sha256:
                problems.append(f"the truth of {m.mouse} has another checksum than in {name}")
            elif not _are_tables_close(_list_truth(first), _list_truth(m)) or first.phenotype != m.phenotype:
                problems.append(f"the truth of {m.mouse} has other numbers than in {name}")
    return list(dict.fromkeys(problems))


def _list_truth(m: MouseScore) -> dict[str, Any]:
    frames = {f"{f.frame} {f.phase} {f.structure}": f.truth_ul for f in m.frames}
    return {**m.truth, **frames, **{f"voxel {k}": size for k, size in enumerate(m.voxel_size_mm)}}


def _score_again(entry: Entry, masks: Path, cache: Path | None, workers: int) -> list[str]:
    """Score the masks again and compare every number and checksum."""
    protocol = read_protocol(entry.card["protocol"]["name"])
    stated = {run.key: run for run in entry.runs}
    problems = []
    try:
        found = find_masks(masks, protocol)
        if found.keys() != stated.keys():
            problems.append(f"the masks are of other runs: {sorted(found.keys() ^ stated.keys())[0]}")
        for key in found.keys() & stated.keys():
            again = score_masks(protocol, entry.card["source"]["name"], found[key], key, cache=cache, workers=workers)
            old = {m.mouse: m for m in stated[key].mice}
            for m in again.mice:
                if m.prediction_sha256 != old[m.mouse].prediction_sha256:
                    problems.append(f"{key}: the masks of {m.mouse} are not those that were submitted")
                elif m.truth_sha256 != old[m.mouse].truth_sha256:
                    problems.append(f"{key}: {m.mouse} was scored against another truth")
                elif not _are_scores_close(m, old[m.mouse]):
                    problems.append(f"{key}: the masks of {m.mouse} have other scores than stated")
    except MouseCMRError as e:
        problems.append(str(e))
    return problems


def _are_scores_close(a: MouseScore, b: MouseScore) -> bool:
    def list_numbers(m: MouseScore) -> list[float]:
        frames = [v for f in m.frames for v in asdict(f).values() if isinstance(v, int | float)]
        return [*frames, *m.truth.values(), *m.predicted.values()]

    x, y = list_numbers(a), list_numbers(b)
    return len(x) == len(y) and all(map(_are_close, x, y))


# The table of the docs

TABLE_METRICS = {
    **SCORES,
    **{key: f"|error of {name}| ({unit})" for key, (name, unit) in MEASURES.items()},
}
"""Columns of the table by metric."""


def rank_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return one row per entry, best first within each protocol and source; withdrawn entries last, without a rank.

    Columns: rank, name, those of the card, ``means`` by metric over all parts and conditions. Order: mean Dice to three
    digits; if equal, HD95 to two digits, then fewer parameters, then the earlier entry.
    """
    rows = []
    for entry in entries:
        table = tabulate_runs(read_protocol(entry.card["protocol"]["name"]), entry.runs)
        means = average_mice(table, "part", "condition").groupby(level="metric").mean().to_dict()
        rows.append({**entry.card, "name": entry.name, "means": means, "mice": _tabulate_entry_mice(table)})

    def get_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        dice, hd95 = (row["means"].get(k, np.nan) for k in ("dice", "hd95_mm"))
        size = row.get("parameters") or np.inf
        return bool(row["withdrawn"]), -round(dice, 3), round(hd95, 2), size, row["created"]

    rows.sort(key=get_key)
    counts: dict[str, int] = {}
    for row in rows:
        group = f"{row['protocol']['name']} on {row['source']['name']}"
        counts[group] = counts.get(group, 0) + (not row["withdrawn"])
        row |= {"group": group, "rank": None if row["withdrawn"] else counts[group]}
    return sorted(rows, key=lambda row: str(row["group"]))


def _tabulate_entry_mice(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per mouse: mouse, phenotype, and its mean of each metric."""
    wide = average_mice(table).unstack("metric").reindex(table["mouse"].unique())
    groups = table.drop_duplicates("mouse").set_index("mouse")["phenotype"]
    return [{"mouse": mouse, "phenotype": groups[mouse], **row} for mouse, row in list_records(wide)]


def write_leaderboard(checks: Sequence[EntryCheck], path: str | Path) -> Path:
    """Write the table of all entries without a problem as one HTML page that sorts and filters, and return its path.

    Raises :class:`~mousecmr_data.errors.MissingExtraError` without jinja2.
    """
    try:
        from jinja2 import Environment
    except ImportError as e:
        raise MissingExtraError.from_module("jinja2", "evaluation") from e
    source = resources.files(__package__).joinpath("leaderboard.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    rows = rank_entries(c.entry for c in checks if c.entry and not c.problems)
    rescored = [c.name for c in checks if c.rescored]
    metrics = {k: v for k, v in TABLE_METRICS.items() if any(k in row["means"] for row in rows)}
    html = template.render(
        rows=rows, metrics=metrics, rescored=rescored, synthetic=SYNTHETIC_DATA, format=format_number
    )
    return write_text(path, html)
