"""A release: one cohort under one name, its facts, its licence and its Parquet files.

A synthetic cohort cannot be released as a real one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.text import SYNTHETIC
from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Config
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.model import check_not_empty, get_spacing
from mousecmr_data.errors import ArgumentError, ManifestError, MissingExtraError
from mousecmr_data.schema.manifest import Manifest

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as e:
    raise MissingExtraError.from_module("pyarrow", "huggingface") from e

ROWS_PER_GROUP: dict[Config, int] = {"labelled": 32, "slices": 32, "cines": 1}
"""Rows that a reader loads at once: 32 slices are about 4 MB, so that a stream starts soon."""
MICE_PER_FILE = 4
"""Mice per file: about 100 MB, so that little is lost when a run is interrupted."""
_DICTIONARY_COLUMNS = ["mouse", "phase", "split", "phenotype"]
"""Columns with few different texts, where dictionary encoding makes files smaller."""
_SYNTHETIC_WORDS = ("synthetic", "phantom")
_LICENSE_FOLDER = Path(__file__).parent / "licenses"
_HUB_NAMES = {
    "GPL-3.0": "gpl-3.0",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
}
"""Names of licences on the hub, by their SPDX name."""


@dataclass(frozen=True)
class ReleaseMouse:
    """The facts of one mouse."""

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
    """Path of its file below the manifest's address; empty where there is none."""
    checksum: str
    """Published checksum of that file, with its kind; empty where there is none."""

    @property
    def images(self) -> int:
        """Number of 2D images."""
        return self.slices * self.frames


@dataclass(frozen=True)
class Release:
    """A cohort as it is published under ``name``."""

    name: str
    manifest: Manifest
    mice: tuple[ReleaseMouse, ...]
    split_scheme: str
    synthetic: bool

    @property
    def title(self) -> str:
        """The manifest's title; that of synthetic data begins with SYNTHETIC."""
        title = self.manifest.title
        return title if not self.synthetic or title.startswith(SYNTHETIC) else f"{SYNTHETIC}: {title}"

    @property
    def splits(self) -> Mapping[str, tuple[ReleaseMouse, ...]]:
        """The mice of each split, in the scheme's order."""
        order = [*(self.manifest.splits[self.split_scheme].mice if self.split_scheme else ()), "none"]
        return {split: mice for split in order if (mice := tuple(m for m in self.mice if m.split == split))}

    @property
    def whole(self) -> bool:
        """Whether it holds all mice of the manifest."""
        return len(self.mice) == len(self.manifest.files)


def make_release(cohort: Cohort, name: str) -> Release:
    """Make the release of ``cohort`` called ``name``; no image is read.

    Raises ManifestError (a mouse is marked synthetic and the manifest is not, or the reverse), ArgumentError (no mouse,
    or a synthetic cohort under a name that does not say so).
    """
    check_not_empty(cohort)
    manifest = cohort.source.manifest
    claimed = cohort.synthetic or manifest.synthetic
    if claimed and not any(word in name.rpartition("/")[2].lower() for word in _SYNTHETIC_WORDS):
        raise ArgumentError(
            f"{manifest.name} is synthetic, but the name {name!r} does not say so.",
            "'synthetic' or 'phantom' in the name",
            f"{name}-synthetic",
        )
    mice, contradicting = [], []
    for ds in cohort.values():
        mouse = str(ds.attrs["mouse"])
        if bool(ds.attrs["synthetic"]) != claimed:
            contradicting.append(mouse)
        path = checksum = ""
        if entry := manifest.files.get(mouse):
            path = entry.path
            checksum = f"git-blob-sha1:{entry.git_blob_sha1}" if entry.git_blob_sha1 else ""
            checksum = f"sha256:{entry.sha256}" if entry.sha256 else checksum
        mice.append(
            ReleaseMouse(
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
                path,
                checksum,
            )
        )
    if contradicting:
        kinds = ("real", "SYNTHETIC") if claimed else ("SYNTHETIC", "real")
        raise ManifestError(
            f"{contradicting[0]} says that it is {kinds[0]}, {manifest.name} that its mice are {kinds[1]}.",
            "real and synthetic mice in separate datasets",
            "in the manifest's dataset.toml: synthetic = true",
        )
    return Release(name, manifest, tuple(mice), cohort.split_scheme, claimed)


