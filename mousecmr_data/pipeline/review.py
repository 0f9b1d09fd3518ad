"""Correct the masks of a result folder, and measure them again.

A folder that ``mousecmr segment`` wrote holds the masks (``masks.nii.gz``), the same as the network made them
(``automatic_masks.nii.gz``), the images, and a record (``result.json``) with the checksums of what its numbers were
measured from. This module adds ``review.json``: which slices a person corrected, who, when, and the frames of ED and
ES. Masks that any other program edited in the folder are found by their checksums, and their slices become "edited".
docs/reviewing.md describes the files.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import temporary_folder, write_json
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.reading import make_read_error
from mousecmr_data._utils.system import fsync_file, fsync_folder, move
from mousecmr_data._utils.text import join_names
from mousecmr_data.dataset.model import FROM_FILE, PhysicalSizes, build_dataset, get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, OutputError
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN, ATTR_HEART_RATE, ATTR_HEART_RATE_SOURCE
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.masks import AUTOMATIC_FILE, IMAGES_FILE, MASKS_FILE, find_result
from mousecmr_data.formats.orientation import ATTR_GRID
from mousecmr_data.metrics.propagation import propose_slice
from mousecmr_data.metrics.volumes import check_pair, find_ed_es
from mousecmr_data.pipeline import writers
from mousecmr_data.pipeline.analysis import (
    AUTO,
    ONE_BEAT,
    VOLUMES_AND_MASSES,
    AnalysisResult,
    mark_phases,
    measure_masks,
)
from mousecmr_data.pipeline.quality import Flag
from mousecmr_data.schema.labels import Label, LabelMap
from mousecmr_data.schema.manifest import get_constant
from mousecmr_data.schema.variables import DIMS, ED, ES, IMAGE, PREDICTED

if TYPE_CHECKING:
    from mousecmr_data.pipeline.config import SegmentConfig

SCHEMA, SCHEMA_VERSION = "mousecmr-review", 1
SliceStatus = Literal["auto", "edited", "excluded", "confirmed"]
"""As the network left it; corrected; without a ventricle, by a person; looked at and right."""
BLINDING_SCHEMA, BLINDING_VERSION, BLINDING_FILE = "mousecmr-blinding", 1, "blinding.json"
"""Key of blind reviews, in the folder of all mice."""
UNKNOWN_READER = "unnamed reader"
"""Reader of masks that another program edited."""
KEPT_FLAGS = (
    *("not_short_axis", "input_note", "input_incomplete"),
    *("islands_removed", "check_slice", "slice_removed", "slice_added"),
)
"""Flags that cannot be raised from masks and images alone; the last four end with a correction of their slice."""


@dataclass(frozen=True)
class SliceReview:
    """What a person did with one slice of one frame."""

    frame: int
    slice: int
    status: SliceStatus
    reader: str
    time: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Review:
    """The content of ``review.json``. Slices that are not listed are "auto"."""

    slices: tuple[SliceReview, ...] = ()
    ed_frame: int | None = None
    """Frames of ED and ES as a person chose them; None: as they were found."""
    es_frame: int | None = None
    minutes: Mapping[str, float] = field(default_factory=dict)
    """Time that each reader spent."""
    masks_sha256: str = ""
    """Of ``masks.nii.gz`` as the review left it; with another one, some other program edited it since."""

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of all readers."""
        return tuple(dict.fromkeys((*self.minutes, *(s.reader for s in self.slices))))

    def get_status(self, shape: Sequence[int]) -> NDArray[np.str_]:
        """Return the status of each slice of each frame, of ``shape`` (frame, slice)."""
        status = np.full(tuple(shape), AUTO, "<U9")
        for s in self.slices:
            status[s.frame, s.slice] = s.status
        return status

    def set_slice(self, frame: int, slice_: int, status: SliceStatus, reader: str, time: str = "") -> Review:
        """Return the review with another status of one slice; ``time`` is now by default."""
        entry = SliceReview(frame, slice_, status, reader, time or _get_now())
        others = {(s.frame, s.slice): s for s in self.slices}
        others.pop((frame, slice_), None)
        rows = others if status == AUTO else {**others, (frame, slice_): entry}
        return replace(self, slices=tuple(rows[k] for k in sorted(rows)))


