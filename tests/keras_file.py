"""Keras files of the authors' layout with generated weights."""

from pathlib import Path

import h5py
import torch

from mousecmr_data.models.keras import list_keras_layers
from mousecmr_data.models.unet3plus import UNet3Plus

NAMES = {
    "weight": ("kernel:0", "gamma:0"),
    "bias": ("bias:0", "beta:0"),
    "running_mean": ("moving_mean:0",) * 2,
    "running_var": ("moving_variance:0",) * 2,
}


def write_keras(path: Path, network: UNet3Plus, compression: str | None = None) -> None:
    """Write a file of the authors' layout, with optimizer moments and empty layers."""
    state = network.state_dict()
    with h5py.File(path, "w") as f:
        f.create_group("optimizer_weights/Adam")
        f.create_group("model_weights/dropout")
        for keras, module in list_keras_layers():
            for key, value in state.items():
                owner, _, name = key.rpartition(".")
                if owner == module and name in NAMES:
                    array = value.numpy()
                    keras_name = NAMES[name]["_BN_" in keras]
                    f.create_dataset(
                        f"model_weights/{keras}/{keras}/{keras_name}",
                        data=array.transpose(2, 3, 1, 0) if array.ndim == 4 else array,
                        compression=compression,
                    )


def randomised(channels: tuple[int, ...]) -> UNet3Plus:
    torch.manual_seed(0)
    network = UNet3Plus(channels)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network.eval()
