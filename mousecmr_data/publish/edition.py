"""What is published: one cohort under one name, with its facts, checked for honesty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, ManifestError, MissingDataError
from mousecmr_data.schema.manifest import Manifest

SYNTHETIC = "SYNTHETIC"
BANNER = "SYNTHETIC DATA: computed by a phantom, not measured on animals."
_NAMES_OF_SYNTHETIC = ("synthetic", "phantom")


@dataclass(frozen=True)
class Mouse:
    """A mouse in numbers."""

    name: str
    split: str
    """"none" where it is in none."""
    phenotype: str
    slices: int
    frames: int
    labelled_frames: tuple[int, ...]
    shape_yx: tuple[int, int]
    voxel_size_mm: tuple[float, float, float]
    """(z, y, x)."""
    frame_time_ms: float
    voxel_size_source: str
    file: str
    """Name of its file below the manifest's address; empty where there is none."""
    checksum: str
    """Published checksum of that file, with its kind; empty where there is none."""

    @property
    def images(self) -> int:
        """Number of 2D images."""
        return self.slices * self.frames


@dataclass(frozen=True)
class Edition:
    """A cohort as it is published, under ``name``."""

    name: str
    manifest: Manifest
    mice: tuple[Mouse, ...]
    split_scheme: str
    synthetic: bool

    @property
    def title(self) -> str:
        """The manifest's title; that of synthetic data begins with SYNTHETIC."""
        title = self.manifest.title
        return title if not self.synthetic or title.startswith(SYNTHETIC) else f"{SYNTHETIC}: {title}"

    @property
    def splits(self) -> Mapping[str, tuple[Mouse, ...]]:
        """The mice of each split, in the scheme's order."""
        order = [*(self.manifest.splits[self.split_scheme].mice if self.split_scheme else ()), "none"]
        found = {split: tuple(m for m in self.mice if m.split == split) for split in order}
        return {split: mice for split, mice in found.items() if mice}

    @property
    def whole(self) -> bool:
        """Whether all mice of the manifest are in it."""
        return len(self.mice) == len(self.manifest.files)


def of(cohort: Cohort, name: str) -> Edition:
    """The edition of ``cohort`` called ``name``; reads no image.

    Raises MissingDataError (no mouse), ManifestError (a mouse says that it is synthetic, the manifest that it
    is not; or the reverse), ArgumentError (a synthetic cohort under a name that does not say so).
    """
    manifest = cohort.source.manifest
    claimed = cohort.synthetic or manifest.synthetic
    if claimed and not any(word in name.rpartition("/")[2].lower() for word in _NAMES_OF_SYNTHETIC):
        raise ArgumentError(
            f"{manifest.name} is synthetic, the name {name!r} does not say so.",
            "'synthetic' or 'phantom' in the name",
            f"{name}-synthetic",
        )
    mice, synthetic = [], {}
    for ds in cohort:
        mouse = str(ds.attrs["mouse"])
        synthetic[mouse] = bool(ds.attrs["synthetic"])
        entry = manifest.files.get(mouse)
        mice.append(
            Mouse(
                mouse,
                str(ds.attrs["split"]),
                str(ds.attrs["phenotype"]),
                ds.sizes["slice"],
                ds.sizes["frame"],
                tuple(int(i) for i in ds["labelled"].values.nonzero()[0]),
                (ds.sizes["y"], ds.sizes["x"]),
                get_spacing(ds),
                float(ds["time"].attrs["frame_time"]),
                str(ds.attrs["voxel_size_source"]),
                entry.path if entry else "",
                _checksum(manifest, mouse),
            )
        )
    if not mice:
        raise MissingDataError("This cohort is empty: there is nothing to publish.", "at least one mouse")
    strangers = [mouse for mouse, is_synthetic in synthetic.items() if is_synthetic != claimed]
    if strangers:
        raise ManifestError(
            f"{strangers[0]} says that it is {'real' if claimed else 'SYNTHETIC'}, {manifest.name} that its mice are "
            f"{'SYNTHETIC' if claimed else 'real'}.",
            "real and synthetic mice in datasets of their own",
            "in the manifest's dataset.toml: synthetic = true",
        )
    return Edition(name, manifest, tuple(mice), cohort.split_scheme, claimed)


def repo_id(text: str) -> str:
    """``text`` if it can be the name of a dataset on a hub; else ArgumentError."""
    part = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
    if not re.fullmatch(rf"{part}/{part}", text) or re.search(r"--|\.\.", text):
        raise ArgumentError(f"{text!r} is no name of a dataset on a hub.", "ORG/NAME", "--repo-id my-lab/mouse-cines")
    return text


def _checksum(manifest: Manifest, mouse: str) -> str:
    entry = manifest.files.get(mouse)
    if entry is None:
        return ""
    if entry.sha256:
        return f"sha256:{entry.sha256}"
    return f"git-blob-sha1:{entry.git_blob_sha1}" if entry.git_blob_sha1 else ""
