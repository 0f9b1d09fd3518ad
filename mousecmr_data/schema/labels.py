"""Label numbers of the masks, with their names and colours; they are defined only here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeAlias

from mousecmr_data.errors import ArgumentError


class Label(IntEnum):
    """Label numbers of the masks (source: the authors' repository, dataset ``Masks``).

    Trabeculae and papillary muscles belong to the myocardium (source: the paper). A frame that was not
    segmented is all zero too: use the ``labelled`` coordinate to tell, never the pixels.
    """

    BACKGROUND = 0
    MYOCARDIUM = 1
    BLOOD_POOL = 2


MEANINGS: dict[Label, str] = {
    Label.BACKGROUND: "background",
    Label.MYOCARDIUM: "LV myocardium",
    Label.BLOOD_POOL: "LV blood pool",
}

COLOURS: dict[Label, str] = {Label.MYOCARDIUM: "#f2b134", Label.BLOOD_POOL: "#e4572e"}
"""Overlay colours (sRGB hex), distinguishable in greyscale and by colour-blind readers."""

STRUCTURES: dict[str, Label] = {"myo": Label.MYOCARDIUM, "lv": Label.BLOOD_POOL}
"""Names of the structures in label maps."""
LabelMap: TypeAlias = Mapping[str, int]
"""The numbers that another program gives to :data:`STRUCTURES`; all its other numbers mean background."""
LABEL_PRESETS: dict[str, LabelMap] = {
    "acdc": {"rv": 1, "myo": 2, "lv": 3},
    "mms": {"lv": 1, "myo": 2, "rv": 3},
    "ukbb": {"lv": 1, "myo": 2, "rv": 3},
}
"""Numbers of public datasets of human hearts (sources: Bernard et al., IEEE Trans Med Imaging 2018;37:2514-2525;
Campello et al., IEEE Trans Med Imaging 2021;40:3543-3554; Bai et al., J Cardiovasc Magn Reson 2018;20:65)."""
STRUCTURE_FILES: dict[str, Label] = {
    **dict.fromkeys(("myo", "myocardium", "lv_myocardium", "heart_myocardium"), Label.MYOCARDIUM),
    **dict.fromkeys(("lv", "blood_pool", "lv_blood_pool", "left_ventricle", "heart_ventricle_left"), Label.BLOOD_POOL),
}
"""Names of the files of programs that write one binary mask per structure (heart_...: TotalSegmentator)."""
LABELS_HINT = "say what the numbers mean: --labels lv=3,myo=2, or --labels acdc  (Python: labels=...)"


def parse_label_map(text: str) -> LabelMap:
    """Return the label map of a preset's name, or of numbers such as ``lv=3,myo=2`` (``rv`` is background).

    Raises :class:`ArgumentError` for anything else.
    """
    if text in LABEL_PRESETS:
        return LABEL_PRESETS[text]
    pairs = re.findall(r"(lv|myo|rv)\s*=\s*(\d+)", text)
    labels = {name: int(number) for name, number in pairs}
    complete = ",".join(f"{name}={number}" for name, number in pairs) == re.sub(r"\s", "", text)
    if not complete or not labels.keys() & STRUCTURES.keys() or len(set(labels.values())) != len(pairs):
        raise ArgumentError(
            f"{text!r} is not a label map.",
            f"lv=NUMBER,myo=NUMBER, each number once, or a preset: {', '.join(LABEL_PRESETS)}",
            "--labels lv=3,myo=2",
        )
    return labels


FOREGROUND: tuple[Label, ...] = (Label.MYOCARDIUM, Label.BLOOD_POOL)
"""The structures that are scored: all labels except the background."""
