"""A cohort segmented by one call: a file a mouse, in one process, in several, or on a dask cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.parallel import map_in_processes
from mousecmr_data.baseline.prediction import AGAIN, ATTR_SETTINGS, How, Made, Mice, attrs_of, predict_one, segmenter_of
from mousecmr_data.errors import ArgumentError, CacheError, FileLayoutError

if TYPE_CHECKING:
    from distributed import Client

Done = Callable[[str], None]
LOCK = "predict"


def predict(
    mice: Mice,
    folder: str | Path,
    how: How,
    *,
    redo: bool = False,
    workers: int = 1,
    client: Client | None = None,
    done: Done | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Made, ...]:
    """Segment every mouse of ``mice`` (a cohort, or :class:`~mousecmr_data.baseline.prediction.Files`).

    ``folder`` gets an HDF5 file a mouse in the dataset's layout, written whole or not at all, with the settings
    and the weights' checksum in its attributes. What is there already, with the same settings, is not done again:
    a run that was killed goes on where it stopped. Masks do not depend on how the work is spread.

    Parameters
    ----------
    redo
        Segment again what was segmented with other settings or from other files, instead of refusing.
    workers
        Processes on this machine, the cores shared among them. More than one needs a main module that can be
        imported (``if __name__ == "__main__"``).
    client
        A ``distributed.Client`` instead: each mouse is a task. ``folder``, and the source's files, must be
        within reach of its workers under the same paths.
    done
        Called with the name of each mouse that is ready, in the order in which they end.
    progress
        Called with shares of a mouse, in a single process.

    Returns what became of each mouse, in the order of ``mice``; one that failed does not stop the rest.

    Raises :class:`~mousecmr_data.errors.FileLayoutError` where ``folder`` holds masks of other settings (nothing is
    written then), :class:`~mousecmr_data.errors.CacheError` where another run is writing to it.
    """
    names = mice.mice
    if not names:
        raise ArgumentError("There is no mouse to segment.", "at least one")
    folder = Path(folder).resolve()
    sha256 = how.sha256()
    settings = how.settings(segmenter_of(how, sha256), sha256)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder, LOCK, partial(_busy, folder)):
        for leftover in folder.glob(".*.part"):  # of a run that was killed: nobody else writes here
            leftover.unlink()
        if not redo:
            _refuse_others(folder, settings)
        threads = max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
        work = partial(predict_one, mice, how, settings, folder, redo, threads)
        if client is not None:
            found = _on_cluster(client, work, names, done)
        elif workers > 1:
            found = map_in_processes(work, names, workers, done)
        else:
            found = {}
            for name in names:
                found[name] = work(name, progress=progress)
                if done:
                    done(name)
    return tuple(found[name] for name in names)


def _on_cluster(
    client: Client, work: Callable[[str], Made], names: Iterable[str], done: Done | None
) -> dict[str, Made]:
    from distributed import as_completed

    running = {client.submit(work, name, pure=False, key=f"predict-{name}"): name for name in names}
    found = {}
    for future in as_completed(running):  # type: ignore[no-untyped-call]
        found[running[future]] = future.result()
        if done:
            done(running[future])
    return found


def _refuse_others(folder: Path, settings: dict[str, str]) -> None:
    """Masks of different weights in one folder would be taken for one set."""
    for path in sorted(folder.glob("*.h5")):
        found = attrs_of(path).get(ATTR_SETTINGS)
        if found == json.dumps(settings):
            continue
        other = json.loads(found) if found else {}
        differ = {k: v for k, v in other.items() if settings.get(k) != v}
        raise FileLayoutError(
            f"{path} was made with other settings: {differ or 'it does not say which'}.",
            f"{ {k: settings[k] for k in differ} if differ else settings }",
            AGAIN,
        )


def _busy(folder: Path) -> None:
    raise CacheError(f"Another run is writing to {folder}.", "one at a time", "wait for it, or give another folder")
