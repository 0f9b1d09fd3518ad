"""Training data: labelled slices in memory, and augmented batches drawn from them.

Each batch is drawn with replacement from its own seed, so that any batch can be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import append_checksum, hash_arrays, is_intact, report_damage
from mousecmr_data._utils.environment import copy_to_device
from mousecmr_data._utils.parallel import ProgressCallback, iterate_in_threads
from mousecmr_data.adapters.torch import collate, dataset
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.inference.grid import (
    PixelGrid,
    list_neighbours,
    make_training_grid,
    normalize,
    normalize_to_uint8,
)
from mousecmr_data.phantom import VERSION, Plan, render
from mousecmr_data.phantom.plan import Acquisition
from mousecmr_data.schema.labels import Label
from mousecmr_data.training.config import TrainConfig
from mousecmr_data.training.domain_randomization import randomize


@dataclass(frozen=True)
class SliceData:
    """2D slices with labels: uint8 (n, Y, X) each, on the training grid; images are min–max scaled to 0…255."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    stacks: tuple[int, ...] = ()
    """Number of slices of each stack: one mouse in one frame, slices in their order. Empty: each slice is alone."""
    known: tuple[int, ...] | None = None
    """Numbers of the slices whose label is true; the others are only seen as neighbours. None: all."""
    soft: NDArray[np.uint8] | None = None
    """A teacher's probabilities of myocardium and blood pool, 0…255, (n, 2, Y, X): learned instead of ``label``."""

    def __len__(self) -> int:
        return len(self.image)

    def list_neighbours(self, context: int) -> NDArray[np.intp]:
        """Return the numbers of the slices that a network sees for each slice, (n, 1 + 2 · context)."""
        if context not in self._neighbours:
            stacks = self.stacks or (1,) * len(self)
            starts = np.cumsum([0, *stacks[:-1]])
            parts = [start + list_neighbours(size, context) for start, size in zip(starts, stacks, strict=True)]
            self._neighbours[context] = np.concatenate(parts)
        return self._neighbours[context]

    @cached_property
    def _neighbours(self) -> dict[int, NDArray[np.intp]]:
        return {}

    def list_known(self) -> Sequence[int]:
        """Return the numbers of the slices whose label is true."""
        return range(len(self)) if self.known is None else self.known

    @cached_property
    def is_end(self) -> NDArray[np.bool_]:
        """Whether a slice with a label has a neighbour without, or the reverse; (n,)."""
        labelled = np.array([bool(label.any()) for label in self.label])
        around = labelled[self.list_neighbours(1)]
        return np.asarray(around.any(1) & ~around.all(1))

    def checksum(self) -> str:
        """Return the SHA-256 of shape and content, which identifies the data of a run."""
        known = () if self.known is None else (np.array(self.known), np.array(self.stacks))
        return hash_arrays(self.image, self.label, *known, *(() if self.soft is None else (self.soft,)))

    def make_targets(self, chosen: NDArray[np.intp]) -> Tensor:
        """Return what the network learns of some slices: labels uint8 (n, Y, X), or probabilities as ``soft``."""
        return torch.from_numpy((self.label if self.soft is None else self.soft)[chosen])


def join_slices(parts: Sequence[SliceData]) -> SliceData:
    """Return the slices of several mice, all of the same size, as one."""
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])]).tolist()
    known = [n + k for n, part in zip(starts, parts, strict=True) for k in part.list_known()]
    image, label = (np.concatenate([getattr(part, name) for part in parts]) for name in ("image", "label"))
    return SliceData(image, label, tuple(n for part in parts for n in part.stacks or (1,) * len(part)), tuple(known))


def resample_slices(
    image: Tensor, label: Tensor, spacing_yx: tuple[float, float], grid: PixelGrid
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return slices and labels (n, y, x) with pixels of ``spacing_yx`` mm on ``grid``, as in :class:`SliceData`."""
    x, y = image.float()[:, None], label.long()
    if not grid.is_native(y.shape[-2:], spacing_yx):
        shares = F.one_hot(y, len(Label)).movedim(-1, 1).float()
        x, y = grid.from_native(x, spacing_yx), grid.from_native(shares, spacing_yx).argmax(1)
    return normalize_to_uint8(x[:, 0].numpy()), y.to(torch.uint8).numpy()


def collect_slices(cohort: Cohort) -> SliceData:
    """Return every 2D slice of every labelled frame of ``cohort``, resampled if its pixels are not 0.1 mm."""
    samples = dataset(cohort, "slices", frames="labelled", mode="memory")
    grid = make_training_grid()
    images, labels, stacks = [], [], []
    for number in range(len(samples)):
        batch = collate(samples.__getitems__([number]))  # plain tensors, also where MONAI is used
        dy, dx = batch["spacing"][0].tolist()
        image, label = resample_slices(batch["image"][:, 0], batch["label"][:, 0], (dy, dx), grid)
        images.append(image)
        labels.append(label)
        stacks.append((batch["mouse"][0], int(batch["frame"][0])))
    return SliceData(np.concatenate(images), np.concatenate(labels), tuple(len(list(s)) for _, s in groupby(stacks)))


# Slices of synthetic mice

POOL_FORMAT = 3
"""3 added the numbers of slices."""
POOL_FRAMES = 4
"""Number of frames rendered per mouse: end-diastole, mid-systole, end-systole, early filling."""
ES_FRAME = 2
CONTRAST_SPREAD = 0.30
"""SD of the logarithm of a factor on each tissue's signal, in addition to the phantom's own spread."""


def make_random_plan(rng: np.random.Generator, plans: Sequence[Plan], name: str, any_scanner: bool = False) -> Plan:
    """Return the plan of a new mouse: pose and function of one plan; heart, body and randomised scan of others."""
    body, heart, thorax, scan = (plans[int(k)] for k in rng.integers(len(plans), size=4))
    pose = replace(
        body.pose,
        rotation_deg=float(rng.uniform(-180.0, 180.0)),
        mirror=bool(rng.random() < 0.5),
        base_mm=body.pose.base_mm + float(rng.uniform(-0.5, 0.5)),
        drift_mm_per_mm=(float(rng.normal(0.0, 0.1)), float(rng.normal(0.0, 0.1))),
    )
    acquisition = _randomize_scan(rng, scan.acquisition)
    return replace(
        body,
        mouse=name,
        seed=int(rng.integers(2**48)),
        n_frames=POOL_FRAMES,
        ed_frame=0,
        es_frame=ES_FRAME,
        labelled_frames=(0, ES_FRAME),
        pose=pose,
        heart=replace(heart.heart, septum_deg=float(rng.uniform(-40.0, 150.0))),
        thorax=thorax.thorax,
        acquisition=_change_scanner(rng, acquisition) if any_scanner else acquisition,
    )


def _randomize_scan(rng: np.random.Generator, scan: Acquisition) -> Acquisition:
    """Return ``scan`` with new values, from wider ranges, for contrast, inflow, coil, noise and artefacts."""

    def draw_factor(spread: float) -> float:
        return float(np.exp(rng.normal(0.0, spread)))

    pulses = float(np.exp(rng.uniform(np.log(12.0), np.log(90.0))))
    angle, distance = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(3.0, 14.0)
    return replace(
        scan,
        contrast=tuple((tissue, value * draw_factor(CONTRAST_SPREAD)) for tissue, value in scan.contrast),
        pulses_lv=pulses,
        pulses_rv=pulses * draw_factor(0.3),
        pulses_atria=pulses * draw_factor(0.3),
        pulses_artery=pulses * draw_factor(0.4),
        pulses_vein=pulses * draw_factor(0.4),
        blood_pulsation=float(rng.uniform(0.0, 0.25)),
        inflow_void=float(rng.uniform(0.0, 0.85)),
        fat_turns=float(rng.uniform(0.0, 1.0)) if rng.random() < 0.5 else scan.fat_turns,
        coil_at_mm=(float(distance * np.cos(angle)), float(distance * np.sin(angle))),
        coil_reach_mm=float(rng.uniform(9.0, 24.0)),
        coil_depth=float(rng.uniform(0.0, 0.8)),
        snr_myocardium=float(np.exp(rng.uniform(np.log(3.5), np.log(25.0)))),
        ghosting=float(rng.uniform(0.0, 0.03)),
        breathing=float(rng.uniform(0.0, 0.06)),
        apodisation=float(rng.uniform(0.0, 0.8)),
        wrap=float(max(0.0, rng.uniform(-0.9, 0.9))),
        phase_axis=int(rng.integers(0, 2)),
    )


def _change_scanner(rng: np.random.Generator, scan: Acquisition) -> Acquisition:
    """Return ``scan`` at another scanner: field strength, echo and repetition time, flip angle, matrix."""
    matrix = int(rng.integers(100, 224))
    te_ms, field_t = float(rng.uniform(0.8, 2.2)), float(rng.uniform(4.7, 14.0))
    tr_ms, flip_deg = float(rng.uniform(4.0, 10.0)), float(rng.uniform(10.0, 25.0))
    return replace(scan, field_t=field_t, te_ms=te_ms, tr_ms=tr_ms, flip_deg=flip_deg, matrix_yx=(matrix, matrix))


def render_slices(
    plans: Mapping[str, Plan],
    mice: int,
    seed: int,
    *,
    any_scanner: float = 0.0,
    cache: Path | None = None,
    progress: ProgressCallback | None = None,
) -> SliceData:
    """Return the slices of ``mice`` synthetic mice, the same for the same arguments, and cache them as .npy files with
    their checksums.

    ``any_scanner`` is the share of mice imaged by another scanner than the cohort's. ``progress`` is called with 1
    after each mouse. Takes about half a second per mouse, and 128 KiB per slice (some 36 slices per mouse).
    """
    plans_hash = hashlib.sha256(repr(sorted(plans.items())).encode()).hexdigest()[:8]
    name = f"pool-{POOL_FORMAT}-{VERSION}-{any_scanner:g}-{plans_hash}-{mice}-{seed}"
    kinds = ("image", "label", "stacks")
    files = None if cache is None else [cache / f"{name}-{kind}.npy" for kind in kinds]
    damaged = [f for f in files or () if not is_intact(f)]
    if files and not damaged:
        image, label, stacks = (np.load(f, mmap_mode="r") for f in files)
        return SliceData(image, label, tuple(stacks.tolist()))
    for file in filter(Path.exists, damaged):
        report_damage(file)
    rng = np.random.default_rng([seed, mice])
    images, labels, sizes = [], [], []
    for number in range(mice):
        plan = make_random_plan(rng, list(plans.values()), f"pool-{number}", any_scanner=number < any_scanner * mice)
        mouse = render(plan)
        shape = (-1, *mouse.image.shape[-2:])
        images.append(normalize_to_uint8(mouse.image.reshape(shape)))
        labels.append(mouse.truth.reshape(shape))
        sizes += [mouse.image.shape[1]] * len(mouse.image)
        if progress:
            progress(1)
    pool = SliceData(np.concatenate(images), np.concatenate(labels), tuple(sizes))
    if files:
        for file, array in zip(files, (pool.image, pool.label, np.array(sizes)), strict=True):
            with atomic_path(file) as partial:
                np.save(partial, array)
                append_checksum(partial)
    return pool


# Batches

Batch = tuple[Tensor, Tensor]
"""Images float32 (N, inputs, Y, X) in [0, 1] and labels int64 (N, Y, X), or probabilities (N, classes, Y, X)."""
CPU = torch.device("cpu")


def make_batch(
    slices: SliceData,
    config: TrainConfig,
    epoch: int,
    step: int,
    replica: int = 0,
    device: torch.device = CPU,
) -> Batch:
    """Return the part of replica ``replica`` of the batch of a step; the same for the same arguments.

    It is made on ``device``, from random numbers that do not depend on it.
    """
    rng = np.random.default_rng([config.seed, epoch, step, replica])
    size = config.batch_size // config.replicas
    if config.end_weight == 1.0 and slices.known is None:
        chosen = rng.integers(len(slices), size=size)
    else:
        weight = np.where(slices.is_end, config.end_weight, 1.0) * np.isin(np.arange(len(slices)), slices.list_known())
        chosen = rng.choice(len(slices), size=size, p=weight / weight.sum())
    around = slices.list_neighbours(config.context)[chosen]
    if config.context:  # the order of slices is not known: train in both
        around = np.where(rng.random((len(around), 1)) < 0.5, around, around[:, ::-1])
    if config.alone:
        around = np.where(rng.random((len(around), 1)) < config.alone, chosen[:, None], around)
    image, target = (
        copy_to_device(part, device) for part in (torch.from_numpy(slices.image[around]), slices.make_targets(chosen))
    )
    if config.augmentation == "randomised":
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        labels = copy_to_device(torch.from_numpy(slices.label[around]), device)
        x, y = randomize(
            image, labels, generator, reduce=config.reduce, scaling=config.scaling, natural=config.natural,
            soft=None if slices.soft is None else target,
        )  # fmt: skip
    elif config.augmentation == "none":
        x, y = normalize(image.float(), config.scaling), target
    else:
        from mousecmr_data.training.augmentation import augment

        x, y = augment(image, target, int(rng.integers(2**31)), config.augmentation, config.scaling)
    y = complete_targets(y)
    if not (side := config.crop):
        return x, y
    top, left = (int(rng.integers(size - side + 1)) for size in y.shape[-2:])
    return x[..., top : top + side, left : left + side], y[..., top : top + side, left : left + side]


def complete_targets(y: Tensor) -> Tensor:
    """Return labels (N, Y, X) as int64; probabilities of ``SliceData.soft`` as float32, with the background's first."""
    if y.ndim == 3:
        return y.long()
    p = y.float() / 255.0
    return torch.cat([(1.0 - p.sum(1, keepdim=True)).clamp_min(0.0), p], 1)


def iterate_epoch(
    slices: SliceData,
    config: TrainConfig,
    epoch: int,
    steps: int,
    replicas: list[int],
    device: torch.device = CPU,
) -> Generator[list[Batch], None, None]:
    """Yield the batches of each step, one per replica; ``config.workers`` threads make the next ones in the meantime.

    They are made on ``device`` if that is a CUDA device, else on the processor. Close the iterator if it is not used
    up, so that the threads end.
    """
    where = device if device.type == "cuda" else CPU

    def make_batches(step: int) -> list[Batch]:
        if config.workers:
            torch.set_num_threads(1)  # of this worker
        return [make_batch(slices, config, epoch, step, replica, where) for replica in replicas]

    try:
        with closing(iterate_in_threads(make_batches, range(steps), config.workers)) as batches:
            yield from batches
    finally:
        torch.set_num_threads(torch.get_num_threads())  # PyTorch gives later threads the number that was set last


def iterate_validation(slices: SliceData, config: TrainConfig) -> Iterator[Batch]:
    """Yield all slices with a true label once, in order, not augmented, in batches."""
    around, known = slices.list_neighbours(config.context), np.array(slices.list_known(), np.intp)
    for start in range(0, len(known), config.batch_size):
        part = known[start : start + config.batch_size]
        image = torch.from_numpy(slices.image[around[part]]).float()
        yield normalize(image, config.scaling), complete_targets(slices.make_targets(part))
