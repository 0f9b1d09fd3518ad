"""The choices behind a number, each by its name. They stand in every result file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mousecmr_data.errors import ArgumentError
from mousecmr_data.metrics.overlap import EMPTY_POLICIES, EmptyPolicy
from mousecmr_data.metrics.postprocessing import RULES, PostprocessingRule

Phases = Literal["annotated", "volume-curve"]

PHASES: dict[str, str] = {
    "annotated": "ED and ES of the prediction are the frames that the annotators marked",
    "volume-curve": "ED and ES of the prediction are the maximum and the minimum of its own volume curve (the rule of "
    "the authors' web application); overlap and distances are still of the annotated frames",
}

DEFINITIONS: dict[str, str] = {
    "dice": "2|A∩B|/(|A|+|B|) of hard labels, per class, over the 3D stack at one frame; both empty = 1",
    "mean_dice": "mean of a mouse's four values (two classes at ED and ES); of its only labelled frame, where it has "
    "no ED/ES pair",
    "hd95_mm": "the larger of the two directed 95th percentiles of the distances between surface voxels, 3D, mm",
    "assd_mm": "mean of the distances of both surfaces together, 3D, mm",
    "volume": "voxels of the blood pool × voxel volume, all slices",
    "sv_ef": "SV = EDV − ESV; EF = SV / EDV",
    "mass": "voxels of the myocardium × voxel volume × 1.05 g/ml",
    "truth_phases": "ED = earliest labelled frame; ES = of the others, the smallest blood pool (the annotators' rule)",
}


@dataclass(frozen=True)
class Policies:
    """How predictions are scored."""

    phases: Phases = "annotated"
    postprocessing: PostprocessingRule = "none"
    """Applied to the predictions before they are scored."""
    empty: EmptyPolicy = "missing"

    def __post_init__(self) -> None:
        choices = {"phases": tuple(PHASES), "postprocessing": tuple(RULES), "empty": EMPTY_POLICIES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ArgumentError(
                    f"There is no policy {name}={getattr(self, name)!r}.", f"one of {', '.join(map(repr, known))}"
                )

    def table(self) -> dict[str, Any]:
        """The choices by name, with the definitions they stand on."""
        return {**asdict(self), "definitions": DEFINITIONS, "phases_rule": PHASES[self.phases]}
