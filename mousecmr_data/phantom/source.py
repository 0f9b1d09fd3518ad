"""The phantoms as a source of mice: files made when they are first needed, kept in the cache."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mousecmr_data.facts import manifest as manifests
from mousecmr_data.facts.manifest import FileEntry, Group, Manifest, SplitScheme
from mousecmr_data.files import cache as places
from mousecmr_data.phantom import VERSION, Plan, plans, write

EXTERNAL = "external"
"""The only split of the cohorts that stand in for the article's external test sets."""


@cache
def manifest(cohort: str) -> Manifest:
    """The manifest of a synthetic cohort: the real one's splits and constants, files without checksums.

    The cohort "phantom" has the real mice's names, so it has their splits too; the others have a
    single split, "external", in every scheme.
    """
    real = manifests.embedded()
    mice = tuple(plans(cohort))
    if set(mice) == set(real.files):
        splits = {
            name: replace(scheme, caveat="Synthetic mice; the names are those of the real ones.")
            for name, scheme in real.splits.items()
            if scheme.mice
        }
    else:
        caveat = "Stands in for an external test set."
        splits = {
            name: SplitScheme(name, "Every mouse is external.", caveat, {EXTERNAL: mice}, {})
            for name, scheme in real.splits.items()
            if scheme.mice
        }
    phenotypes = [plan.phenotype for plan in plans(cohort).values()]
    return replace(
        real,
        name=cohort,
        title=f"Synthetic mouse cardiac cine MRI ({cohort})",
        version=VERSION,
        url="",
        homepage="",
        licence="CC0-1.0",
        synthetic=True,
        files={m: FileEntry(m, f"{m}.h5") for m in mice},
        splits=splits,
        groups=tuple(Group(g, phenotypes.count(g), "the phantom's plan") for g in dict.fromkeys(phenotypes)),
        counts={},
        weights={},
        published=None,
        known_issues=(),
        paper={},
    )


@dataclass(frozen=True)
class PhantomSource:
    """A synthetic cohort below ``cache_root`` (None: the default place)."""

    name: str
    cache_root: Path | None = None

    @property
    def version(self) -> str:
        """Version of the generator."""
        return VERSION

    @property
    def manifest(self) -> Manifest:
        """The cohort's manifest."""
        return manifest(self.name)

    @property
    def synthetic(self) -> bool:
        """Always."""
        return True

    def file(self, mouse: str) -> Path:
        """Where the mouse's file lies, or will lie."""
        return places.place(self.manifest, self.manifest.files[mouse], self.cache_root)

    def ready(self, mice: Iterable[str]) -> None:
        """Make the files that are not there yet, one after the other."""
        make(self, mice)

    def summary(self, mouse: str) -> Plan:
        """The mouse in numbers: its plan has them, nothing is rendered."""
        return plans(self.name)[mouse]

    def phenotype(self, mouse: str) -> str:
        """The group the mouse was drawn for."""
        return plans(self.name)[mouse].phenotype

    def states(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Made, or not made yet."""
        return {m: "made here" if self.file(m).exists() else "not made yet" for m in mice}


def make(
    source: PhantomSource,
    mice: Iterable[str],
    jobs: int = 1,
    done: Callable[[str], None] | None = None,
) -> None:
    """Make the missing files of ``mice`` in ``jobs`` processes, calling ``done`` with each name.

    More than one process needs a main module that can be imported (``if __name__ == "__main__"``).
    """
    missing = [m for m in mice if not source.file(m).exists()]
    for mouse in missing[:1]:
        source.file(mouse).parent.mkdir(parents=True, exist_ok=True)
    if jobs == 1 or len(missing) == 1:
        for mouse in missing:
            _make(source, mouse)
            if done:
                done(mouse)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        running = {pool.submit(_make, source, mouse): mouse for mouse in missing}
        for future in as_completed(running):
            future.result()
            if done:
                done(running[future])


def _make(source: PhantomSource, mouse: str) -> None:
    write(plans(source.name)[mouse], source.file(mouse))
