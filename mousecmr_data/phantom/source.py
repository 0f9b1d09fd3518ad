"""The phantoms as a source of mice: files made when they are first needed, kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from mousecmr_data._utils.parallel import ProgressCallback, count_results, map_in_processes
from mousecmr_data.download.cache import get_file_path
from mousecmr_data.phantom.plan import VERSION, Plan
from mousecmr_data.phantom.rendering import write_phantom
from mousecmr_data.phantom.sampling import make_plans
from mousecmr_data.schema.manifest import Constant, FileEntry, Group, Manifest, SplitScheme, Stack, load_manifest

EXTERNAL_SPLIT = "external"
"""The only split of the cohorts that stand in for the article's external test sets."""


@cache
def make_manifest(cohort: str) -> Manifest:
    """The manifest of a synthetic cohort: the real one's splits and constants, files without checksums.

    The cohort "phantom" has the real mice's names, so it has their splits too; the others have a
    single split, "external", in every scheme.
    """
    real = load_manifest()
    mice = tuple(make_plans(cohort))
    drawn = list(make_plans(cohort).values())
    if set(mice) == set(real.files):
        lists = {name: dict(scheme.mice) for name, scheme in real.splits.items() if scheme.mice}
        caveat = "Synthetic mice; the names are those of the real ones."
    else:
        lists = {name: {EXTERNAL_SPLIT: mice} for name, scheme in real.splits.items() if scheme.mice}
        caveat = "Stands in for an external test set."
    splits = {
        name: SplitScheme(name, "", caveat, parts, {k: _count_labelled_images(cohort, v) for k, v in parts.items()})
        for name, parts in lists.items()
    }
    phenotypes = [plan.phenotype for plan in drawn]
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
        stack=_make_stack(drawn),
        acquisition={**real.acquisition, **_make_acquisition(drawn[0])},
        counts={},
        weights={},
        published=None,
        known_issues=(),
        paper={},
        released="",
        arrive=(),
    )


def _count_labelled_images(cohort: str, mice: Iterable[str]) -> int:
    return sum(len(p.labelled_frames) * p.n_slices for p in (make_plans(cohort)[m] for m in mice))


def _make_stack(drawn: Sequence[Plan]) -> Stack:
    slices, frames = [p.n_slices for p in drawn], [p.n_frames for p in drawn]
    rows, columns = drawn[0].shape_yx
    return Stack(rows, columns, (min(slices), max(slices)), (min(frames), max(frames)))


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
        return make_manifest(self.name)

    @property
    def synthetic(self) -> bool:
        """Always."""
        return True

    def get_path(self, mouse: str) -> Path:
        """Where the mouse's file lies, or will lie."""
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def get_address(self, mouse: str) -> str:
        """The path, for people."""
        return str(self.get_path(mouse))

    def prepare(self, mice: Iterable[str]) -> None:
        """Make the files that are not there yet, one after the other."""
        make_files(self, mice)

    def summarize(self, mouse: str) -> Plan:
        """The mouse in numbers: its plan has them, nothing is rendered."""
        return make_plans(self.name)[mouse]

    def get_phenotype(self, mouse: str) -> str:
        """The group the mouse was drawn for."""
        return make_plans(self.name)[mouse].phenotype

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Made, or not made yet."""
        return {m: "made here" if self.get_path(m).exists() else "not made yet" for m in mice}


def make_files(
    source: PhantomSource,
    mice: Iterable[str],
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> None:
    """Make the missing files of ``mice`` in ``workers`` processes, calling ``progress`` with 1 after each mouse.

    More than one process needs a main module that can be imported: see :func:`_utils.parallel.map_in_processes`.
    """
    missing = [m for m in mice if not source.get_path(m).exists()]
    for mouse in missing[:1]:
        source.get_path(mouse).parent.mkdir(parents=True, exist_ok=True)
    map_in_processes(partial(_make_file, source), missing, workers, count_results(progress))


def _make_file(source: PhantomSource, mouse: str) -> None:
    write_phantom(make_plans(source.name)[mouse], source.get_path(mouse))
