"""Many mice, one after the other: what is done is not done again, what fails does not stop the rest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._version import __version__
from mousecmr_data.errors import ArgumentError, MissingDataError, MouseCMRError
from mousecmr_data.formats.archive import unpack_archive
from mousecmr_data.formats.discover import FoundScan, clean_name, find_scans, make_unique
from mousecmr_data.formats.read import read_scan
from mousecmr_data.pipeline.analysis import RESEARCH_ONLY, AnalysisResult, SegmentConfig, analyze
from mousecmr_data.pipeline.writers import (
    OUTDATED_FILE,
    mark_outdated,
    read_record,
    read_tables,
    write_json,
    write_result,
)

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor


# MERGED pipeline.batch: What a job is given, files, folders and archives, becomes a list of mice to read.


@dataclass(frozen=True)
class RefusedInput:
    """An input, or an archive in one, that could not even be looked into."""

    name: str
    error: MouseCMRError
    path: Path


@contextmanager
def collect_inputs(
    inputs: Sequence[Path], scratch: Path | None = None
) -> Iterator[tuple[list[FoundScan], list[RefusedInput]]]:
    """The mice in ``inputs`` (files, folders, zip archives; archives in folders too), and what was refused.

    Archives are unpacked into a folder below ``scratch`` (default: the system's place for temporary files),
    which is removed at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="mousecmr-", dir=scratch) as place:
        every = [one for k, path in enumerate(inputs) for one in _find_in_path(path, Path(place) / str(k))]
        named = [replace(one, name=n) for one, n in zip(every, make_unique(o.name for o in every), strict=True)]
        refused = [replace(r, error=rename_in_error(r.error, scratch)) for r in named if isinstance(r, RefusedInput)]
        yield [f for f in named if isinstance(f, FoundScan)], refused


def hide_temporary_paths(text: str, folder: Path | None = None) -> str:
    """``text`` with a user's own names in place of where archives were unpacked, or uploads lie, below ``folder``
    (default: the system's place for temporary files)."""
    inner = r"[\\/](?:in[\\/]\w+|mousecmr-\w+[\\/]\d+(?:[\\/]\d+)?)(?:[\\/]|\b)"
    return re.sub(re.escape(str(folder or tempfile.gettempdir())) + inner, "", text)


def rename_in_error(error: MouseCMRError, folder: Path | None = None) -> MouseCMRError:
    """``error`` with all its sentences as :func:`without_folder` says them."""
    rest = (text and hide_temporary_paths(text, folder) for text in (error.expected, error.next_step))
    return type(error)(hide_temporary_paths(error.found, folder), *rest)


def _find_in_path(path: Path, scratch: Path) -> Iterator[FoundScan | RefusedInput]:
    if not path.is_dir():
        yield from _try_find(path, scratch)
        return
    inner = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".zip" and p.is_file() and not p.is_symlink()]
    outside = list(_try_find(path, scratch))
    if not inner or isinstance(outside[0], FoundScan):
        yield from outside
    for k, one in enumerate(inner):
        yield from _try_find(one, scratch / str(k))


def _try_find(path: Path, scratch: Path) -> Iterator[FoundScan | RefusedInput]:
    """The mice in a file, in a folder outside its archives, or in an archive, which keeps its name where it is
    unpacked: a mouse alone in it is called so."""
    try:
        packed = path.suffix.lower() == ".zip" and not path.is_dir()
        yield from find_scans(unpack_archive(path, scratch / path.name) if packed else path)
    except MouseCMRError as e:
        yield RefusedInput(clean_name(path.name), e, path)


MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE, MANIFEST_FILE = (
    "mice.csv",
    "frames.csv",
    "slices.csv",
    "flags.csv",
    "manifest.json",
)
PACKAGES = ("numpy", "scipy", "xarray", "torch", "nibabel", "pydicom", "highdicom", "brukerapi")
BLOCK_BYTES = 1024**2
LOADING_TEXT = "Loading the weights. The first time, engines are also tried out on this computer, for up to a minute."


