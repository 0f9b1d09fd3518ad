"""Fetch: bring what is missing into the cache, verified.

Every file is tried; what fails is told at the end, in one error. A file that another process is
downloading is waited for, not downloaded twice. What has arrived of an interrupted file stays beside
its place and is resumed by the next run, whoever starts it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.files import cache as places
from mousecmr_data.files import failure, pool, sources, space, state, watch
from mousecmr_data.files.obtain import Obtainer, Task
from mousecmr_data.files.patience import PATIENCE, Patience
from mousecmr_data.files.progress import Event, Progress, human
from mousecmr_data.files.state import FileState
from mousecmr_data.schema.manifest import Manifest

JOBS = 4
"""Transfers at a time: fast enough, and polite to one host."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch did."""

    paths: dict[str, Path]
    """By mouse: all that were asked for."""
    downloaded: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the user should know: hosts that served wrong bytes, damaged files that were replaced, …"""


def fetch(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    jobs: int = JOBS,
    progress: Progress = None,
    offline: bool | None = None,
    patience: Patience = PATIENCE,
) -> dict[str, Path]:
    """The path of each mouse's verified file; downloads what is missing.

    Parameters are those of :func:`fetch_report`, which also tells what was done.
    """
    return fetch_report(
        manifest, mice, cache=cache, jobs=jobs, progress=progress, offline=offline, patience=patience
    ).paths


def fetch_report(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    jobs: int = JOBS,
    progress: Progress = None,
    offline: bool | None = None,
    patience: Patience = PATIENCE,
) -> Fetched:
    """Fetch ``mice`` (all where None) of ``manifest``.

    ``jobs``: transfers at a time. ``progress``: None shows bars on a terminal when it takes a while,
    True always, False never, a callable gets each :class:`~mousecmr_data.files.progress.Event`.
    ``offline``: no network traffic (default: ``MOUSECMR_OFFLINE``).

    Raises MissingDataError (offline, or nothing to download from), DownloadError and its kind
    ChecksumError (after all files were tried), CacheError (disk full, folder not writable),
    UnknownNameError (a mouse that is not in the manifest).
    """
    barred = sources.offline(offline)
    folder = places.folder(manifest, cache)
    tasks = [
        Task(folder, entry, sources.of(manifest, entry, barred)) for entry in state.select(manifest, mice).values()
    ]
    return _run(tasks, f"{manifest.name} {manifest.version[:12]}", jobs, progress, barred, patience)


def fetch_weights(
    manifest: Manifest,
    name: str | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress = None,
    offline: bool | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """The path of the weights file ``name`` (the manifest's first where None); downloads it if missing."""
    known = manifest.weights
    if not known or (name is not None and name not in known):
        raise UnknownNameError(
            f"{manifest.name} has no weights {name!r}.",
            f"one of {', '.join(map(repr, known))}" if known else "a manifest with weights.toml",
            "mousecmr info",
        )
    weights = known[name] if name is not None else next(iter(known.values()))
    barred = sources.offline(offline)
    task = Task(
        places.weights_folder(weights, cache),
        places.weights_entry(weights),
        sources.of(manifest, weights, barred),
    )
    return _run([task], f"weights {weights.name}", 1, progress, barred, patience).paths[weights.name]


def _run(tasks: list[Task], title: str, jobs: int, progress: Progress, barred: bool, patience: Patience) -> Fetched:
    paths = {t.entry.mouse: t.path for t in tasks}
    entries = {t.entry.mouse: t.entry for t in tasks}
    states = state.of_entries(tasks[0].folder, entries) if tasks else {}
    missing = [t for t in tasks if states[t.entry.mouse] is not FileState.VERIFIED]
    if not missing:
        return Fetched(paths)
    stop = threading.Event()
    with watch.watching(progress) as tell:
        obtainer = Obtainer(patience, tell, stop)
        here = [t for t in missing if t.path.is_file()]
        if here:
            size = sum(t.path.stat().st_size for t in here)
            text = f"{title}: {len(here)} files are here without a stamp; hashing {human(size)}."
            tell(Event("plan", total=size, text=text))
        pool.run(obtainer.check, here, jobs, stop)
        obtainer.settle()
        wanted = [t for t in missing if t.entry.mouse not in obtainer.good]
        if wanted:
            if all(not t.sources for t in wanted):
                raise failure.nowhere(title, [t.entry for t in wanted], wanted[0].folder, barred)
            plan = space.plan(title, wanted)
            tell(Event("plan", total=plan.total, text=plan.text))
            pool.run(obtainer.obtain, wanted, jobs, stop)
            obtainer.close()
        tell(Event("end"))
    if obtainer.failed:
        raise failure.summary(obtainer.failed, len(wanted), barred)
    return Fetched(paths, tuple(obtainer.downloaded), tuple(obtainer.notes))
