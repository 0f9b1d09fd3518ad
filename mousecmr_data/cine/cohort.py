"""A cohort: named mice from one source, opened one at a time and only as far as needed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pandas as pd
import xarray as xr

from mousecmr_data.cine import convert, samples
from mousecmr_data.cine.opening import Opener
from mousecmr_data.cine.source import Source
from mousecmr_data.errors import MissingDataError, MissingExtraError, UnknownNameError


@dataclass(frozen=True)
class Member:
    """A mouse of a cohort."""

    mouse: str
    split: str | None
    phenotype: str


class Cohort:
    """Mice of one source, in order. Made by :func:`mousecmr_data.load`.

    ``len(cohort)``, ``for ds in cohort`` (one dataset a mouse), ``cohort["Mouse4"]``, ``"Mouse4" in
    cohort``. Opening is lazy: a mouse's pixels are read when they are used. Cohorts pickle.
    """

    def __init__(
        self,
        source: Source,
        members: Sequence[Member],
        opener: Opener,
        split_scheme: str = "",
        chunks: Mapping[str, int] | None = None,
    ) -> None:
        self.source, self.opener, self.split_scheme, self.chunks = source, opener, split_scheme, chunks
        self._members = {m.mouse: m for m in members}
        if len(self._members) != len(members):
            raise UnknownNameError("A mouse is named twice.", "each mouse once")

    @property
    def mice(self) -> tuple[str, ...]:
        """Names of the mice."""
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
        """Whether the mice are synthetic."""
        return self.source.synthetic

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[xr.Dataset]:
        return (self[name] for name in self._members)

    def __getitem__(self, name: str) -> xr.Dataset:
        """The dataset of one mouse; see ``cine.model`` for what it holds."""
        member = self._members[known(name, self._members)]
        self.source.ready([name])
        ds = self.opener.dataset(name, {"split": member.split or "none", "phenotype": member.phenotype})
        return ds if self.chunks is None else _dask(ds, self.chunks)

    def select(self, mice: Iterable[str]) -> Cohort:
        """The cohort of the named mice only, in the order given."""
        names = dict.fromkeys([mice] if isinstance(mice, str) else mice)
        members = [self._members[known(name, self._members)] for name in names]
        return Cohort(self.source, members, self.opener, self.split_scheme, self.chunks)

    def opened_by(self, opener: Opener) -> Cohort:
        """The same mice, opened in another way."""
        return Cohort(self.source, list(self._members.values()), opener, self.split_scheme, self.chunks)

    @property
    def table(self) -> pd.DataFrame:
        """A row a mouse, indexed by its name.

        Columns: slices, frames, labelled_frames (tuple of 0-based numbers), ed_frame, es_frame
        (missing without a pair), split, phenotype, synthetic, file, checksum (state of the file). Reads
        no images; of mice with more than two labelled frames it reads the masks, to find ES.
        """
        states = self.source.states(self._members)
        rows = []
        for name, member in self._members.items():
            s = self.source.summary(name)
            rows.append(
                {
                    "mouse": name,
                    "slices": s.n_slices,
                    "frames": s.n_frames,
                    "labelled_frames": s.labelled_frames,
                    "ed_frame": s.ed_frame,
                    "es_frame": s.es_frame,
                    "split": member.split or "none",
                    "phenotype": member.phenotype,
                    "synthetic": self.synthetic,
                    "file": self.source.address(name),
                    "checksum": states[name],
                }
            )
        if not rows:
            raise MissingDataError("This cohort is empty: there is no table.", "at least one mouse")
        return pd.DataFrame(rows).set_index("mouse").astype({"ed_frame": "Int64", "es_frame": "Int64"})

    @property
    def tree(self) -> xr.DataTree:
        """All mice as one tree, a node a mouse, pixels still on disk."""
        self.source.ready(self._members)
        tree = xr.DataTree.from_dict({name: self[name] for name in self._members})
        tree.attrs.update(source=self.source.name, version=self.source.version, synthetic=self.synthetic)
        return tree

    def slices(self, frames: samples.Frames = "labelled") -> xr.Dataset:
        """All 2D slices of the chosen frames as one lazy dataset; see :func:`cine.samples.slices`.

        ``frames``: "labelled" (default), "all", or phases such as ["ED", "ES"].
        """
        self.source.ready(self._members)
        return samples.slices(self, frames)

    def folds(self, k: int, *, stratify: bool = False, seed: int = 0) -> list[tuple[Cohort, Cohort]]:
        """``k`` pairs (train, validation) by mouse; see :func:`cine.folds.folds`."""
        from mousecmr_data.cine.folds import folds

        return folds(self, k, stratify=stratify, seed=seed)

    def to_zarr(self, path: str | PathLike[str]) -> Path:
        """Write the cohort as a new Zarr v3 store, a group a mouse; see :mod:`cine.store`.

        Nothing half-written stays behind. ``mousecmr convert -o`` does the same with several processes.
        Raises CacheError if ``path`` exists.
        """
        return convert.write(self, path)

    def __repr__(self) -> str:
        splits = sorted({m.split or "none" for m in self._members.values()})
        kind = "SYNTHETIC " if self.synthetic else ""
        return (
            f"<Cohort of {len(self)} {kind}mice from {self.source.name} {self.source.version[:12]}; "
            f"split{'s'[: len(splits) != 1]}: {', '.join(splits)}>"
        )


def _dask(ds: xr.Dataset, chunks: Mapping[str, int]) -> xr.Dataset:
    try:
        return ds.chunk(chunks or {"frame": 1})
    except ImportError as e:
        raise MissingExtraError.of("dask", "dask") from e


def known(name: str, names: Mapping[str, object] | Sequence[str]) -> str:
    """``name`` if it is one of ``names``; else an error that says what to type."""
    if name in names:
        return name
    close = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    every = list(names)
    raise UnknownNameError(
        f"There is no mouse {name!r} here.",
        f"one of {len(every)}: {every[0]} ... {every[-1]}" if every else "a cohort that is not empty",
        f"did you mean {close[0]!r}?" if close else "cohort.mice lists the names",
    )