@dataclass(frozen=True)
class BatchEvent:
    """Something that happened: loading the weights; to mice: found (``total`` of them), reading, ``done`` of ``total``
    2D slices segmented, done (with its result), as before (made by an earlier run), or failed (with its error)."""

    kind: Literal["loading", "found", "reading", "slices", "done", "as before", "failed"]
    name: str = ""
    done: int = 0
    total: int = 0
    result: AnalysisResult | None = None
    error: MouseCMRError | None = None


@dataclass
class BatchResult:
    """What :func:`run` did."""

    folder: Path
    mice: pd.DataFrame
    """A row a mouse: numbers, flags, ``status`` ("done", "as before", "failed") and ``error``."""
    errors: dict[str, MouseCMRError] = field(default_factory=dict)


def segment_batch(
    inputs: Sequence[Path],
    folder: Path,
    settings: SegmentConfig | None = None,
    *,
    told: Callable[[BatchEvent], None] | None = None,
    cache: Path | None = None,
    scratch: Path | None = None,
    segmenter: Predictor | None = None,
) -> BatchResult:
    """Segment the mice in ``inputs`` (files, folders, zip archives) into ``folder``.

    A folder a mouse, and four tables and a manifest over all. A mouse whose folder was made from the same bytes
    with the same settings and weights is not done again. ``segmenter``: loaded before, for the weights that
    ``settings`` names.

    Raises :class:`~mousecmr_data.errors.MissingDataError` where the weights are neither in the cache nor
    reachable, before anything is read or written, and where there is no mouse in ``inputs`` at all. What goes
    wrong with one mouse is in ``Run.errors`` and in the tables.
    """
    settings, tell = settings or SegmentConfig(), told or (lambda _: None)
    if not inputs:
        raise ArgumentError("There is nothing to segment.", "files, folders or zip archives")
    started = datetime.now(UTC)
    tell(BatchEvent("loading"))
    segmenter = segmenter or load_predictor(settings, cache)
    weights = _describe_weights(settings, segmenter)
    done = BatchResult(folder, pd.DataFrame())
    row: dict[str, Any]
    rows: list[dict[str, Any]] = []
    with collect_inputs(inputs, scratch) as (found, refused):
        if not found:
            raise (
                refused[0].error
                if len(refused) == 1
                else MissingDataError(
                    f"None of {len(refused)} inputs can be read. {refused[0].name}: {refused[0].error.found}",
                    refused[0].error.expected,
                )
            )
        tell(BatchEvent("found", total=len(found) + len(refused)))
        for r in refused:
            tell(BatchEvent("failed", r.name, error=r.error))
            done.errors[r.name] = r.error
            mark_outdated(folder / r.name, r.error)
            row = {"mouse": r.name, "status": "failed", "error": r.error.found}
            rows.append(row)
            with suppress(OSError):  # a folder, or nothing there
                row["input"] = _describe_input("", [r.path])
        for one in found:
            row = {"mouse": one.name}
            rows.append(row)
            try:
                row["input"] = _describe_input(one.kind, one.paths)
                made, event = _segment_one(one, row["input"]["sha256"], folder, settings, segmenter, weights, tell)
                row |= made
            except Exception as e:  # one mouse must not stop the rest, whatever it is
                error = e if isinstance(e, MouseCMRError) else MouseCMRError(f"{one.name}: {type(e).__name__}: {e}")
                done.errors[one.name] = error = rename_in_error(error, scratch)
                event = BatchEvent("failed", one.name, error=error)
                row |= {"status": "failed", "error": error.found}
                mark_outdated(folder / one.name, error)
            tell(event)
    done.mice = _write_tables(folder, rows)
    manifest = {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "use": RESEARCH_ONLY,
        "versions": _list_versions(),
        "weights": weights,
        "settings": settings.table(),
        "mice": [{k: r.get(k) for k in ("mouse", "status", "error", "input", "seconds", "marks")} for r in rows],
    }
    with atomic_path(folder / MANIFEST_FILE) as partial:
        write_json(manifest, partial)
    return done


