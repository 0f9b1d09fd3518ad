"""Cohorts: named mice of one source, opened lazily, one at a time."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import xarray as xr

import mousecmr_data
from mousecmr_data._utils.outputs import check_apart
from mousecmr_data._utils.parallel import ProgressCallback, count_results, map_in_processes
from mousecmr_data._utils.tables import read_table
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.dataset.model import check_not_empty
from mousecmr_data.dataset.notebook import N_PICTURES, draw_mouse, format_block
from mousecmr_data.dataset.samples import Frames, build_slices, check_frames, read_frame_tables
from mousecmr_data.dataset.source import FileSource, Opener, Source
from mousecmr_data.dataset.zarr_store import MouseEntry, create_store, write_mouse
from mousecmr_data.download.cache import list_input_folders
from mousecmr_data.errors import (
    ArgumentError,
    CacheError,
    ManifestError,
    MissingExtraError,
    MouseCMRError,
    UnknownNameError,
    UnlabelledError,
    find_similar,
)
from mousecmr_data.schema.manifest import Manifest, resolve_name, resolve_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON_DISK = ("verified", "made here", "local store")
"""States of files that notebooks may show: they are here, and are what they should be."""


def write_store(
    cohort: Cohort, path: str | PathLike[str], workers: int = 1, progress: ProgressCallback | None = None
) -> Path:
    """Write ``cohort`` to a new store at ``path`` in ``workers`` processes and return ``path``.

    ``progress`` is called with 1 after each mouse. Raises OutputError if ``path`` exists, or lies in or holds a
    folder or file of the cohort.
    """
    check_apart([Path(path)], list_inputs(cohort))
    if isinstance(cohort.opener, FileOpener):  # the layout cache would convert each mouse a second time
        cohort = cohort.with_opener(replace(cohort.opener, layouts=None))
    with create_store(path, cohort.split_scheme) as (folder, entries):
        results = map_in_processes(partial(_write_mouse, cohort, folder), cohort.mice, workers, count_results(progress))
        entries.update({name: results[name] for name in cohort.mice})
    return Path(path)


def list_inputs(cohort: Cohort) -> list[Path]:
    """Return the files of ``cohort``, and the folders that they come from: no output may meet them."""
    return [*map(cohort.source.get_path, cohort.mice), *list_input_folders(cohort.source.manifest)]


def _write_mouse(cohort: Cohort, folder: Path, mouse: str) -> MouseEntry:
    return write_mouse(folder, mouse, cohort[mouse])


def fill_layout_cache(cohort: Cohort, workers: int = 1, progress: ProgressCallback | None = None) -> Path:
    """Convert every mouse of ``cohort`` into its layout cache and return the cache's folder."""
    opener = cohort.opener
    if not isinstance(opener, FileOpener) or opener.layouts is None:
        raise CacheError("This cohort has no layout cache.", "a cohort of files", "load(layout_cache=True)")
    map_in_processes(opener.convert, cohort.mice, workers, count_results(progress))
    return opener.layouts.folder


@dataclass(frozen=True)
class CohortMember:
    """One mouse of a cohort."""

    mouse: str
    split: str | None
    phenotype: str


