"""Small files as scanners write them: DICOM classic and enhanced, Agilent FDF with procpar, Bruker 2dseq.

Each writer takes images (frame, slice, y, x), uint16, and sizes in mm and ms.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

Images = NDArray[np.uint16]
STEPS = (1.0, 0.1, 0.1)
FRAME_MS = 5.0
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Columns to the left, rows to posterior: the reader keeps the stored order."""
ROOT = "1.2.826.0.1.3680043.8.498"


def dicom_classic(
    images: Images,
    folder: Path,
    steps: tuple[float, float, float] = STEPS,
    orientation: tuple[float, ...] = UPRIGHT,
    shuffle: int = 0,
    **tags: Any,
) -> list[Path]:
    """Write one file per image, with names in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    n_frames, n_slices = images.shape[:2]
    names = np.random.default_rng(shuffle).permutation(n_frames * n_slices)
    paths = []
    for k, (t, z) in enumerate(np.ndindex(n_frames, n_slices)):
        ds = _header("1.2.840.10008.5.1.4.1.1.4", f"{ROOT}.9.{k + 1}")
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = _position(z, steps, orientation)
        ds.ImageOrientationPatient = list(orientation)
        ds.PixelSpacing = [steps[1], steps[2]]
        ds.SliceThickness = steps[0]
        ds.TriggerTime = t * FRAME_MS
        for name, value in tags.items():
            setattr(ds, name, value)
        _pixels(ds, images[t, z])
        paths.append(folder / f"IM{names[k]:05d}")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def dicom_enhanced(
    images: Images, path: Path, steps: tuple[float, float, float] = STEPS, orientation: tuple[float, ...] = UPRIGHT
) -> Path:
    """Write one file, frames before slices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = _header("1.2.840.10008.5.1.4.1.1.4.1", f"{ROOT}.8.1")
    shared, measures, plane_orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [steps[1], steps[2]]
    measures.SliceThickness = steps[0]
    plane_orientation.ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane_orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    per_frame = []
    for z, t in np.ndindex(images.shape[1], images.shape[0]):
        group, position, heart, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _position(z, steps, orientation)
        heart.NominalCardiacTriggerDelayTime = t * FRAME_MS
        content.TemporalPositionIndex = t + 1
        content.InStackPositionNumber = z + 1
        content.StackID = "1"
        group.PlanePositionSequence = [position]
        group.CardiacSynchronizationSequence = [heart]
        group.FrameContentSequence = [content]
        per_frame.append(group)
    ds.PerFrameFunctionalGroupsSequence = per_frame
    ds.NumberOfFrames = len(per_frame)
    _pixels(ds, images.transpose(1, 0, 2, 3).reshape(-1, *images.shape[2:]))
    ds.save_as(path, enforce_file_format=True)
    return path


