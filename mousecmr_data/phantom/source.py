"""The phantoms as a source of mice: files are made when first needed and kept in the cache."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import ClassVar

from mousecmr_data._utils.atomic import translate_os_error
from mousecmr_data._utils.checksums import hash_arrays, is_intact, report_damage
from mousecmr_data._utils.parallel import ProgressCallback, count_results, map_in_processes
from mousecmr_data._utils.progress import open_bar
from mousecmr_data.download.cache import get_file_path
from mousecmr_data.errors import ChecksumError
from mousecmr_data.phantom.plan import VERSION, Plan
from mousecmr_data.phantom.rendering import Rendering, render, write_rendering
from mousecmr_data.phantom.sampling import make_plans
from mousecmr_data.schema import SMALL_PHANTOM
from mousecmr_data.schema.manifest import (
    MANIFESTS_FOLDER,
    Constant,
    FileEntry,
    Group,
    Manifest,
    SplitScheme,
    Stack,
    load_manifest,
)


@cache
def make_manifest(cohort: str) -> Manifest:
    """Make the manifest of a synthetic cohort: the real one's splits and constants, files without checksums.

    The cohort "phantom" has the real mice's names, so it has their splits too; the others stand in for the article's
    external test sets and have a single split, "external", in every scheme.
    """
    real = load_manifest()
    plans = make_plans(cohort)
    first = next(iter(plans.values()))
    same_names = set(plans) == set(real.files)
    caveat = (
        "Synthetic mice; the names are those of the real ones." if same_names else "Stands in for an external test set."
    )
    splits = {}
    for name, scheme in real.splits.items():
        if scheme.mice:
            mice = dict(scheme.mice) if same_names else {"external": tuple(plans)}
            counts = {k: sum(len(plans[m].labelled_frames) * plans[m].n_slices for m in v) for k, v in mice.items()}
            splits[name] = SplitScheme(name, "", caveat, mice, counts)
    phenotypes = [plan.phenotype for plan in plans.values()]
    slices, frames = [p.n_slices for p in plans.values()], [p.n_frames for p in plans.values()]
    return replace(
        real,
        name=cohort,
        title=f"Synthetic mouse cardiac cine MRI ({cohort})",
        version=VERSION,
        url="",
        homepage="",
        licence="CC0-1.0",
        synthetic=True,
        files={m: FileEntry(m, f"{m}.h5") for m in plans},
        splits=splits,
        groups=tuple(Group(g, phenotypes.count(g), "the phantom's plan") for g in dict.fromkeys(phenotypes)),
        stack=Stack(*first.shape_yx, (min(slices), max(slices)), (min(frames), max(frames))),
        acquisition={**real.acquisition, **_make_acquisition(first)},
        counts={},
        weights={},
        published=None,
        known_issues=(),
        paper={},
        released="",
        arrive=(),
        source=cohort,
    )


def _make_acquisition(plan: Plan) -> dict[str, Constant]:
    dz, dy, dx = plan.voxel_size_mm
    scan, source = plan.acquisition, "the phantom's plan"
    return {
        "pixel_spacing": Constant([dy, dx], "mm", source),
        "slice_thickness": Constant(dz, "mm", source),
        "frame_time": Constant(plan.frame_time_ms, "ms", source),
        "field_strength": Constant(scan.field_t, "T", source),
        "scanner": Constant("none: computed", "", source),
        "sequence": Constant("spoiled gradient echo, computed", "", source),
        "echo_time": Constant(scan.te_ms, "ms", source),
        "repetition_time": Constant(scan.tr_ms, "ms", source),
        "flip_angle": Constant(scan.flip_deg, "degree", "the phantom's plan (of the first mouse)"),
        "anaesthesia": Constant("none", "", source),
        "imaged": Constant("never", "", source),
        "ethics": Constant("no animal", "", source),
        "annotation": Constant("the model's own geometry", "", source),
    }


@dataclass(frozen=True)
class PhantomSource:
    """A synthetic cohort below ``cache_root`` (None: the default folder), a ``mousecmr_data.dataset.source.Source``."""

    name: str
    cache_root: Path | None = None

    version: ClassVar[str] = VERSION
    """Version of the generator."""
    synthetic: ClassVar[bool] = True

    @property
    def manifest(self) -> Manifest:
        return make_manifest(self.name)

    def get_path(self, mouse: str) -> Path:
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def get_address(self, mouse: str) -> str:
        return str(self.get_path(mouse))

    def prepare(self, mice: Iterable[str]) -> None:
        """Make the missing files, several on all cores and with a bar."""
        missing = [m for m in mice if not self.get_path(m).exists()]
        make_files(self, missing, os.cpu_count() or 1)

    def check_file(self, mouse: str) -> None:
        """Make the file again if it is damaged, by its checksum; an unchanged file is read once for this."""
        make_files(self, [mouse])

    def summarize(self, mouse: str) -> Plan:
        """Return the mouse's plan, which has all numbers of a summary; nothing is rendered."""
        return make_plans(self.name)[mouse]

    def get_phenotype(self, mouse: str) -> str:
        return make_plans(self.name)[mouse].phenotype

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Return the state of each file: "made here" or "not made yet"."""
        return {m: "made here" if self.get_path(m).exists() else "not made yet" for m in mice}


def make_files(
    source: PhantomSource, mice: Iterable[str], workers: int = 1, progress: bool | ProgressCallback | None = None
) -> None:
    """Make the missing and damaged files of ``mice`` in ``workers`` processes.

    ``progress`` is called with 1 after each mouse; True draws a bar, and None does where it is seen.
    """
    missing = []
    for mouse in mice:
        path = source.get_path(mouse)
        if not path.exists():
            missing.append(mouse)
        elif not _is_intact(path, (stat := path.stat()).st_mtime_ns, stat.st_size):
            report_damage(path)
            missing.append(mouse)
    if missing:
        path = source.get_path(missing[0])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise translate_os_error(e, path) from e
    progress = False if progress is None and len(missing) <= 1 else progress
    with open_bar(progress, f"making {len(missing)} synthetic mice", len(missing)) as advance:
        map_in_processes(partial(_make_file, source), missing, workers, count_results(advance))


@lru_cache(maxsize=1024)
def _is_intact(path: Path, mtime_ns: int, size: int) -> bool:  # noqa: ARG001 (cache keys)
    return is_intact(path)


def _make_file(source: PhantomSource, mouse: str) -> None:
    plan = make_plans(source.name)[mouse]
    rendering = render(plan)
    if source.name == SMALL_PHANTOM and (found := freeze(rendering)) != (expected := read_frozen()[mouse]):
        raise ChecksumError(
            f"{mouse} of {source.name} was made as {found}.",
            f"{expected}, as on every computer",
            "pip install --force-reinstall mousecmr-data numpy scipy; mousecmr doctor, for a bug report",
        )
    write_rendering(plan, rendering, source.get_path(mouse))


FROZEN_FILE = MANIFESTS_FOLDER / SMALL_PHANTOM / "checksums.csv"
"""Columns: mouse, and those of :func:`freeze`. Written by scripts/freeze_phantom.py."""


def freeze(rendering: Rendering) -> dict[str, str]:
    """Return what must be the same on every computer: the labels, and the images but for the last digits.

    ``masks_sha256`` is of the labels (frame, slice, y, x) of all frames; ``image_mean`` and ``image_sd`` have three
    digits, because processors differ in the rounding of single pixels.
    """
    return {
        "masks_sha256": hash_arrays(rendering.truth),
        "image_mean": f"{rendering.image.mean():.2e}",
        "image_sd": f"{rendering.image.std():.2e}",
    }


@cache
def read_frozen() -> dict[str, dict[str, str]]:
    """Return the frozen checksums of the small phantom by mouse."""
    rows = csv.DictReader(FROZEN_FILE.read_text(encoding="utf-8").splitlines())
    return {row.pop("mouse"): row for row in rows}
