"""Protocols of the benchmark: which mice train, which test, under which conditions, and what is scored.

A protocol is a JSON file in ``manifests/protocols``, with the SHA-256 of its own content. Another content is another
version. A result names the protocol, its version and its checksum, so that only equal tests are compared.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data import api
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, ManifestError, UnknownNameError
from mousecmr_data.export.nifti import write_nnunet_dataset
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, is_file_name
from mousecmr_data.schema.variables import DIMS, IMAGE

PROTOCOLS_FOLDER = MANIFESTS_FOLDER / "protocols"
CHECKSUM = "sha256"


@dataclass(frozen=True)
class Condition:
    """Mice under one condition: as they are, of another cohort, or with images made worse."""

    name: str
    mice: tuple[str, ...]
    source: str = ""
    """Another cohort, such as "phantom-7T"; empty: that of the training mice."""
    corruption: str = ""
    """One of :data:`CORRUPTIONS`; empty: the images as they are."""
    severity: int = 0
    """1 to 5."""
    strength: float = 0.0
    """What the severity means for this corruption; see :data:`CORRUPTIONS`."""


@dataclass(frozen=True)
class Part:
    """One training of a protocol, and the conditions under which its network is tested."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Protocol:
    """A protocol; see :func:`read_protocol`."""

    name: str
    version: int
    title: str
    sources: tuple[str, ...]
    """The cohorts that it can be followed on. Their mice have the same names."""
    parts: tuple[Part, ...]
    phases: tuple[str, ...]
    """Phases that are scored."""
    metrics: tuple[str, ...]
    """What is scored: fields of the scores of a frame or of the measures of a mouse; the first one ranks."""
    unlabelled: str
    """What may be used without labels: "none", or "other frames" of the training mice."""
    besides: str
    """What else may be used, in words."""
    seed: int
    """Of the corruptions."""
    sha256: str

    @property
    def reference(self) -> dict[str, Any]:
        """Name, version and checksum, as results state them."""
        return {"name": self.name, "version": self.version, CHECKSUM: self.sha256}

    def get_part(self, name: str) -> Part:
        """Return the part ``name``; raises UnknownNameError."""
        for part in self.parts:
            if part.name == name:
                return part
        raise UnknownNameError(
            f"The protocol {self.name!r} has no part {name!r}.", f"one of {', '.join(repr(p.name) for p in self.parts)}"
        )

    def check_source(self, source: str) -> None:
        """Raise ArgumentError if the protocol cannot be followed on ``source``."""
        if source not in self.sources:
            raise ArgumentError(
                f"The protocol {self.name!r} cannot be followed on {source!r}.",
                f"one of {', '.join(map(repr, self.sources))}",
                f"--source {self.sources[0]}",
            )


def list_protocols() -> list[str]:
    """Return the names of the protocols that ship with the package."""
    return sorted(path.stem for path in PROTOCOLS_FOLDER.glob("*.json"))