def _header(sop_class: str, instance: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID(sop_class)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(instance)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(f"{ROOT}.1"), UID(f"{ROOT}.2")
    ds.FrameOfReferenceUID = UID(f"{ROOT}.3")
    ds.Modality, ds.PatientID, ds.PatientName = "MR", "mouse", "Mouse^Test"
    ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ""
    ds.StudyDate, ds.StudyTime, ds.SeriesNumber = "20120601", "120000", 1
    ds.ReferringPhysicianName = ds.PositionReferenceIndicator = ""
    return ds


def _position(z: int, steps: tuple[float, float, float], orientation: tuple[float, ...]) -> list[float]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [round(float(v), 6) for v in np.array([-12.8, -12.8, 3.0]) + z * steps[0] * normal]


def _pixels(ds: Dataset, pixels: NDArray[np.uint16]) -> None:
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.PixelData = pixels.astype("<u2").tobytes()


def fdf(
    images: Images,
    folder: Path,
    steps: tuple[float, float, float] = STEPS,
    big_endian: bool = False,
    *,
    first: float = 0.0,
    orientation: str = "1.0000,0.0000,0.0000,0.0000,1.0000,0.0000,0.0000,0.0000,1.0000",
    sequence: str = "gems",
    parameters: str = "",
) -> list[Path]:
    """Write a ``.img`` folder: one file per image with VnmrJ's header, and procpar with further ``parameters``.

    ``first`` is the position of the first slice in mm, beside its usual one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_frames, n_slices, rows, columns = images.shape
    span = (columns * steps[2] / 10, rows * steps[1] / 10)
    paths = []
    for t, z in np.ndindex(n_frames, n_slices):
        header = f"""#!/usr/local/fdf/startup
float  rank = 2;
char  *spatial_rank = "2dfov";
char  *storage = "float";
float  bits = 32;
char  *type = "absval";
float  matrix[] = {{{columns}, {rows}}};
char  *abscissa[] = {{"cm", "cm"}};
char  *ordinate[] = {{ "intensity" }};
float  span[] = {{{span[0]:.6f}, {span[1]:.6f}}};
float  origin[] = {{0.000000,0.000000}};
char  *nucleus[] = {{"H1","H1"}};
float  nucfreq[] = {{399.496810,399.496810}};
float  location[] = {{0.000000,0.000000,{((z - n_slices / 2) * steps[0] + first) / 10:.6f}}};
float  roi[] = {{{span[0]:.6f},{span[1]:.6f},{steps[0] / 10:.6f}}};
float  gap = 0.000000;
char  *file = "/home/lab/vnmrsys/exp1/acqfil/fid";
int    slice_no = {z + 1};
int    slices = {n_slices};
int    echo_no = {t + 1};
int    echoes = {n_frames};
float  TE = 1.200;
float  te = 0.001200;
float  TR = {FRAME_MS:.3f};
float  tr = {FRAME_MS / 1000:.6f};
int ro_size = {rows};
int pe_size = {columns};
char *sequence = "{sequence}";
char *studyid = "s_2012060101";
int    array_index = 1;
float  array_dim = 1.0000;
float  image = 1.0000;
int    display_order = {z};
int    bigendian = {int(big_endian)};
float  imagescale = 1.000000000;
float  orientation[] = {{{orientation}}};
int checksum = 712264;
"""
        paths.append(folder / f"slice{z + 1:03d}image001echo{t + 1:03d}.fdf")
        pixels = images[t, z].astype(">f4" if big_endian else "<f4").tobytes()
        paths[-1].write_bytes(header.encode() + b"\f\n" + b"\0" + pixels)
    (folder / "procpar").write_text(procpar() + parameters)
    return paths


def procpar() -> str:
    """Return a few parameters, as VnmrJ stores them."""
    return f"""tr 1 1 3600 0 1e-06 2 1 0 1 64
1 {FRAME_MS / 1000}
0
pss 1 1 100 -100 0 2 1 0 1 64
3 -0.1 0 0.1
0
seqfil 2 2 8 0 0 2 1 0 1 64
1 "gems"
0
array_names 4 2 8 0 0 2 1 0 1 64
2 "pss"
"tr, te"
2 "a" "b"
"""


def bruker(
    images: Images,
    folder: Path,
    steps: tuple[float, float, float] = STEPS,
    cycle_first: bool = False,
    *,
    groups: tuple[tuple[int, str], ...] = (),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    positions: Sequence[Sequence[float]] = (),
    first: float = 0.0,
    extra: str = "",
) -> Path:
    """Write ``pdata/1`` of a scan: ``2dseq`` (16 bits, one slope per frame) and ``visu_pars``.

    ``groups`` are further frame groups (number, name) around slices and frames: the images are repeated, brighter each
    time. ``positions`` (mm) and nine numbers of ``orientation`` per slice, or for all; ``first`` is the position of the
    first slice along the normal. ``extra`` are further lines of ``visu_pars``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_frames, n_slices, rows, columns = images.shape
    movie = "FG_CARDIAC_MOVIE" if cycle_first else "FG_MOVIE"
    own = [(n_slices, "FG_SLICE"), (n_frames, movie)]
    stored = images // 2  # the slope is 2: odd values lose one
    if cycle_first:
        own.reverse()
        stored = stored.transpose(1, 0, 2, 3)
    repeats = int(np.prod([n for n, _ in groups]))
    stored = np.concatenate([stored + 100 * k for k in range(repeats)])
    n = n_frames * n_slices * repeats
    described = [f"({length}, <{name}>, <>, 0, 2)" for length, name in (*own, *groups) if name != movie or n_frames > 1]
    (folder / "2dseq").write_bytes(stored.astype("<i2").tobytes())
    normal = np.asarray(orientation[6:9], float)
    places = positions or [np.array([-12.8, -12.8, 0.0]) + (first + z * steps[0]) * normal for z in range(n_slices)]
    position = _wrap(" ".join(f"{v:g}" for p in places for v in p))
    directions = list(orientation) * (n_slices if len(orientation) == 9 else 1)
    orientations = _wrap(" ".join(f"{v:g}" for v in directions))
    (folder / "visu_pars").write_text(f"""##TITLE=Parameter List, ParaVision 6.0.1
##JCAMPDX=4.24
##DATATYPE=Parameter Values
##ORIGIN=Bruker BioSpin MRI GmbH
##OWNER=lab
$$ 2012-06-01 12:00:00.000 +0100  lab@scanner
##$VisuVersion=3
##$VisuCreator=( 65 )
<ParaVision>
##$VisuCreatorVersion=( 65 )
<6.0.1>
##$VisuCoreFrameCount={n}
##$VisuCoreDim=2
##$VisuCoreSize=( 2 )
{columns} {rows}
##$VisuCoreDimDesc=( 2 )
spatial spatial
##$VisuCoreExtent=( 2 )
{columns * steps[2]:g} {rows * steps[1]:g}
##$VisuCoreFrameThickness=( 1 )
{steps[0]:g}
##$VisuCoreUnits=( 2, 65 )
<mm> <mm>
##$VisuCoreOrientation=( {n_slices}, 9 )
{orientations}
##$VisuCorePosition=( {n_slices}, 3 )
{position}
##$VisuCoreDataMin=( {n} )
@{n}*(0)
##$VisuCoreDataMax=( {n} )
@{n}*(32767)
##$VisuCoreDataOffs=( {n} )
@{n}*(0)
##$VisuCoreDataSlope=( {n} )
@{n}*(2)
##$VisuCoreFrameType=MAGNITUDE_IMAGE
##$VisuCoreWordType=_16BIT_SGN_INT
##$VisuCoreByteOrder=littleEndian
##$VisuCoreDiskSliceOrder=disk_normal_slice_order
##$VisuFGOrderDescDim={len(described)}
##$VisuFGOrderDesc=( {len(described)} )
{" ".join(described)}
##$VisuGroupDepVals=( 2 )
(<VisuCoreOrientation>, 0) (<VisuCorePosition>, 0)
##$VisuAcqRepetitionTime=( 1 )
{FRAME_MS:g}
##$VisuSubjectPosition=Head_Prone
{extra}##END=
""")
    return folder / "2dseq"


def _wrap(numbers: str) -> str:
    """Wrap as ParaVision does: the blank stays before the new line."""
    return textwrap.fill(numbers, 78).replace("\n", " \n")