def read_review(folder: str | PathLike[str]) -> Review:
    """Return the review in a result folder; an empty one if nobody reviewed it.

    Raises :class:`~mousecmr_data.errors.FileLayoutError` if ``review.json`` is damaged.
    """
    path = Path(folder) / writers.REVIEW_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Review()
    except OSError as e:
        raise make_read_error(path, e) from e
    try:
        table = json.loads(text)
        if (table.pop("schema"), table.pop("schema_version")) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError("another schema")
        slices = tuple(SliceReview(**row) for row in table.pop("slices"))
        if unknown := {s.status for s in slices}.difference(get_args(SliceStatus)):
            raise ValueError(f"the status {min(unknown)!r}")
        return Review(slices, **table)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FileLayoutError(
            f"{path} is not a valid review: {e}", f"{SCHEMA} {SCHEMA_VERSION}", "move it away to begin a new review"
        ) from e


def save_review(folder: str | PathLike[str], review: Review) -> Path:
    """Write ``review.json`` of a result folder, whole or not at all."""
    about = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
    return write_json(Path(folder) / writers.REVIEW_FILE, {**about, **asdict(review)})


class ReviewedResult:
    """A result folder that is open for corrections; made by :func:`open_result`."""

    def __init__(self, folder: Path, record: dict[str, Any], ds: xr.Dataset, automatic: NDArray[np.uint8]) -> None:
        self.folder, self.record = folder, record
        self.ds = ds
        """The cine model with ``predicted``: the corrected masks (frame, slice, y, x); without images."""
        self.automatic = automatic
        """The masks of the network, of the same shape."""
        self.review = read_review(folder)
        self.replaced: dict[str, str] = {}
        """Files of masks that another program edited, and their SHA-256: they will be written again."""
        self._saved_at = (folder / MASKS_FILE).stat().st_mtime_ns
        self._masks_sha256 = self.review.masks_sha256
        self.counts = _count_labels(self.masks)
        """Voxels of each label (frame, slice, label)."""

    @property
    def masks(self) -> NDArray[np.uint8]:
        """The corrected masks uint8 (frame, slice, y, x)."""
        return np.asarray(self.ds[PREDICTED].values)

    @property
    def pair(self) -> tuple[int, int] | None:
        """The frames of ED and ES: as a person chose them, else as they were found; None for a single frame."""
        row = self.record["mouse"]
        ed = row["ed_frame"] if self.review.ed_frame is None else self.review.ed_frame
        es = row["es_frame"] if self.review.es_frame is None else self.review.es_frame
        return None if ed is None or es is None else (int(ed), int(es))

    def read_images(self) -> NDArray[Any]:
        """Return the images uint16 or float32 (frame, slice, y, x).

        Raises :class:`~mousecmr_data.errors.MissingDataError` if the folder has none.
        """
        from mousecmr_data.formats.nifti import read_nifti_on_grid

        path = self.folder / IMAGES_FILE
        if not path.is_file():
            raise MissingDataError(
                f"{path} is missing.", "images beside the masks", "mousecmr segment INPUTS -o FOLDER"
            )
        return read_nifti_on_grid(path, self.ds)

    def apply_edit(
        self,
        frame: int,
        slice_: int,
        labels: NDArray[np.uint8] | None = None,
        *,
        status: SliceStatus = "edited",
        reader: str = UNKNOWN_READER,
        minutes: float = 0.0,
        save: bool = True,
    ) -> dict[str, Any]:
        """Change one slice of one frame, save it, and return the numbers of :meth:`compute_numbers`.

        With ``save=False`` nothing is written until :meth:`save`, which another thread may call meanwhile.

        "edited" takes ``labels`` uint8 (y, x); "excluded" empties the slice; "confirmed" leaves it as it is; "auto"
        takes the network's masks again. ``minutes`` are added to those of ``reader``.

        Raises :class:`~mousecmr_data.errors.ArgumentError`, and :class:`~mousecmr_data.errors.OutputError` if another
        program changed the masks meanwhile.
        """
        n_frames, n_slices, *size = self.masks.shape
        if not (0 <= frame < n_frames and 0 <= slice_ < n_slices):
            expected = f"frames 0 to {n_frames - 1}, slices 0 to {n_slices - 1}"
            raise ArgumentError(f"There is no slice {slice_} of frame {frame}.", expected)
        if (labels is not None) != (status == "edited"):
            raise ArgumentError(f"The status is {status!r}.", "labels with 'edited', and only with it")
        if labels is not None and (list(labels.shape) != size or not np.isin(labels, list(Label)).all()):
            found = f"Labels {labels.shape} with the numbers {np.unique(labels)[:5].tolist()}."
            raise ArgumentError(found, f"uint8 {tuple(size)} of 0, 1, 2")
        if status != "confirmed":
            new: Any = self.automatic[frame, slice_] if labels is None else labels
            self.masks[frame, slice_] = 0 if status == "excluded" else new
            self.counts[frame, slice_] = _count_labels(self.masks[frame, slice_][None, None])[0, 0]
        self._note(self.review.set_slice(frame, slice_, status, reader), reader, minutes, status != "confirmed", save)
        return self.compute_numbers()

    def propose_slice(self, frame: int, slice_: int) -> NDArray[np.uint8]:
        """Return labels uint8 (y, x) for a slice in which a person sees a ventricle; nothing is changed.

        They are the network's own, or if it found none, those of
        :func:`~mousecmr_data.metrics.propagation.propose_slice`.
        """
        own = self.automatic[frame, slice_]
        return own.copy() if own.any() else propose_slice(self.masks, frame, slice_, get_spacing(self.ds))

    def propose_exclusions(self) -> list[tuple[int, int]]:
        """Return frame and slice of what to exclude, so that the exclusions at ED and ES go on through the beat.

        A slice that is excluded at both is so in all frames; at one of them, in the frames whose blood pool, in the
        slices that both have, is nearer to that of this phase. What a person changed or confirmed stays.
        """
        if self.pair is None:
            return []
        status, (ed, es) = self.review.get_status(self.masks.shape[:2]), self.pair
        present = np.asarray(self.masks.any(axis=(2, 3)))
        pools = self.counts[..., Label.BLOOD_POOL][:, present[ed] & present[es]].sum(1)
        is_near_es = np.abs(pools - pools[es]) < np.abs(pools - pools[ed])
        excluded = np.where(is_near_es[:, None], status[es] == "excluded", status[ed] == "excluded")
        return [(f, k) for f, k in np.argwhere(excluded & present & (status == AUTO)).tolist()]

    def choose_phases(self, ed: int | None = None, es: int | None = None, *, find: bool = False) -> None:
        """Take these frames as ED and ES, or find them on the curve of the corrected masks; nothing is saved yet.

        Raises :class:`~mousecmr_data.errors.ArgumentError` if there are no such frames, or only one is given.
        """
        check_pair(ed, es, find)
        pools = self.counts[..., Label.BLOOD_POOL].sum(1).astype(float)
        if ed is not None and es is not None:
            mark_phases(pools, (ed, es))
        found = find_ed_es(pools) if find else None
        ed, es = found or (ed, es)
        if ed is not None:
            self.review = replace(self.review, ed_frame=ed, es_frame=es)

    def set_phases(self, ed: int, es: int, *, reader: str = UNKNOWN_READER, minutes: float = 0.0) -> dict[str, Any]:
        """Move ED and ES to these frames, save, and return the numbers of :meth:`compute_numbers`."""
        self.choose_phases(ed, es)
        self._note(self.review, reader, minutes, False)
        return self.compute_numbers()

    def compute_numbers(self) -> dict[str, Any]:
        """Return ED and ES, EDV, ESV, SV, EF and masses with the names of the table of mice, and ``blood_pool_ul`` and
        ``mass_ul`` of each frame, from the counts of each slice: fast enough for every stroke. NaN is missing.
        """
        row = self.record["mouse"]
        voxel_ul = float(row["voxel_z_mm"] * row["voxel_y_mm"] * row["voxel_x_mm"])
        pool, muscle = (self.counts[..., label].sum(1) * voxel_ul for label in (Label.BLOOD_POOL, Label.MYOCARDIUM))
        mass = muscle * float(get_constant("myocardial_density"))
        phase = mark_phases(pool, self.pair).tolist()
        numbers = dict.fromkeys(VOLUMES_AND_MASSES, float("nan"))
        ed, es = (phase.index(p) if p in phase else None for p in (ED, ES))
        if ed is not None and es is not None:
            edv, esv = float(pool[ed]), float(pool[es])
            numbers |= {"edv_ul": edv, "esv_ul": esv, "mass_ed_mg": float(mass[ed]), "mass_es_mg": float(mass[es])}
            if self.masks.shape[1] > 1:  # one slice is not a ventricle
                numbers |= {"sv_ul": edv - esv, "ef_percent": 100 * (edv - esv) / edv if edv else float("nan")}
        frames = {"blood_pool_ul": pool.tolist(), "mass_mg": mass.tolist()}
        return {"ed_frame": ed, "es_frame": es, **numbers, **frames}

    def analyze(self) -> AnalysisResult:
        """Measure and check everything again, with the network's own numbers beside the final ones."""
        status = self.review.get_status(self.masks.shape[:2])
        left = np.isin(status, (AUTO, "confirmed"))
        flags = [Flag(*(f[k] for k in ("flag", "message", "frame", "slice"))) for f in self.record["flags"]]
        kept = [
            f for f in flags if f.flag in KEPT_FLAGS and (f.slice is None or f.frame is None or left[f.frame, f.slice])
        ]
        ds = self.ds
        if (self.folder / IMAGES_FILE).is_file():
            ds = ds.assign({IMAGE: (DIMS, self.read_images())})
        result = measure_masks(ds, pair=self.pair, automatic=self.automatic, status=status, kept=kept)
        row = result.mouse | {k: v for k, v in self.record["mouse"].items() if k.endswith("_auto")}
        row |= {f"slices_{name}": int(np.count_nonzero(status == name)) for name in ("edited", "excluded", "confirmed")}
        row |= {
            "readers": ", ".join(self.review.readers),
            "review_minutes": round(sum(self.review.minutes.values()), 2),
        }
        marks = (*result.marks, *((f"Reviewed by {row['readers']}.",) if self.review != Review() else ()))
        row["marks"] = " ".join(marks)
        frames, slices = (table.assign(marks=row["marks"]) for table in (result.frames, result.slices))
        return replace(result, mouse=row, frames=frames, slices=slices, marks=marks)

    def read_phases(self) -> xr.Dataset:
        """Return the cine with its corrected masks, and ED and ES in ``phase``, ready to be measured."""
        pools = self.counts[..., Label.BLOOD_POOL].sum(1).astype(float)
        labelled = np.ones(len(self.masks), bool)
        return self.ds.assign_coords(labelled=("frame", labelled), phase=("frame", mark_phases(pools, self.pair)))

    def take_masks(
        self, name: str, masks: NDArray[np.uint8], frames: Sequence[int], reader: str, time: str = ""
    ) -> None:
        """Take ``masks`` (len(frames), slice, y, x) of another program; nothing is saved yet."""
        if masks.shape != (len(frames), *self.masks.shape[1:]):
            raise FileLayoutError(
                f"{name} has the shape {masks.shape}.",
                f"{(len(frames), *self.masks.shape[1:])} (frame, slice, y, x), that of the result",
                f"export the masks on the grid of {IMAGES_FILE}",
            )
        self.masks[list(frames)] = masks
        self._find_edits(reader, time)
        self.counts = _count_labels(self.masks)

    def save(self) -> None:
        """Write the masks and ``review.json``; the tables follow with :func:`update_result`."""
        self._note(self.review, "", 0.0, True)

    def _find_edits(self, reader: str, time: str) -> None:
        """Note slices that differ from the network's, though nobody is known to have edited them.

        A slice that was corrected and then confirmed stays so while no other program changed the masks.
        """
        status = self.review.get_status(self.masks.shape[:2])
        expected = np.where((status == "excluded")[..., None, None], 0, self.automatic)
        is_ours = all((n, s) == (MASKS_FILE, self._masks_sha256) for n, s in self.replaced.items())
        known = ["edited", "confirmed"] if is_ours else ["edited"]
        changed = (self.masks != expected).any(axis=(2, 3)) & ~np.isin(status, known)
        for frame, slice_ in np.argwhere(changed).tolist():
            self.review = self.review.set_slice(frame, slice_, "edited", reader, time)

    def _note(self, review: Review, reader: str, minutes: float, masks_changed: bool, save: bool = True) -> None:
        path = self.folder / MASKS_FILE
        if path.stat().st_mtime_ns != self._saved_at:
            text = f"{path} was changed by another program since it was opened."
            raise OutputError(text, "one editor at a time", "open the result again")
        if reader:
            spent = {**review.minutes, reader: round(review.minutes.get(reader, 0.0) + minutes, 3)}
            review = replace(review, minutes=spent)
        self.review = review
        if not save:
            return
        if masks_changed:
            from mousecmr_data.formats.nifti import write_nifti_labels

            with temporary_folder(path) as partial:
                new = write_nifti_labels(
                    self.masks, partial / path.name, self.ds, f"{self.record['network'].get('weights')}"
                )
                fsync_file(new)
                move(new, path)
            fsync_folder(self.folder)
            self._saved_at = path.stat().st_mtime_ns
            self._masks_sha256 = _hash(path)
        save_review(self.folder, replace(review, masks_sha256=self._masks_sha256))