@cache
def read_protocol(name: str) -> Protocol:
    """Return a protocol by its name or the path of its file.

    Raises UnknownNameError where there is none, ManifestError where it is not valid, where a mouse both trains and
    tests, or where its content has not the checksum in it.
    """
    path = PROTOCOLS_FOLDER / f"{name}.json"
    if name not in list_protocols():
        path = Path(name)
        if path.suffix != ".json" or not path.is_file():
            close = difflib.get_close_matches(name, list_protocols(), n=1)
            raise UnknownNameError(
                f"There is no protocol {name!r}.",
                f"one of {', '.join(list_protocols())}, or a file NAME.json",
                f"did you mean {close[0]!r}?" if close else "mousecmr benchmark list",
            )
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        protocol = _parse_protocol(table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        if isinstance(e, ManifestError):
            raise
        found = f"{path} is not a valid protocol: {type(e).__name__}: {e}"
        raise ManifestError(found, f"the keys of {PROTOCOLS_FOLDER / 'internal.json'}") from e
    if (sha256 := hash_protocol(table)) != protocol.sha256:
        raise ManifestError(
            f"{path} has the checksum {sha256[:12]}…, and says {protocol.sha256[:12]}….",
            "a protocol that was not changed, or one with a new version and checksum",
            f"for a protocol of your own: set {CHECKSUM!r} to {sha256}",
        )
    return protocol


def find_part(name: str) -> tuple[Protocol, Part]:
    """Return a protocol and one of its parts: "few/mice-05-draw-1", or "internal", which has one part only.

    Raises as :func:`read_protocol`, UnknownNameError for an unknown part, and ArgumentError where none is named.
    """
    whole = name in list_protocols() or name.endswith(".json") or "/" not in name
    head, _, part = (name, "", "") if whole else name.rpartition("/")
    protocol = read_protocol(head)
    if not part and len(protocol.parts) > 1:
        names = [f"{head}/{p.name}" for p in protocol.parts]
        found, expected = f"The protocol {head!r} has {len(names)} parts.", f"one of {', '.join(names)}"
        raise ArgumentError(found, expected, f"--protocol {names[0]}")
    return protocol, protocol.get_part(part or protocol.parts[0].name)


def hash_protocol(table: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a protocol's content: its JSON without the checksum, keys sorted, without spaces."""
    content = {k: v for k, v in table.items() if k != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse_protocol(table: dict[str, Any]) -> Protocol:
    parts = []
    for entry in table["parts"]:
        mice = {k: tuple(entry.get(k, table.get(k, ()))) for k in ("train", "validation", "test")}
        conditions = tuple(Condition(**{**c, "mice": tuple(c.get("mice", mice["test"]))}) for c in table["conditions"])
        parts.append(Part(entry["name"], mice["train"], mice["validation"], conditions))
    for part in parts:
        _check_part(part)
    names = [part.name for part in parts]
    if len(set(names)) < len(names) or not parts:
        raise ManifestError(f"The parts are called {names}.", "different names")
    values: dict[str, Any] = {k: tuple(table[k]) for k in ("sources", "phases", "metrics")}
    values |= {k: table[k] for k in ("name", "version", "title", "unlabelled", "besides", "seed", CHECKSUM)}
    return Protocol(parts=tuple(parts), **values)


def _check_part(part: Part) -> None:
    names = [c.name for c in part.conditions]
    if wrong := [n for n in [part.name, *names] if not is_file_name(n)] or [n for n in names if names.count(n) > 1]:
        raise ManifestError(f"A part or condition is called {wrong[0]!r}.", "different names that can be a folder's")
    for condition in part.conditions:
        if condition.corruption and condition.corruption not in CORRUPTIONS:
            raise ManifestError(f"There is no corruption {condition.corruption!r}.", f"one of {', '.join(CORRUPTIONS)}")
        tested = set() if condition.source else set(condition.mice)
        if shared := set(part.train) & set(part.validation) or (set(part.train) | set(part.validation)) & tested:
            raise ManifestError(f"{part.name}: {min(shared)} is on two sides.", "a mouse trains, validates or tests")
        if not part.train or not condition.mice:
            raise ManifestError(
                f"{part.name}, {condition.name}: no mice.", "at least one that trains and one that tests"
            )


# The mice of a protocol


def load_training(protocol: Protocol, part: Part, source: str, cache: Path | None = None) -> tuple[Cohort, Cohort]:
    """Load the cohorts that train and validate."""
    protocol.check_source(source)
    return api.load(mice=part.train, source=source, cache=cache), api.load(
        mice=part.validation, source=source, cache=cache
    )


@dataclass(frozen=True)
class ConditionMice(Mapping[str, xr.Dataset]):
    """The mice of a condition by name, opened one at a time: their labelled frames, with the images to segment."""

    cohort: Cohort
    condition: Condition
    seed: int

    def __getitem__(self, mouse: str) -> xr.Dataset:
        ds = self.cohort[mouse]
        return corrupt(ds.isel(frame=np.flatnonzero(ds["labelled"].values)), self.condition, self.seed)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cohort)

    def __len__(self) -> int:
        return len(self.cohort)


def load_condition(protocol: Protocol, condition: Condition, source: str, cache: Path | None = None) -> ConditionMice:
    """Load the mice of a condition, as they are to be segmented."""
    cohort = api.load(mice=condition.mice, source=condition.source or source, cache=cache)
    return ConditionMice(cohort, condition, protocol.seed)


def write_nnunet_part(
    protocol: Protocol,
    part: Part,
    source: str,
    path: str | Path,
    *,
    cache: Path | None = None,
    progress: ProgressCallback = lambda _: None,
) -> Path:
    """Write a part of a protocol as a dataset of nnU-Net (:func:`~mousecmr_data.export.nifti.write_nnunet_dataset`).

    ``imagesTr`` and ``labelsTr`` hold the labelled frames of the training and validation mice, fold 0 of
    ``splits_final.json`` keeps them apart, and ``imagesTs`` holds the images to segment, without labels: of several
    conditions in a folder for each. ``progress`` is called with 1 after each mouse, those of each condition too.
    """
    protocol.check_source(source)
    cohort = api.load(mice=[*part.train, *part.validation], source=source, cache=cache)
    alone = len(part.conditions) == 1
    tests = {"" if alone else c.name: load_condition(protocol, c, source, cache) for c in part.conditions}
    splits = dict.fromkeys(part.train, "train") | dict.fromkeys(part.validation, "validation")
    about = {"protocol": {**protocol.reference, "part": part.name}}
    return write_nnunet_dataset(cohort, path, progress, splits=splits, tests=tests, about=about)


# Corruptions

Images = NDArray[np.float32]
"""(frame, slice, y, x)."""


def corrupt(ds: xr.Dataset, condition: Condition, seed: int = 0) -> xr.Dataset:
    """Return ``ds``, a dataset of the cine model, with the images of ``condition``; the masks stay.

    The same mouse, condition and seed give the same images. Raises ArgumentError for an unknown corruption.
    """
    if not condition.corruption:
        return ds
    if condition.corruption not in CORRUPTIONS:
        raise ArgumentError(f"There is no corruption {condition.corruption!r}.", f"one of {', '.join(CORRUPTIONS)}")
    mouse = f"{condition.corruption}/{ds.attrs.get('mouse', '')}"
    rng = np.random.default_rng([seed, *mouse.encode()])  # the same pattern at every severity
    images = ds[IMAGE].transpose(*DIMS)
    worse = CORRUPTIONS[condition.corruption](
        images.values.astype(np.float32), condition.strength, rng, get_spacing(ds)[1:]
    )
    limit = float(np.iinfo(images.dtype).max) if images.dtype.kind == "u" else np.inf
    stored = np.clip(np.rint(worse), 0, limit).astype(images.dtype)
    return ds.assign({IMAGE: (DIMS, stored, ds[IMAGE].attrs)})


def _add_noise(x: Images, strength: float, rng: np.random.Generator, _pixel: tuple[float, float]) -> Images:
    sd = strength * np.percentile(x, 99)
    real, imaginary = sd * rng.standard_normal((2, *x.shape))
    return np.asarray(np.hypot(x + real, imaginary), np.float32)


def _add_ghosts(x: Images, strength: float, rng: np.random.Generator, _pixel: tuple[float, float]) -> Images:
    axis, turns = -1 - int(rng.integers(2)), rng.uniform(0.1, 0.4)
    k = scipy.fft.fft(x, axis=axis)
    wave = strength * np.cos(2 * np.pi * (turns * np.arange(x.shape[axis]) + rng.uniform()))
    return np.abs(scipy.fft.ifft(k * (1 + (wave if axis == -1 else wave[:, None])), axis=axis)).astype(np.float32)


def _blur(x: Images, strength: float, _rng: np.random.Generator, pixel: tuple[float, float]) -> Images:
    return np.asarray(ndimage.gaussian_filter(x, (0, 0, strength / pixel[0], strength / pixel[1])), np.float32)


def _add_bias_field(x: Images, strength: float, rng: np.random.Generator, _pixel: tuple[float, float]) -> Images:
    y, z = (np.linspace(-1, 1, n) for n in x.shape[2:])
    a, b, c = rng.normal(size=3)
    field = a * y[:, None] + b * z + c * y[:, None] * z
    return np.asarray(x * np.exp(strength * field / np.abs(field).max()), np.float32)


def _lower_resolution(x: Images, strength: float, _rng: np.random.Generator, pixel: tuple[float, float]) -> Images:
    k = scipy.fft.fft2(x)
    for axis, size in zip((2, 3), pixel, strict=True):
        kept = np.abs(scipy.fft.fftfreq(x.shape[axis], size)) <= 1 / (2 * strength)
        k = k * kept.reshape((-1, 1) if axis == 2 else (1, -1))
    return np.abs(scipy.fft.ifft2(k)).astype(np.float32)


def _drop_slices(x: Images, strength: float, rng: np.random.Generator, _pixel: tuple[float, float]) -> Images:
    n = min(round(strength), x.shape[1] - 1)
    worse = x.copy()
    worse[:, rng.permutation(x.shape[1])[:n]] = 0
    return worse


CORRUPTIONS: dict[str, Callable[[Images, float, np.random.Generator, tuple[float, float]], Images]] = {
    "noise": _add_noise,
    "ghosting": _add_ghosts,
    "blur": _blur,
    "bias-field": _add_bias_field,
    "low-resolution": _lower_resolution,
    "missing-slices": _drop_slices,
}
"""What makes images worse, and its strength. noise: Rician, SD as a share of the 99th percentile of the images.
ghosting: amplitude of a periodic modulation of k-space along a random axis. blur: SD of a Gaussian in mm. bias-field:
logarithm of the largest factor, smooth over the field of view. low-resolution: pixel in mm to which k-space is cut,
zero-filled. missing-slices: number of slices that are blank in all frames."""


def changes_images(condition: Condition, pixel_mm: Sequence[float]) -> bool:
    """Whether ``condition`` changes images with pixels of ``pixel_mm`` (y, x) in mm so much that masks of them differ.

    A blur much smaller than a pixel, or a resolution finer than the pixels, does not.
    """
    if not condition.corruption:
        return False
    x = np.random.default_rng(0).integers(0, 4000, (1, 8, 32, 32)).astype(np.float32)
    worse = CORRUPTIONS[condition.corruption](
        x, condition.strength, np.random.default_rng(0), (pixel_mm[0], pixel_mm[1])
    )
    return bool(np.std(worse - x) > 0.01 * np.std(x))