class Cohort(Mapping[str, xr.Dataset]):
    """Mice of one source, in order: a mapping from names to datasets, made by :func:`mousecmr_data.load`.

    ``for name in cohort``, ``for ds in cohort.values()``, ``cohort["Mouse4"]``, ``"Mouse4" in cohort``,
    ``len(cohort)``, ``dict(cohort)``. Opening is lazy: pixels are read on first use. Cohorts can be pickled.
    """

    # Those of Mapping would open every mouse to compare, and make cohorts unusable as keys.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        source: Source,
        members: Sequence[CohortMember],
        opener: Opener,
        split_scheme: str = "",
        chunks: Mapping[str, int] | None = None,
    ) -> None:
        self.source, self.opener, self.split_scheme, self.chunks = source, opener, split_scheme, chunks
        self._members = {m.mouse: m for m in members}
        if len(self._members) != len(members):
            raise ArgumentError("A mouse is named twice.", "each mouse once")

    @property
    def mice(self) -> tuple[str, ...]:
        """Names of the mice, in order."""
        return tuple(self._members)

    @property
    def phenotypes(self) -> dict[str, str]:
        """The group of each mouse, or "not published"."""
        return {name: m.phenotype for name, m in self._members.items()}

    @property
    def splits(self) -> dict[str, str]:
        """The split of each mouse in ``split_scheme``, or "none"."""
        return {name: m.split or "none" for name, m in self._members.items()}

    @property
    def synthetic(self) -> bool:
        """Whether the source says that its mice are synthetic; see also :meth:`list_synthetic`."""
        return self.source.synthetic

    def list_synthetic(self) -> list[str]:
        """Return the names of the mice that are synthetic, by their source or their own files, which are opened."""
        return [name for name in self if self.synthetic or self[name].attrs["synthetic"]]

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    @overload
    def __getitem__(self, name: str, /) -> xr.Dataset: ...
    @overload
    def __getitem__(self, name: slice, /) -> Cohort: ...
    def __getitem__(self, name: str | slice, /) -> xr.Dataset | Cohort:
        """Open one mouse; see :mod:`mousecmr_data.dataset.model` for what its dataset holds.

        A slice, as in ``cohort[:5]``, is a cohort of the mice at these positions.
        """
        if isinstance(name, slice):
            return self.select(self.mice[name])
        if not isinstance(name, str):
            step = "cohort[cohort.mice[0]], cohort[:5] or cohort.select(names)"
            raise UnknownNameError(f"cohort[{name!r}]: mice are opened by name.", "a name or a slice", step)
        member = self._members[resolve_name(name, self._members)]
        self.source.prepare([name])
        ds = self.opener.open_mouse(name, {"split": member.split or "none", "phenotype": member.phenotype})
        if self.chunks is None:
            return ds
        try:
            return ds.chunk(self.chunks or {"frame": 1})
        except ImportError as e:
            raise MissingExtraError.from_module("dask", "dask") from e

    def select(self, mice: Iterable[str]) -> Cohort:
        """Return a cohort of the named mice only, in the order given.

        Raises UnknownNameError (no such mouse), ArgumentError (one that is named twice; not a list of names).
        """
        members = [self._members[name] for name in resolve_names(mice, self._members, allow_none=True)]
        return Cohort(self.source, members, self.opener, self.split_scheme, self.chunks)

    def filter(
        self,
        *,
        phenotype: str | Iterable[str] | None = None,
        split: str | Iterable[str] | None = None,
        field_strength: float | None = None,
        where: Callable[[pd.Series[Any]], object] | None = None,
    ) -> Cohort:
        """Return a cohort of the mice that fulfil all conditions; it may be empty.

        ``phenotype`` and ``split``: one name, or several. ``field_strength`` in tesla, of the source. ``where``: a
        function of a row of :meth:`to_dataframe`, such as ``lambda row: row.slices > 8``, that returns whether to keep
        the mouse; the row's ``name`` is that of the mouse. Without ``where``, no file is read.

        Raises UnknownNameError for a phenotype or split that no mouse of this cohort has.
        """
        kept = list(self._members)
        for kind, wanted, groups in (("phenotype", phenotype, self.phenotypes), ("split", split, self.splits)):
            if wanted is not None:
                names = [wanted] if isinstance(wanted, str) else list(wanted)
                known = sorted(set(groups.values()))
                for name in names:
                    if name not in known:
                        step = f"cohort.{kind}s lists them"
                        raise UnknownNameError.from_name(f"{kind} in this cohort:", name, known, step)
                kept = [mouse for mouse in kept if groups[mouse] in names]
        if field_strength is not None:
            fact = self.source.manifest.acquisition.get("field_strength")
            kept = kept if fact and np.isclose(fact.value, field_strength) else []
        if where is not None and kept:
            kept = [str(mouse) for mouse, row in self.select(kept).to_dataframe().iterrows() if where(row)]
        return self.select(kept)

    def measure(self) -> pd.DataFrame:
        """Return one row per mouse, indexed by its name: what :func:`mousecmr_data.measure` returns.

        Columns: edv_ul, esv_ul, sv_ul (µL), ef_percent, mass_ed_mg, mass_es_mg, split, phenotype, synthetic. Mice
        without an ED/ES pair of labelled frames have missing values (NaN). Opens every mouse.
        """
        check_not_empty(self)
        columns = ("edv_ul", "esv_ul", "sv_ul", "ef_percent", "mass_ed_mg", "mass_es_mg")
        rows = []
        for name, member in self._members.items():
            ds, values = self[name], {}
            with suppress(UnlabelledError):
                values = mousecmr_data.measure(ds).to_dict()
            groups = {"split": member.split or "none", "phenotype": member.phenotype}
            about = {**groups, "synthetic": bool(ds.attrs["synthetic"])}
            rows.append({"mouse": name, **{c: values.get(c) for c in columns}, **about})
        return pd.DataFrame(rows).set_index("mouse").astype(dict.fromkeys(columns, float))

    def plot(self, limit: int = 12) -> Figure:
        """Plot the middle slice at ED of the first ``limit`` mice, with outlines; see :func:`mousecmr_data.plot`.

        These mice are opened.
        """
        return mousecmr_data.plot(self, limit=limit)

    def with_opener(self, opener: Opener) -> Cohort:
        """Return a cohort of the same mice that are opened by ``opener``."""
        return Cohort(self.source, list(self._members.values()), opener, self.split_scheme, self.chunks)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per mouse, indexed by its name.

        Columns: slices, frames, labelled_frames (tuple of 0-based numbers), ed_frame, es_frame (missing
        without a pair), split, phenotype, synthetic, file, checksum (state of the file). Reads no images; for
        mice with more than two labelled frames it reads the masks, to find ES.
        """
        check_not_empty(self)
        statuses = self.source.get_statuses(self._members)
        tables = {}
        if isinstance(self.source, FileSource) and isinstance(self.opener, FileOpener):
            tables = dict(zip(self, read_frame_tables(self, self.opener), strict=True))
        rows = []
        for name, member in self._members.items():
            summary = tables[name].summarize() if tables else self.source.summarize(name)
            rows.append(
                {
                    "mouse": name,
                    "slices": summary.n_slices,
                    "frames": summary.n_frames,
                    "labelled_frames": summary.labelled_frames,
                    "ed_frame": summary.ed_frame,
                    "es_frame": summary.es_frame,
                    "split": member.split or "none",
                    "phenotype": member.phenotype,
                    "synthetic": self.synthetic,
                    "file": self.source.get_address(name),
                    "checksum": statuses[name],
                }
            )
        return pd.DataFrame(rows).set_index("mouse").astype({"ed_frame": "Int64", "es_frame": "Int64"})

    def to_datatree(self) -> xr.DataTree:
        """Return all mice as one tree, one node per mouse; pixels stay on disk."""
        self.source.prepare(self._members)
        tree = xr.DataTree.from_dict({name: self[name] for name in self._members})
        tree.attrs.update(source=self.source.name, version=self.source.version, synthetic=int(self.synthetic))
        return tree

    def slices(self, frames: Frames = "labelled") -> xr.Dataset:
        """Return all 2D slices of the selected frames as one lazy dataset; see
        :func:`mousecmr_data.dataset.samples.build_slices`.

        ``frames``: "labelled" (default), "unlabelled", "all", or phases such as ["ED", "ES"].
        """
        frames = check_frames(frames)
        self.source.prepare(self._members)
        return build_slices(self.values(), frames)

    def folds(self, k: int, *, stratify: bool = False, seed: int = 0) -> list[tuple[Cohort, Cohort]]:
        """Return ``k`` pairs (train, validation) of cohorts; each mouse is in exactly one validation cohort.

        All slices of a mouse are on one side. ``stratify`` spreads the mice of each phenotype evenly over the
        folds. The same seed gives the same folds. Raises ArgumentError if there are fewer mice than folds.
        """
        if not isinstance(k, Integral) or not 2 <= k <= len(self):
            raise ArgumentError(f"{k!r} folds of {len(self)} mice.", f"a whole number, 2 to {len(self)}")
        rng = np.random.default_rng(seed)
        groups = self.phenotypes if stratify else dict.fromkeys(self.mice, "")
        folds: list[set[str]] = [set() for _ in range(k)]
        start = 0
        for group in sorted(set(groups.values())):
            members = [mouse for mouse in self.mice if groups[mouse] == group]
            for i, index in enumerate(rng.permutation(len(members))):
                folds[(start + i) % k].add(members[index])
            start += len(members)
        pairs = []
        for fold in folds:
            train = self.select(m for m in self.mice if m not in fold)
            validation = self.select(m for m in self.mice if m in fold)
            check_no_leakage(train, validation)
            pairs.append((train, validation))
        return pairs

    def to_zarr(self, path: str | PathLike[str]) -> Path:
        """Write the cohort as a new Zarr v3 store, one group per mouse; see
        :mod:`mousecmr_data.dataset.zarr_store`.

        A failed write leaves nothing behind. ``mousecmr convert -o`` does the same with several processes.
        Raises OutputError if ``path`` exists, or lies in or holds a folder or file of the cohort.
        """
        return write_store(self, path)

    def __repr__(self) -> str:
        splits = sorted({m.split or "none" for m in self._members.values()})
        kind = "SYNTHETIC " if self.synthetic else ""
        return (
            f"<Cohort of {len(self)} {kind}mice from {self.source.name} {self.source.version[:12]}; "
            f"split{'s'[: len(splits) != 1]}: {', '.join(splits)}>"
        )

    def _repr_html_(self) -> str:
        """Return pictures of mice that are on this disk, source and counts by group as HTML for notebooks.

        Nothing is downloaded or made: other mice are counted.
        """
        statuses = self.source.get_statuses(self._members)
        here = [name for name in self if statuses[name] in ON_DISK]
        opener = self.opener
        if isinstance(opener, FileOpener) and opener.layouts:  # for one slice, no mouse is converted
            opener = replace(opener, layouts=None)
        pictures = []
        for name in here[:N_PICTURES]:
            with suppress(MouseCMRError):  # a file that is damaged is named when it is used
                attrs = {"split": self.splits[name], "phenotype": self.phenotypes[name]}
                pictures.append(draw_mouse(opener.open_mouse(name, attrs)))
        manifest = self.source.manifest
        facts = {
            "source": f"{self.source.name}, version {self.source.version[:12]}: {manifest.title}",
            "licence": manifest.licence,
            "split scheme": self.split_scheme or "none",
            "files": ", ".join(f"{n} {state}" for state, n in Counter(statuses.values()).items()) or "none",
        }
        counts = pd.crosstab(pd.Series(self.phenotypes), pd.Series(self.splits))
        counts = counts.rename_axis(index=None, columns="mice by phenotype and split")
        more = f"<p>{len(here) - len(pictures)} more on this disk</p>" if len(here) > len(pictures) else ""
        names = html.escape(", ".join(self._members))
        parts = [
            counts.to_html() if len(self) else "",
            *pictures,
            more,
            f"<details><summary>{len(self)} names</summary>{names}</details>",
            "<p><code>cohort['NAME']</code> opens one mouse, <code>cohort.to_dataframe()</code> lists all, "
            "<code>cohort.plot()</code> draws them.</p>",
        ]
        return format_block(repr(self).strip("<>"), facts, parts, self.synthetic)


def check_is_cohort(value: object, call: str) -> None:
    """Raise ArgumentError unless ``value`` is a cohort, with advice for the function ``call``."""
    if isinstance(value, Cohort):
        return
    if isinstance(value, str | PathLike):
        source = f"source={os.fspath(value)!r}"
        found = repr(os.fspath(value))
    else:
        source, found = "split='train'", f"a {type(value).__name__}"
    raise ArgumentError(f"{call} got {found}.", "a cohort", f"{call[:-1]}mousecmr_data.load({source}))")


def check_no_leakage(*cohorts: Cohort) -> None:
    """Raise ArgumentError if a mouse is in two of ``cohorts`` of the same source."""
    earlier: set[tuple[str, str]] = set()
    for cohort in cohorts:
        check_is_cohort(cohort, "train()")
        mice = {(cohort.source.name, mouse) for mouse in cohort.mice}
        if shared := earlier & mice:
            raise ArgumentError(
                f"{min(shared)[1]} is on both sides: its images would leak.",
                "cohorts without a mouse in common",
                "cohort.folds(5) or load(split=...)",
            )
        earlier |= mice


def assign_splits(manifest: Manifest, split: str | None, scheme_name: str) -> dict[str, str]:
    """Return the split of each mouse; raise ManifestError where splits are not disjoint."""
    if split is None and not any(s.mice for s in manifest.splits.values()):
        return {}  # a custom manifest without splits
    scheme = manifest.split_scheme(scheme_name)
    if split is not None and not isinstance(split, str):
        parts = ", ".join(map(repr, scheme.mice))
        raise ArgumentError(
            f"split={split!r} is not the name of a split.",
            f"one of {parts}, or None for all mice",
            "load one split after the other, or load() and cohort.select(mice)",
        )
    if split is not None and split not in scheme.mice:
        step = f"load(split={next(iter(scheme.mice))!r}), or None for all mice"
        raise UnknownNameError.from_name(f"split in the scheme {scheme_name!r}:", split, scheme.mice, step)
    assigned: dict[str, str] = {}
    for name, members in scheme.mice.items():
        if overlap := assigned.keys() & set(members):
            raise ManifestError(f"{min(overlap)} is in two splits of {scheme_name!r}.", "disjoint splits")
        assigned |= dict.fromkeys(members, name)
    return assigned


def select_mice(
    manifest: Manifest, mice: Iterable[str] | None, split: str | None, assigned: Mapping[str, str]
) -> list[str]:
    """Return the mice to load, in the manifest's order or the caller's; check that they belong to ``split``."""
    if mice is None:
        return [m for m in manifest.files if split is None or assigned.get(m) == split]
    names = resolve_names(mice, manifest.files)
    if split is not None and (others := [m for m in names if assigned.get(m) != split]):
        raise ArgumentError(
            f"{others[0]} is in the split {assigned.get(others[0], 'none')!r}, not in {split!r}.",
            "mice of the requested split",
            "leave out split=... or mice=...",
        )
    return names


def read_phenotypes(table: Any, manifest: Manifest) -> dict[str, str]:
    """Return phenotypes by mouse from a CSV file (also of Excel), a DataFrame, a Series or a mapping given by the user.

    The dataset publishes none.
    """
    if table is None:
        return {}
    expected = "columns mouse and phenotype, one row per mouse"
    if isinstance(table, str | PathLike):
        table = pd.DataFrame(read_table(Path(table), ("mouse", "phenotype")), columns=["mouse", "phenotype"])
    if isinstance(table, pd.DataFrame):
        if "mouse" not in table.columns and table.index.name == "mouse":
            table = table.reset_index()
        if not {"mouse", "phenotype"} <= set(table.columns):
            raise ManifestError(f"The phenotypes have the columns {list(table.columns)}.", expected)
        table = table.set_index("mouse")["phenotype"]
    groups: dict[str, str] = {}
    for mouse, group in table.items():
        if pd.isna(group):
            continue
        if mouse not in manifest.files:
            similar = find_similar(mouse, manifest.files)
            step = f"did you mean {similar!r}?" if similar else None
            raise UnknownNameError(f"The phenotypes name {mouse!r}.", f"mice of {manifest.name}", step)
        if groups.setdefault(mouse, str(group)) != str(group):
            raise ManifestError(f"The phenotypes give {mouse} twice: {groups[mouse]!r}, {group!r}.", expected)
    return {m: g for m, g in groups.items() if g and g != "nan"}
