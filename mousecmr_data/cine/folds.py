"""Cross-validation by mouse: all slices of a mouse are on one side."""

from __future__ import annotations

import numpy as np

from mousecmr_data.cine.cohort import Cohort
from mousecmr_data.errors import ArgumentError


def folds(cohort: Cohort, k: int, *, stratify: bool = False, seed: int = 0) -> list[tuple[Cohort, Cohort]]:
    """``k`` pairs (train, validation) of cohorts; each mouse is in exactly one validation cohort.

    ``stratify`` deals the mice of each phenotype evenly over the folds. The same seed gives the same
    folds. Raises ArgumentError if there are fewer mice than folds.
    """
    if not 2 <= k <= len(cohort):
        raise ArgumentError(f"{k} folds of {len(cohort)} mice.", f"2 to {len(cohort)} folds")
    rng = np.random.default_rng(seed)
    groups = cohort.phenotypes if stratify else dict.fromkeys(cohort.mice, "")
    dealt: list[list[str]] = [[] for _ in range(k)]
    start = 0
    for group in sorted(set(groups.values())):
        members = [mouse for mouse in cohort.mice if groups[mouse] == group]
        for i, index in enumerate(rng.permutation(len(members))):
            dealt[(start + i) % k].append(members[index])
        start += len(members)
    pairs = []
    for part in dealt:
        held = set(part)
        train = cohort.select(m for m in cohort.mice if m not in held)
        validation = cohort.select(m for m in cohort.mice if m in held)
        assert_no_leakage(train, validation)
        pairs.append((train, validation))
    return pairs


def assert_no_leakage(*cohorts: Cohort) -> None:
    """Raise ArgumentError if a mouse is in two of ``cohorts`` of the same source."""
    seen: set[tuple[str, str]] = set()
    for cohort in cohorts:
        mice = {(cohort.source.name, mouse) for mouse in cohort.mice}
        if seen & mice:
            raise ArgumentError(
                f"{sorted(seen & mice)[0][1]} is on both sides: its images would leak.",
                "cohorts without a mouse in common",
                "cohort.folds(5) or load(split=...)",
            )
        seen |= mice
