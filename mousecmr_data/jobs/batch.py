"""Many mice, one after the other: what is done is not done again, what fails does not stop the rest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

import mousecmr_data
from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data.errors import ArgumentError, MissingDataError, MouseCMRError
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.read import read_scan
from mousecmr_data.jobs import intake, mouse, writing
from mousecmr_data.jobs.mouse import Result
from mousecmr_data.jobs.settings import RESEARCH, Settings

if TYPE_CHECKING:
    from mousecmr_data.baseline import Segmenter

MICE, FRAMES, SLICES, FLAGS, MANIFEST = "mice.csv", "frames.csv", "slices.csv", "flags.csv", "manifest.json"
PACKAGES = ("numpy", "scipy", "xarray", "torch", "nibabel", "pydicom", "highdicom", "brukerapi")
BLOCK = 1024**2
LOADING = "Loading the weights. The first time, engines are also tried out on this computer, for up to a minute."


@dataclass(frozen=True)
class Event:
    """Something that happened: loading the weights; to mice: found (``total`` of them), reading, ``done`` of ``total``
    2D slices segmented, done (with its result), as before (made by an earlier run), or failed (with its error)."""

    kind: Literal["loading", "found", "reading", "slices", "done", "as before", "failed"]
    name: str = ""
    done: int = 0
    total: int = 0
    result: Result | None = None
    error: MouseCMRError | None = None


@dataclass
class Run:
    """What :func:`run` did."""

    folder: Path
    mice: pd.DataFrame
    """A row a mouse: numbers, flags, ``status`` ("done", "as before", "failed") and ``error``."""
    errors: dict[str, MouseCMRError] = field(default_factory=dict)


def run(
    inputs: Sequence[Path],
    folder: Path,
    settings: Settings | None = None,
    *,
    told: Callable[[Event], None] | None = None,
    cache: Path | None = None,
    scratch: Path | None = None,
    segmenter: Segmenter | None = None,
) -> Run:
    """Segment the mice in ``inputs`` (files, folders, zip archives) into ``folder``.

    A folder a mouse, and four tables and a manifest over all. A mouse whose folder was made from the same bytes
    with the same settings and weights is not done again. ``segmenter``: loaded before, for the weights that
    ``settings`` names.

    Raises :class:`~mousecmr_data.errors.MissingDataError` where the weights are neither in the cache nor
    reachable, before anything is read or written, and where there is no mouse in ``inputs`` at all. What goes
    wrong with one mouse is in ``Run.errors`` and in the tables.
    """
    settings, tell = settings or Settings(), told or (lambda _: None)
    if not inputs:
        raise ArgumentError("There is nothing to segment.", "files, folders or zip archives")
    started = datetime.now(UTC)
    tell(Event("loading"))
    segmenter = segmenter or load(settings, cache)
    weights = _weights(settings, segmenter)
    done = Run(folder, pd.DataFrame())
    row: dict[str, Any]
    rows: list[dict[str, Any]] = []
    with intake.gathered(inputs, scratch) as (found, refused):
        if not found:
            raise (
                refused[0].error
                if len(refused) == 1
                else MissingDataError(
                    f"None of {len(refused)} inputs can be read. {refused[0].name}: {refused[0].error.found}",
                    refused[0].error.expected,
                )
            )
        tell(Event("found", total=len(found) + len(refused)))
        for r in refused:
            tell(Event("failed", r.name, error=r.error))
            done.errors[r.name] = r.error
            writing.outdate(folder / r.name, r.error)
            row = {"mouse": r.name, "status": "failed", "error": r.error.found}
            rows.append(row)
            with suppress(OSError):  # a folder, or nothing there
                row["input"] = _input("", [r.path])
        for one in found:
            row = {"mouse": one.name}
            rows.append(row)
            try:
                row["input"] = _input(one.kind, one.paths)
                made, event = _one(one, row["input"]["sha256"], folder, settings, segmenter, weights, tell)
                row |= made
            except Exception as e:  # one mouse must not stop the rest, whatever it is
                error = e if isinstance(e, MouseCMRError) else MouseCMRError(f"{one.name}: {type(e).__name__}: {e}")
                done.errors[one.name] = error = intake.in_users_names(error, scratch)
                event = Event("failed", one.name, error=error)
                row |= {"status": "failed", "error": error.found}
                writing.outdate(folder / one.name, error)
            tell(event)
    done.mice = _tables(folder, rows)
    manifest = {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "use": RESEARCH,
        "versions": _versions(),
        "weights": weights,
        "settings": settings.table(),
        "mice": [{k: r.get(k) for k in ("mouse", "status", "error", "input", "seconds", "marks")} for r in rows],
    }
    with atomic_path(folder / MANIFEST) as partial:
        writing.dump(manifest, partial)
    return done


def load(settings: Settings, cache: Path | None = None) -> Segmenter:
    """The segmenter that ``settings`` asks for; other weights never stand in."""
    from mousecmr_data import baseline

    return baseline.load(settings.weights, device=settings.device, cache=cache, engine=settings.engine)


def _one(
    one: FoundScan,
    digest: str,
    folder: Path,
    settings: Settings,
    segmenter: Segmenter,
    weights: dict[str, Any],
    tell: Callable[[Event], None],
) -> tuple[dict[str, Any], Event]:
    """The row of a mouse, from an earlier run or done now, and what to tell of it."""
    place = folder / one.name
    made_of = [digest, settings.table(), weights["sha256"], mousecmr_data.__version__]
    key = hashlib.sha256(json.dumps(made_of, default=str).encode()).hexdigest()
    record = writing.read_record(place)
    if record and record["key"] == key:
        (place / writing.OUTDATED).unlink(missing_ok=True)
        row = {**record["mouse"], "status": "as before", "seconds": record.get("seconds")}
        return row, Event("as before", one.name)
    tell(Event("reading", one.name))
    ds = read_scan(one, spacing=settings.spacing, axes=settings.axes, frame_time_ms=settings.frame_time_ms)
    total, so_far = ds.sizes["frame"] * ds.sizes["slice"], 0

    def progress(n: int) -> None:
        nonlocal so_far
        so_far += n
        tell(Event("slices", one.name, so_far, total))

    result = mouse.segment(ds, segmenter, settings, progress, one.name)
    writing.write(result, place, settings, one, key)
    row = {**result.mouse, "status": "done", "seconds": round(result.seconds, 3)}
    return row, Event("done", one.name, total, total, result)


def _tables(folder: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
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
        f, s = writing.read_tables(place)
        frames.append(f)
        slices.append(s)
        record = writing.read_record(place) or {"flags": []}
        flags += [{"mouse": row["mouse"], **flag, "marks": row["marks"]} for flag in record["flags"]]
    columns = ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    flagged = pd.DataFrame(flags, columns=columns).astype({"frame": "Int64", "slice": "Int64"})
    joined = [pd.concat(t, ignore_index=True) if t else pd.DataFrame() for t in (frames, slices)]
    for name, table in zip((MICE, FRAMES, SLICES, FLAGS), (mice, *joined, flagged), strict=True):
        with atomic_path(folder / name) as partial:
            table.to_csv(partial, index=False)
    return mice


def _weights(settings: Settings, segmenter: Segmenter) -> dict[str, Any]:
    """Which weights, with their checksum."""
    from mousecmr_data import baseline

    card = baseline.cards().get(settings.weights)
    sha256 = card.weights.sha256 if card else _sha256([Path(settings.weights)])
    origin = segmenter.origin
    return {
        "name": origin.name,
        "sha256": sha256,
        "trained_on": origin.trained_on,
        "limits": origin.limits,
        "synthetic_training": origin.synthetic_training,
        "engine": segmenter.engine.name,
    }


def _input(kind: str, paths: Sequence[Path]) -> dict[str, Any]:
    """What the manifest says of a mouse's files."""
    size = sum(p.stat().st_size for p in paths)
    return {"format": kind, "files": len(paths), "bytes": size, "sha256": _sha256(paths)}


def _sha256(paths: Sequence[Path]) -> str:
    """Of the files' names and content; of a file alone its content."""
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode())
        with path.open("rb") as f:
            while block := f.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"mousecmr-data": mousecmr_data.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}
