"""The columns of the three tables: the one owner of their names, types and meanings.

``labelled`` and ``slices`` have a row a 2D slice, ``cines`` a row a mouse. Images are stored as uncompressed
TIFF (16 bit) or NIfTI, both without loss; Parquet compresses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import datasets

from mousecmr_data.errors import ArgumentError

Config = Literal["labelled", "slices", "cines"]
CONFIGS: tuple[Config, ...] = get_args(Config)

ABOUT: dict[Config, str] = {
    "labelled": "the 2D slices of the frames that an expert segmented, each with its mask",
    "slices": "all 2D slices; the mask is null where nobody segmented",
    "cines": "a row a mouse: the whole cine as NIfTI, and the masks of its labelled frames",
}

IMAGE, MASK = "image", "mask"


@dataclass(frozen=True)
class Column:
    """A column, for people and for ``datasets``."""

    name: str
    feature: Any
    """A feature of ``datasets``."""
    about: str


_TEXT, _BOOL, _MM, _SHORT = "string", "bool", "float64", "int16"


def _value(dtype: str) -> Any:
    return datasets.Value(dtype)


_MOUSE = Column("mouse", _value(_TEXT), "name of the mouse")
_OF_THE_MOUSE = (
    Column("split", _value(_TEXT), "split of the mouse; 'none' where it is in none"),
    Column("phenotype", _value(_TEXT), "group of the mouse, or 'not published'"),
    Column("synthetic", _value(_BOOL), "true: computed by a phantom, not measured on an animal"),
)
_PLANE = (
    Column(IMAGE, datasets.Image(mode="I;16"), "magnitude image (y, x), uint16"),
    Column(
        MASK,
        datasets.Image(mode="L"),
        "expert segmentation (y, x), uint8: 0 background, 1 LV myocardium, 2 LV blood pool; null: not segmented",
    ),
    _MOUSE,
    Column("slice", _value(_SHORT), "number of the slice, from 0; base or apex first is not known"),
    Column("frame", _value(_SHORT), "number of the frame, from 0"),
    Column("phase", _value(_TEXT), "ED, ES, inflow, unlabelled, or unknown (a single labelled frame)"),
    Column("labelled", _value(_BOOL), "an expert segmented this frame"),
    Column("spacing", datasets.List(_value(_MM), length=2), "pixel size (y, x) in mm"),
    Column("slice_thickness", _value(_MM), "in mm; slices are contiguous"),
    Column("time", _value(_MM), "ms after the trigger"),
    *_OF_THE_MOUSE,
)
_CINE = (
    Column(IMAGE, datasets.Nifti(), "magnitude cine as NIfTI (x, y, slice, frame), uint16, in mm and s"),
    Column(
        MASK,
        datasets.Nifti(),
        "expert segmentation of the labelled frames, in their order, as NIfTI (x, y, slice, labelled frame), uint8; "
        "null: no frame was segmented",
    ),
    _MOUSE,
    Column("slices", _value(_SHORT), "number of slices"),
    Column("frames", _value(_SHORT), "number of frames"),
    Column("labelled_frames", datasets.List(_value(_SHORT)), "numbers of the frames that an expert segmented"),
    Column("phase", datasets.List(_value(_TEXT)), "of each frame: ED, ES, inflow, unlabelled, or unknown"),
    Column("spacing", datasets.List(_value(_MM), length=3), "voxel size (slice, y, x) in mm"),
    Column("time", datasets.List(_value(_MM)), "of each frame, ms after the trigger"),
    *_OF_THE_MOUSE,
)
COLUMNS: dict[Config, tuple[Column, ...]] = {"labelled": _PLANE, "slices": _PLANE, "cines": _CINE}


def features(config: Config) -> datasets.Features:
    """The features of a table."""
    return datasets.Features({column.name: column.feature for column in COLUMNS[known(config)]})


def known(config: str) -> Config:
    """``config`` if it is one of the tables; else ArgumentError."""
    for name in CONFIGS:
        if config == name:
            return name
    raise ArgumentError(f"There is no table {config!r}.", f"one of {', '.join(CONFIGS)}", "config='labelled'")
