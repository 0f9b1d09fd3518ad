"""Cohorts become stores: the layout cache filled ahead of time, or a new store to keep and share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mousecmr_data._utils.parallel import map_in_processes
from mousecmr_data.cine import store
from mousecmr_data.cine.opening import FileOpener
from mousecmr_data.errors import CacheError

if TYPE_CHECKING:
    from mousecmr_data.cine.cohort import Cohort
    from mousecmr_data.cine.store import Row

Done = Callable[[str], None]


def write(cohort: Cohort, path: str | PathLike[str], jobs: int = 1, done: Done | None = None) -> Path:
    """Write ``cohort`` to a new store at ``path`` in ``jobs`` processes, calling ``done`` with each name.

    More than one process needs a main module that can be imported: see :func:`_utils.parallel.map_in_processes`.
    """
    if isinstance(cohort.opener, FileOpener):  # or each mouse would be converted twice
        cohort = cohort.opened_by(replace(cohort.opener, layouts=None))
    with store.new(path, cohort.split_scheme) as (folder, rows):
        found = map_in_processes(partial(_write, cohort, folder), cohort.mice, jobs, done)
        rows.update({name: found[name] for name in cohort.mice})
    return Path(path)


def fill(cohort: Cohort, jobs: int = 1, done: Done | None = None) -> Path:
    """Convert every mouse of ``cohort`` into its layout cache; returns the cache's folder."""
    opener = cohort.opener
    if not isinstance(opener, FileOpener) or opener.layouts is None:
        raise CacheError("This cohort has no layout cache.", "a cohort of files", "load(layout_cache=True)")
    map_in_processes(partial(_fill, cohort), cohort.mice, jobs, done)
    return opener.layouts.folder


def _write(cohort: Cohort, folder: Path, mouse: str) -> Row:
    cohort.source.ready([mouse])
    return store.write_mouse(folder, mouse, cohort[mouse])


def _fill(cohort: Cohort, mouse: str) -> Row:
    cohort.source.ready([mouse])
    assert isinstance(cohort.opener, FileOpener)  # noqa: S101 (checked by fill)
    assert cohort.opener.layouts  # noqa: S101
    return cohort.opener.layouts.convert(mouse, cohort.source.file(mouse), partial(cohort.opener.parts, mouse))
