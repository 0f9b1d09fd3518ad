"""Label numbers of the masks, with their names and colours; they are defined only here."""

from __future__ import annotations

from enum import IntEnum


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

FOREGROUND: tuple[Label, ...] = (Label.MYOCARDIUM, Label.BLOOD_POOL)
"""The structures that are scored: all labels except the background."""