def load_predictor(settings: SegmentConfig, cache: Path | None = None) -> Predictor:
    """The segmenter that ``settings`` asks for; other weights never stand in."""
    from mousecmr_data.inference.predictor import load_model

    return load_model(settings.weights, device=settings.device, cache=cache, engine=settings.engine)


def _segment_one(
    one: FoundScan,
    digest: str,
    folder: Path,
    settings: SegmentConfig,
    segmenter: Predictor,
    weights: dict[str, Any],
    tell: Callable[[BatchEvent], None],
) -> tuple[dict[str, Any], BatchEvent]:
    """The row of a mouse, from an earlier run or done now, and what to tell of it."""
    place = folder / one.name
    made_of = [digest, settings.table(), weights["sha256"], __version__]
    key = hashlib.sha256(json.dumps(made_of, default=str).encode()).hexdigest()
    record = read_record(place)
    if record and record["key"] == key:
        (place / OUTDATED_FILE).unlink(missing_ok=True)
        row = {**record["mouse"], "status": "as before", "seconds": record.get("seconds")}
        return row, BatchEvent("as before", one.name)
    tell(BatchEvent("reading", one.name))
    ds = read_scan(one, spacing=settings.spacing, axes=settings.axes, frame_time_ms=settings.frame_time_ms)
    total, so_far = ds.sizes["frame"] * ds.sizes["slice"], 0

    def progress(n: int) -> None:
        nonlocal so_far
        so_far += n
        tell(BatchEvent("slices", one.name, so_far, total))

    result = analyze(ds, segmenter, settings, progress, one.name)
    write_result(result, place, settings, one, key)
    row = {**result.mouse, "status": "done", "seconds": round(result.seconds, 3)}
    return row, BatchEvent("done", one.name, total, total, result)


def _write_tables(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Write the tables over all mice; returns that of the mice."""
    first = ["mouse", "status", "error"]
    mice = pd.DataFrame(rows)
    mice = mice.reindex(columns=[*first, *(c for c in mice.columns if c not in (*first, "input"))])
    whole_numbers = [c for c in ("frames", "slices", "ed_frame", "es_frame") if c in mice]
    mice = mice.astype(dict.fromkeys(whole_numbers, "Int64"))
    frames, slices, flags = [], [], []
    for row in rows:
        if row["status"] == "failed":
            continue
        place = folder / row["mouse"]
        f, s = read_tables(place)
        frames.append(f)
        slices.append(s)
        record = read_record(place) or {"flags": []}
        flags += [{"mouse": row["mouse"], **flag, "marks": row["marks"]} for flag in record["flags"]]
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    flagged = pd.DataFrame(flags, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    joined = [pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (frames, slices)]
    for name, table in zip(
        (MICE_FILE, ALL_FRAMES_FILE, ALL_SLICES_FILE, FLAGS_FILE), (mice, *joined, flagged), strict=True
    ):
        with atomic_path(folder / name) as partial:
            table.to_csv(partial, index=False)
    return mice


def _describe_weights(settings: SegmentConfig, segmenter: Predictor) -> dict[str, Any]:
    """Which weights, with their checksum."""
    from mousecmr_data.inference.predictor import list_models

    card = list_models().get(settings.weights)
    sha256 = card.weights.sha256 if card else _hash_files([Path(settings.weights)])
    origin = segmenter.origin
    return {
        "name": origin.name,
        "sha256": sha256,
        "trained_on": origin.trained_on,
        "limits": origin.limits,
        "synthetic_training": origin.synthetic_training,
        "engine": segmenter.engine.name,
    }


def _describe_input(kind: str, paths: Sequence[Path]) -> dict[str, Any]:
    """What the manifest says of a mouse's files."""
    size = sum(p.stat().st_size for p in paths)
    return {"format": kind, "files": len(paths), "bytes": size, "sha256": _hash_files(paths)}


def _hash_files(paths: Sequence[Path]) -> str:
    """Of the files' names and content; of a file alone its content."""
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode())
        with path.open("rb") as f:
            while block := f.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _list_versions() -> dict[str, str]:
    found = {"mousecmr-data": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}
