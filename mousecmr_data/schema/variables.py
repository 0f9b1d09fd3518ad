"""Names and axis orders of the dataset's HDF5 files and of the cine model made from them, phases, endings of files."""

from __future__ import annotations

from typing import Literal

# The HDF5 file of one mouse (source: the authors' repository).
IMAGES = "Images"
MASKS = "Masks"
FRAMES_WITH_ROI = "Frames_with_ROI"
FILE_AXES = ("row", "column", "slice", "frame")
AXIS_LETTERS = "xyzt"
"""Column, row, slice, frame: one letter for each axis of an array in a file."""
MODEL_LETTERS = "tzyx"
"""The same in the order of the cine model."""
FILE_LETTERS = "yxzt"
"""The same in the order of the dataset's HDF5 files."""

# The cine model: one xarray.Dataset per mouse.
IMAGE = "image"
MASK = "mask"
PREDICTED = "predicted"
UNPROCESSED = "predicted_unprocessed"
"""A network's labels: ``PREDICTED`` after post-processing, ``UNPROCESSED`` before it."""
EXPECTED_DICE = "expected_dice"
"""A network's own estimate of the Dice of each slice, (frame, slice)."""
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
ATTR_SETTINGS = "prediction_settings"
"""JSON, in files of `mousecmr predict`: what their masks were made with."""

ATTR_SEGMENTED_BY, ATTR_TRAINED_ON, ATTR_NOTICE = "segmented_by", "trained_on", "notice"
"""Of files with masks by a network: its weights, and on what these were trained."""

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ANALYZE_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
SLICER_SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Ending by which 3D Slicer opens a file of labels as a segmentation."""
METAIMAGE_SUFFIXES = (".mha", ".mhd")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ANALYZE_SUFFIXES, *NRRD_SUFFIXES, *METAIMAGE_SUFFIXES)
"""Files of an array with a place in space, which ``formats.nifti`` reads."""
DICOM_SEG_SUFFIX = ".dcm"
MASK_SUFFIXES = (*IMAGE_SUFFIXES, DICOM_SEG_SUFFIX)

NOT_STATED = "not stated"
"""What a file or a manifest does not tell, such as a version."""
NOT_PUBLISHED = "not published"
"""The phenotype of a mouse whose group was not published."""

Phase = Literal["ED", "ES", "inflow", "unlabelled", "unknown"]
PHASE_DTYPE = "<U10"
ED: Phase = "ED"
ES: Phase = "ES"
INFLOW: Phase = "inflow"
"""Labelled, but neither ED nor ES: a frame with an inflow artefact."""
UNLABELLED: Phase = "unlabelled"
"""Not segmented; the all-zero mask of this frame has no meaning."""
UNKNOWN: Phase = "unknown"
"""The only labelled frame of a mouse, so there is no ED/ES pair."""