def open_result(folder: str | PathLike[str], *, reader: str = UNKNOWN_READER) -> ReviewedResult:
    """Open a folder that ``mousecmr segment`` wrote, with all corrections, also those that another program made.

    ``reader`` is who edited the files in it since they were measured: ``masks.nii.gz``, ``ED_mask.nii.gz``,
    ``ES_mask.nii.gz``, and those in ``dicom-seg/``.
    Raises :class:`~mousecmr_data.errors.MissingDataError` (no result),
    :class:`~mousecmr_data.errors.FileLayoutError` (masks of another shape, or two edited files that differ),
    :class:`~mousecmr_data.errors.LabelError`.
    """
    from mousecmr_data.formats.nifti import read_nifti_labels

    folder = Path(folder)
    record = writers.read_record(folder)
    if record is None or "grid" not in record:
        found = f"{folder} holds no result of mousecmr segment" + (" of this version." if record else ".")
        raise MissingDataError(found, f"{writers.RECORD_FILE}, {MASKS_FILE}", "mousecmr segment INPUTS -o FOLDER")
    like = _build_like(record)
    masks = read_nifti_labels(folder / MASKS_FILE, like)
    if masks.shape != like[PREDICTED].shape:
        raise FileLayoutError(
            f"{folder / MASKS_FILE} has the shape {masks.shape}.",
            f"{like[PREDICTED].shape} (frame, slice, y, x)",
            f"export the masks on the grid of {IMAGES_FILE}, with all frames",
        )
    automatic = read_nifti_labels(folder / AUTOMATIC_FILE, like)
    opened = ReviewedResult(folder, record, like.assign({PREDICTED: (DIMS, masks, record["network"])}), automatic)
    listed = writers.list_result_files(folder)
    edited = {n: s for n in listed if _is_mask_file(n) and (s := _hash(folder / n)) not in ("", listed[n])}
    changed = np.zeros(len(masks), bool)
    if MASKS_FILE in edited:
        changed[:] = True
    for name in edited:
        if name == MASKS_FILE:
            continue
        frame = _find_frame(name, record)
        others = (
            sorted((folder / name).parent.glob(f"frame_{frame:03d}*.dcm")) if name.endswith(".dcm") else [folder / name]
        )
        part = np.max([read_nifti_labels(p, like) for p in others], axis=0)
        if part.shape == (1, *masks.shape[1:]) and changed[frame] and not np.array_equal(part[0], opened.masks[frame]):
            raise FileLayoutError(
                f"{folder}: {MASKS_FILE} and {name} were both edited, and differ in frame {frame}.",
                "one of them",
                f"delete the other, e.g. {folder / name}",
            )
        opened.take_masks(name, part, [frame], reader, _get_time(folder / name))
        changed[frame] = True
    opened.replaced = edited
    opened._find_edits(reader, _get_time(folder / MASKS_FILE))
    return opened


