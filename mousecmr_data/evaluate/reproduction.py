"""The published table again: a network (or its given masks) on one or more cohorts, under every policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Any, Protocol

import numpy as np
import xarray as xr

from mousecmr_data.errors import PredictionError
from mousecmr_data.evaluate import timing
from mousecmr_data.evaluate.evaluation import about_cohort
from mousecmr_data.evaluate.policies import Phases, Policies
from mousecmr_data.evaluate.predictions import Prediction, from_dataset, predictions_of
from mousecmr_data.evaluate.published import Row, against, disagree
from mousecmr_data.evaluate.result import Evaluation, MouseScore, Problem, versions
from mousecmr_data.evaluate.scoring import score_mouse
from mousecmr_data.evaluate.timing import Stopwatch
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema.manifest import Published, load_manifest
from mousecmr_data.schema.variables import PREDICTED

RULES: tuple[PostprocessingRule, ...] = ("paper", "upstream-code")
PHASES: tuple[Phases, ...] = ("annotated", "volume-curve")
HEADLINE = Policies("annotated", "paper")
"""The article's own choices: the verdict is on these, the others stand beside them."""
INTERNAL = "internal"

LEAKAGE = (
    "The article's split is not published. The published weights may have been trained on some of the mice scored "
    "here; numbers on them are then too good, and no evidence of how the network does on unseen mice."
)


class Segmenting(Protocol):
    """What is needed of a network: ``mousecmr_data.training.load`` gives one."""

    @property
    def origin(self) -> Any:
        """Name, trained_on, limits of the weights."""

    def segment(self, ds: xr.Dataset, *, postprocessing: PostprocessingRule) -> xr.Dataset:
        """``ds`` with the variable ``predicted``."""


@dataclass(frozen=True)
class Reproduction:
    """What came out. ``evaluations`` by cohort and by policies (phases, postprocessing)."""

    name: str
    trained_on: str
    limits: str
    published: Published
    evaluations: Mapping[str, Mapping[Policies, Evaluation]]
    rows: Mapping[str, Mapping[Policies, Sequence[Row]]]
    watch: Stopwatch
    notes: Sequence[str]
    created: str
    machine: str = field(default_factory=timing.machine)

    @property
    def synthetic(self) -> bool:
        """Whether any mouse is synthetic: then nothing published is reproduced."""
        return any(e.synthetic for by in self.evaluations.values() for e in by.values())

    @property
    def headline(self) -> Policies:
        """The policies that the verdict is on: the article's."""
        every = next(iter(self.rows.values()))
        return HEADLINE if HEADLINE in every else next(iter(every))

    @property
    def disagreeing(self) -> list[Row]:
        """The rows, of every cohort, that differ from what was published or could not be measured."""
        return [r for by in self.rows.values() for r in disagree(list(by[self.headline]))]

    @property
    def verdict(self) -> str:
        """In a sentence."""
        judged = sum(len(by[self.headline]) for by in self.rows.values())
        if self.synthetic:
            return (
                "SYNTHETIC mice: it ran from end to end, and nothing published was reproduced. The verdicts of the "
                "rows only say how near synthetic mice come to real ones."
            )
        bad = len(self.disagreeing)
        return f"{judged - bad} of {judged} rows agree with what was published{'' if bad else ': reproduced'}."