def check_repo_id(text: str) -> str:
    """Return ``text`` if a hub accepts it as the name of a dataset; else raise ArgumentError."""
    part = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
    if not re.fullmatch(rf"{part}/{part}", text) or re.search(r"--|\.\.", text):
        raise ArgumentError(f"{text!r} is not a valid dataset name.", "ORG/NAME", "--repo-id my-lab/mouse-cines")
    return text


def make_license_text(release: Release) -> str:
    """Return the text of LICENSE: the manifest's licence, in full where its text is in this package, else its name."""
    name = release.manifest.licence
    path = _LICENSE_FOLDER / f"{name}.txt"
    head = f"{release.title}\nLicence of the data: {name}\n"
    if path.is_file():
        return f"{head}\n{path.read_text(encoding='utf-8')}"
    source = get_license_url(name) or release.manifest.homepage or "its owner"
    return f"{head}Its text is not part of this folder: see {source}.\n"


def make_hub_license(name: str) -> dict[str, str]:
    """Return the licence in the form of the hub's metadata."""
    if name in _HUB_NAMES:
        return {"license": _HUB_NAMES[name]}
    return {"license": "other", "license_name": "".join(c if c.isalnum() else "-" for c in name.lower())}


def get_license_url(name: str) -> str:
    """Return the web page of a licence with an SPDX name; empty for others."""
    return f"https://spdx.org/licenses/{name}.html" if name in _HUB_NAMES else ""


@dataclass(frozen=True)
class ShardPlan:
    """A file to write."""

    config: Config
    split: str
    """As ``datasets`` names it."""
    path: str
    """Below the folder, with forward slashes."""
    mice: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """A file that was written."""

    path: str
    config: Config
    split: str
    mice: tuple[str, ...]
    rows: int
    bytes: int
    memory: int
    """Bytes of the rows in memory."""
    sha256: str
    identity: str
    """Fingerprint of its sources; see ``adapters.huggingface.compute_fingerprint``."""


def plan_shards(release: Release) -> list[ShardPlan]:
    """Return the files of a release, by config and split."""
    plans = []
    for config, (split, mice) in product(huggingface.CONFIGS, release.splits.items()):
        names = [m.name for m in mice if config != "labelled" or m.labelled_frames]
        groups = [tuple(names[i : i + MICE_PER_FILE]) for i in range(0, len(names), MICE_PER_FILE)]
        name = huggingface.make_split_name(split)
        for i, group in enumerate(groups):
            path = f"{config}/{name}-{i:05d}-of-{len(groups):05d}.parquet"
            plans.append(ShardPlan(config, name, path, group))
    return plans


def write_shard(plan: ShardPlan, cohort: Cohort, folder: Path) -> Shard:
    """Write the file of ``plan`` below ``folder``, whole or not at all."""
    identity = huggingface.compute_fingerprint(cohort, plan.config, plan.mice)
    schema = huggingface.make_features(plan.config).arrow_schema  # holds the column types for ``datasets``
    target = folder / plan.path
    rows = memory = 0
    with (
        atomic_path(target) as partial,
        pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            use_dictionary=[name for name in _DICTIONARY_COLUMNS if pa.types.is_string(schema.field(name).type)],
            write_statistics=[name for name in schema.names if name not in ("image", "mask")],
        ) as writer,
    ):
        source = huggingface.generate_rows(plan.mice, cohort, plan.config)
        while group := list(islice(source, ROWS_PER_GROUP[plan.config])):
            table = pa.Table.from_pylist(group, schema)
            writer.write_table(table, row_group_size=len(group))
            rows, memory = rows + len(group), memory + table.nbytes
    size, sha256 = target.stat().st_size, compute_sha256(target)
    return Shard(plan.path, plan.config, plan.split, plan.mice, rows, size, memory, sha256, identity)