def open_results(folder: str | PathLike[str]) -> dict[str, ReviewedResult]:
    """Open all mice in a folder of ``mousecmr segment``, or the one whose folder it is, by name.

    Raises :class:`~mousecmr_data.errors.MissingDataError` if there is none.
    """
    folder = Path(folder)
    folders = [p.parent for p in sorted(folder.glob(f"*/{writers.RECORD_FILE}"))] or [folder]
    return {opened.record["mouse"]["mouse"]: opened for opened in map(open_result, folders)}


def assign_codes(folder: str | PathLike[str], reader: str) -> dict[str, str]:
    """Return the code of each mouse in a folder of results, by name, in the order in which ``reader`` sees them blind.

    Codes and order are random and differ between readers. They are kept in ``blinding.json`` of the folder, so that
    they are the same the next time. Raises :class:`~mousecmr_data.errors.ArgumentError` if the folder is that of one
    mouse, or :func:`reveal_codes` told this reader's codes, and :class:`~mousecmr_data.errors.FileLayoutError` if the
    file is damaged.
    """
    folder = Path(folder)
    if find_result(folder):
        raise ArgumentError(f"{folder} is the folder of one mouse.", "that of all mice", f"give {folder.parent}")
    readers = _read_blinding(folder)
    entry = readers.setdefault(reader, {"codes": {}, "started": _get_now(), "revealed": None})
    if entry["revealed"]:
        found = f"The names behind the codes of {reader} were shown at {entry['revealed']}."
        hint = f"for a new blind review, use another name or delete {folder / BLINDING_FILE}"
        raise ArgumentError(found, "codes that nobody knows", hint)
    codes, taken = entry["codes"], {code for r in readers.values() for code in r["codes"].values()}
    names = [p.parent.name for p in folder.glob(f"*/{writers.RECORD_FILE}")]
    new = [name for name in sorted(names) if name not in codes]
    secrets.SystemRandom().shuffle(new)
    for name in new:
        while (code := secrets.token_hex(2).upper()) in taken:
            pass
        taken.add(code)
        codes[name] = code
    if new:
        about = {"schema": BLINDING_SCHEMA, "schema_version": BLINDING_VERSION}
        write_json(folder / BLINDING_FILE, {**about, "readers": readers})
    return {name: code for name, code in codes.items() if name in names}