def reproduce(
    network: Segmenting | Any,
    cohorts: Mapping[str, Any],
    *,
    published: Published | None = None,
    rules: Sequence[PostprocessingRule] = RULES,
    phases: Sequence[Phases] = PHASES,
    progress: Callable[[int], None] | None = None,
) -> Reproduction:
    """Score a network on ``cohorts`` under every pair of ``rules`` and ``phases``, beside the published numbers.

    ``network`` is a segmenter (``baseline.load(...)``), or predictions that are there already (a path or a mapping,
    without post-processing); then nothing is timed. ``cohorts`` are by name; those whose name starts with "internal"
    are held against the published table, the others against what was published of external ones. Each mouse is
    segmented once; whole cines only where "volume-curve" is among ``phases``. ``progress`` is called with 1 after
    each mouse.
    """
    known = published or load_manifest().published
    if known is None:
        raise PredictionError("There are no published numbers.", "a manifest with published.toml")
    watch = Stopwatch()
    chosen = [Policies(p, r) for r, p in product(rules, phases)]
    whole = "volume-curve" in phases
    maker = _Network(network, whole, watch) if hasattr(network, "segment") else _Given(network)
    evaluations: dict[str, dict[Policies, Evaluation]] = {}
    rows: dict[str, dict[Policies, Sequence[Row]]] = {}
    notes = []
    for cohort, mice in cohorts.items():
        scores: dict[Policies, list[MouseScore]] = {p: [] for p in chosen}
        problems = []
        for mouse in mice.mice:
            ds = mice[mouse]
            prediction = maker(mouse, ds)
            for policies in chosen:
                scores[policies].append(score_mouse(ds, prediction, policies))
            if doubt := scores[chosen[0]][-1].doubt:
                problems.append(Problem(mouse, "orientation", doubt))
            if progress:
                progress(1)
        about = about_cohort(mice)
        if about["caveat"]:
            notes.append(f"{cohort} ({about['source']}, {about['split_scheme']}): {about['caveat']}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        evaluations[cohort] = {
            p: Evaluation(maker.name, about, p.table(), versions(), now, tuple(s), tuple(problems))
            for p, s in scores.items()
        }
        kind = INTERNAL if cohort.startswith(INTERNAL) else "external"
        rows[cohort] = {p: against(e, known, kind) for p, e in evaluations[cohort].items()}
    return Reproduction(
        maker.name,
        maker.trained_on,
        maker.limits,
        known,
        evaluations,
        rows,
        watch,
        [*dict.fromkeys(notes), LEAKAGE],
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


@dataclass
class _Network:
    """Segments mice, and takes the time."""

    network: Segmenting
    whole: bool
    watch: Stopwatch
    warm: bool = False

    @property
    def name(self) -> str:
        return str(self.network.origin.name)

    @property
    def trained_on(self) -> str:
        return str(self.network.origin.trained_on)

    @property
    def limits(self) -> str:
        return str(self.network.origin.limits)

    def __call__(self, mouse: str, ds: xr.Dataset) -> Prediction:
        labelled = np.flatnonzero(ds["labelled"].values)
        images = ds.drop_vars([v for v in ds.data_vars if v != "image"])
        pair = images.isel(frame=np.flatnonzero(np.isin(ds["phase"].values, ["ED", "ES"]))).load()
        if not self.warm:  # the first call prepares things that no later one has to
            self._segmented(images.isel(frame=labelled[:1]).load())
            self.warm = True
        if pair.sizes["frame"]:
            self.watch.time("pair", lambda: self._segmented(pair))
        if not self.whole:
            return from_dataset(self._segmented(images.isel(frame=labelled).load()), mouse)
        whole = images.load()
        made = self.watch.time("cine", lambda: self._segmented(whole))
        self.watch.add("image", self.watch.seconds["cine"][-1] / (ds.sizes["frame"] * ds.sizes["slice"]))
        return from_dataset(made, mouse)

    def _segmented(self, ds: xr.Dataset) -> xr.Dataset:
        return self.network.segment(ds, postprocessing="none")[[PREDICTED]]


class _Given:
    """Masks that are there already."""

    def __init__(self, given: Any) -> None:
        self.found = predictions_of(given)
        self.name, self.limits = self.found.name, "Masks that were given: what made them is theirs to say."
        self.trained_on = "not stated"

    def __call__(self, mouse: str, ds: xr.Dataset) -> Prediction:  # noqa: ARG002 (as the network's)
        key = self.found.find(mouse, False)
        if key is None:
            raise PredictionError(
                f"There is no prediction of {mouse} in {self.found.name}.",
                "a prediction for every mouse, without post-processing",
                f"mousecmr predict {mouse} --postprocessing none -o FOLDER --weights NAME",
            )
        prediction = self.found.read(key)
        self.trained_on = prediction.about.get("trained_on", self.trained_on)
        return prediction
