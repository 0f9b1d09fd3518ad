"""Names and axis orders of the dataset's HDF5 files and of the cine model made from them."""

from __future__ import annotations

# The HDF5 file of one mouse (source: the authors' repository).
IMAGES = "Images"
MASKS = "Masks"
FRAMES_WITH_ROI = "Frames_with_ROI"
FILE_AXES = ("row", "column", "slice", "frame")

# The cine model: one xarray.Dataset per mouse.
IMAGE = "image"
MASK = "mask"
PREDICTED = "predicted"
UNPROCESSED = "predicted_unprocessed"
"""A network's labels: ``PREDICTED`` after post-processing, ``UNPROCESSED`` before it."""
DIMS = ("frame", "slice", "y", "x")
MODEL_TO_FILE = (3, 2, 0, 1)
"""Axis of the file's array that holds each of the model's DIMS."""

# Optional attributes at the root of an HDF5 file, for what the layout cannot hold. Phantoms and exports have
# them; no upstream file is known to have any.
ATTR_MOUSE = "mouse"
ATTR_SOURCE = "source"
ATTR_SYNTHETIC = "synthetic"
ATTR_PHENOTYPE = "phenotype"
ATTR_VOXEL_SIZE = "voxel_size_mm"
"""(slice, row, column) = (z, y, x) in mm."""
ATTR_FRAME_TIME = "frame_time_ms"

NOT_PUBLISHED = "not published"
"""The phenotype of a mouse whose group was not published."""