def reveal_codes(folder: str | PathLike[str], reader: str) -> dict[str, str]:
    """Return the codes of ``reader`` by the names of the mice, and note in ``blinding.json`` that they were shown.

    Raises :class:`~mousecmr_data.errors.MissingDataError` if this reader has none.
    """
    folder = Path(folder)
    readers = _read_blinding(folder)
    if reader not in readers:
        found = f"{folder} holds no codes of {reader}."
        hint = f"mousecmr review {folder} --blind --reader {shlex.quote(reader)}"
        raise MissingDataError(found, join_names(list(readers)) or "a blind review", hint)
    readers[reader]["revealed"] = readers[reader]["revealed"] or _get_now()
    about = {"schema": BLINDING_SCHEMA, "schema_version": BLINDING_VERSION}
    write_json(folder / BLINDING_FILE, {**about, "readers": readers})
    return dict(readers[reader]["codes"])


def _read_blinding(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the readers in ``blinding.json``: codes by name, and when they were started and revealed."""
    path = folder / BLINDING_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if (table["schema"], table["schema_version"]) != (BLINDING_SCHEMA, BLINDING_VERSION):
            raise ValueError("another schema")
        return {r: {k: about[k] for k in ("codes", "started", "revealed")} for r, about in table["readers"].items()}
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise make_read_error(path, e) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        expected = f"{BLINDING_SCHEMA} {BLINDING_VERSION}"
        hint = "put it back from a copy: only this file says which mouse is which"
        raise FileLayoutError(f"{path} is no valid key of blind reviews: {e}", expected, hint) from e


def is_measured(folder: str | PathLike[str]) -> bool:
    """Return whether the numbers in a result folder were measured from the masks and the review that it holds now."""
    folder = Path(folder)
    listed = writers.list_result_files(folder)
    same = all(_hash(folder / name) in ("", sha256) for name, sha256 in listed.items() if _is_mask_file(name))
    record = writers.read_record(folder) or {}
    return same and _hash(folder / writers.REVIEW_FILE) == record.get("review_sha256", "")


def update_result(
    result: ReviewedResult | str | PathLike[str], *, scan: FoundScan | None = None, config: SegmentConfig | None = None
) -> AnalysisResult:
    """Measure the masks of a result (opened, or its folder) again; bring its tables, pictures and record up to date.

    ``scan``: the files that it was made from, for DICOM SEG; without it, those of a DICOM result are removed, and a
    flag says so. ``config`` says which outputs are written; by default those of before. Raises what
    :func:`open_result` raises, and OutputError if other files than masks were edited.
    """
    opened = result if isinstance(result, ReviewedResult) else open_result(result)
    folder, outputs = opened.folder, opened.record["outputs"]
    analysis = opened.analyze()
    listed = writers.list_result_files(folder)
    if scan is None and any(name.startswith(writers.SEG_FOLDER) for name in listed):
        text = "No DICOM SEG of the corrected masks: segment the same images into this folder again to write it."
        analysis = replace(analysis, flags=(*analysis.flags, Flag("output_missing", text)))
    if opened.review != Review():
        save_review(folder, opened.review)
    about = {"review_sha256": _hash(folder / writers.REVIEW_FILE), "outputs": outputs}
    options: Any = config or SimpleNamespace(**outputs, keep_names=False)
    listed |= {name: _hash(folder / name) for name in opened.replaced}
    return writers.write_result(analysis, folder, options, scan, opened.record["key"], listed=listed, review=about)


def take_file(
    opened: ReviewedResult, path: str | PathLike[str], *, labels: LabelMap | None = None, reader: str = UNKNOWN_READER
) -> None:
    """Take the masks in ``path`` (NIfTI, NRRD, MetaImage, DICOM SEG), which were exported elsewhere, into a result.

    A file of one frame is that of ED or ES, or has its number in its name, as ``frame_007``. Nothing is saved yet.
    Raises :class:`~mousecmr_data.errors.FileLayoutError` if it does not fit, or does not say its frame.
    """
    from mousecmr_data.formats.nifti import read_nifti_labels

    path, n_frames = Path(path), len(opened.masks)
    masks = read_nifti_labels(path, opened.ds, labels)
    frames = list(range(n_frames))
    if len(masks) != n_frames:
        phase = re.search(r"(?<![a-z])(ed|es)(?![a-z])", path.name, re.IGNORECASE)
        number = re.search(r"frame[_-]?(\d+)", path.name, re.IGNORECASE)
        pair = opened.pair
        if phase and pair:
            frames = [pair[phase[1].lower() == "es"]]
        elif number and int(number[1]) < n_frames:
            frames = [int(number[1])]
        else:
            raise FileLayoutError(
                f"{path.name} holds {len(masks)} of {n_frames} frames, and does not say which.",
                "all frames, or one with ED, ES or its number in the name",
                f"rename it, e.g. ED_{path.name} or frame_007_{path.name}",
            )
    opened.take_masks(path.name, masks, frames, reader)


def _build_like(record: Mapping[str, Any]) -> xr.Dataset:
    """Return the cine of a record, with masks of zeros."""
    row, grid = record["mouse"], record["grid"]
    known = row["frame_time_ms"] is not None
    time = float(row["frame_time_ms"] if known else get_constant("frame_time"))
    letters = dict(zip(grid["axes"], grid["shape"], strict=True))
    shape = (row["frames"], row["slices"], letters["y"], letters["x"])
    size = (row["voxel_z_mm"], row["voxel_y_mm"], row["voxel_x_mm"])
    about = {
        "mouse": row["mouse"],
        "source": row["source"],
        "format": row["format"],
        "synthetic": bool(row["synthetic_images"]),
        ATTR_FRAME_TIME_KNOWN: known or row["frames"] == 1,
        ATTR_GRID: json.dumps(grid),
    }
    if row[ATTR_HEART_RATE] and row[ATTR_HEART_RATE_SOURCE] != ONE_BEAT:
        about |= {ATTR_HEART_RATE: row[ATTR_HEART_RATE], ATTR_HEART_RATE_SOURCE: row[ATTR_HEART_RATE_SOURCE]}
    zeros = np.zeros(shape, np.uint8)
    sizes = PhysicalSizes(size, row["voxel_size_source"], time, FROM_FILE)
    return build_dataset(zeros, None, (), sizes, about).drop_vars(IMAGE).assign({PREDICTED: (DIMS, zeros)})


def _count_labels(masks: NDArray[np.uint8]) -> NDArray[np.intp]:
    return np.stack([np.count_nonzero(masks == label, axis=(2, 3)) for label in Label], axis=-1)


def _is_mask_file(name: str) -> bool:
    return name == MASKS_FILE or name in writers.PHASE_FILES or name.startswith(f"{writers.SEG_FOLDER}/")


def _find_frame(name: str, record: Mapping[str, Any]) -> int:
    """Return the frame of a file of masks that holds only one."""
    if phase := writers.PHASE_FILES.get(name):
        return int(record["mouse"][f"{phase.lower()}_frame"])
    match = re.search(r"frame_(\d+)", name)
    assert match is not None  # noqa: S101 (the name is one that write_dicom_seg makes)
    return int(match[1])


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file; empty if there is none."""
    try:
        return compute_sha256(path)
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise make_read_error(path, e) from e


def _get_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _get_time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
