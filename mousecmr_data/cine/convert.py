"""Cohorts become stores: the layout cache filled ahead of time, or a new store to keep and share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mousecmr_data.cine import store
from mousecmr_data.cine.opening import FileOpener
from mousecmr_data.errors import CacheError

if TYPE_CHECKING:
    from mousecmr_data.cine.cohort import Cohort
    from mousecmr_data.cine.store import Row

Done = Callable[[str], None]


def write(cohort: Cohort, path: str | PathLike[str], jobs: int = 1, done: Done | None = None) -> Path:
    """Write ``cohort`` to a new store at ``path`` in ``jobs`` processes, calling ``done`` with each name.

    More than one process needs a main module that can be imported (``if __name__ == "__main__"``).
    """
    if isinstance(cohort.opener, FileOpener):  # or each mouse would be converted twice
        cohort = cohort.opened_by(replace(cohort.opener, layouts=None))
    with store.new(path, cohort.split_scheme) as (folder, rows):
        found = _each(cohort, _write, folder, jobs, done)
        rows.update({name: found[name] for name in cohort.mice})
    return Path(path)


def fill(cohort: Cohort, jobs: int = 1, done: Done | None = None) -> Path:
    """Convert every mouse of ``cohort`` into its layout cache; returns the cache's folder."""
    opener = cohort.opener
    if not isinstance(opener, FileOpener) or opener.layouts is None:
        raise CacheError("This cohort has no layout cache.", "a cohort of files", "load(layout_cache=True)")
    _each(cohort, _fill, opener.layouts.folder, jobs, done)
    return opener.layouts.folder


def _write(cohort: Cohort, mouse: str, folder: Path) -> Row:
    cohort.source.ready([mouse])
    return store.write_mouse(folder, mouse, cohort[mouse])


def _fill(cohort: Cohort, mouse: str, folder: Path) -> Row:  # noqa: ARG001 (same shape as _write)
    cohort.source.ready([mouse])
    assert isinstance(cohort.opener, FileOpener)  # noqa: S101 (checked by fill)
    assert cohort.opener.layouts  # noqa: S101
    return cohort.opener.layouts.convert(cohort.opener.parts(mouse))


def _each(
    cohort: Cohort, work: Callable[[Cohort, str, Path], Row], folder: Path, jobs: int, done: Done | None
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    if jobs == 1 or len(cohort) == 1:
        for mouse in cohort.mice:
            rows[mouse] = work(cohort, mouse, folder)
            if done:
                done(mouse)
        return rows
    with ProcessPoolExecutor(min(jobs, len(cohort)), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(work, cohort, mouse, folder): mouse for mouse in cohort.mice}
        try:
            for future in as_completed(running):
                rows[running[future]] = future.result()
                if done:
                    done(running[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows
