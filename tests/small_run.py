"""A small training run, in this process or another: python small_run.py FOLDER EPOCHS REPLICAS PAUSE."""

import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema.labels import Label
from mousecmr_data.training.config import TrainConfig
from mousecmr_data.training.data import SliceData, render_slices
from mousecmr_data.training.trainer import TrainingProgress, fit


@cache
def slices(n: int = 24, size: int = 64) -> SliceData:
    """Return phantom slices at 0.2 mm, cut to ``size`` pixels around the ventricle."""
    plans = make_plans("phantom")
    pool = render_slices({m: plans[m] for m in ("Mouse1", "Mouse2")}, 1, seed=5)
    image, label = pool.image[:, ::2, ::2], pool.label[:, ::2, ::2]
    chosen = [k for k in range(len(label)) if (label[k] == Label.BLOOD_POOL).sum() > 60][:n]
    cut = []
    for k in chosen:
        row, column = (int(np.clip(v.mean() - size / 2, 0, 128 - size)) for v in np.nonzero(label[k]))
        cut.append(
            (image[k, row : row + size, column : column + size], label[k, row : row + size, column : column + size])
        )
    return SliceData(np.stack([i for i, _ in cut]), np.stack([k for _, k in cut]))


def config(epochs: int = 4, replicas: int = 1) -> TrainConfig:
    """Return the configuration of a run of a few seconds: a tiny network, four slices per batch."""
    return TrainConfig(
        recipe="test",
        channels=(2, 4, 4, 8, 8),
        batch_size=4,
        steps_per_epoch=3,
        epochs=epochs,
        replicas=replicas,
        augmentation="randomised",
        device="cpu",
        seed=3,
    )


def run(folder: Path, epochs: int = 4, replicas: int = 1, pause: float = 0.0) -> tuple[UNet3Plus, TrainingProgress]:
    """Train, from a checkpoint if there is one; wait ``pause`` seconds after each epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    resume = (folder / "last.safetensors").exists()
    data = slices()
    return fit(config(epochs, replicas), data, data, folder, resume=resume, on_epoch=lambda _: time.sleep(pause))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
