from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import layout_files
import numpy as np
import pytest

from mousecmr_data._utils.hdf5 import get_item
from mousecmr_data.dataset.hdf5 import load_mouse_file
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.formats.discover import find_scans
from mousecmr_data.formats.read import read_scan

SECRET = b"root:x:0:0:root:/root:/bin/bash " * 2000


def link_outside(f: h5py.File, name: str, secret: Path) -> None:
    f[name] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "Images")


def link_to_a_link_outside(f: h5py.File, name: str, secret: Path) -> None:
    link_outside(f, "there", secret)
    f[name] = h5py.SoftLink("/there")


def store_outside(f: h5py.File, name: str, secret: Path) -> None:
    f.create_dataset(name, (24, 20, 3, 5), np.uint8, external=[(str(secret), 0, 7200)])


def compose(f: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((24, 20, 3, 5), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "Images", (24, 20, 3, 5))
    f.create_virtual_dataset(name, layout)


def read_first_scan(path: Path) -> None:
    read_scan(next(iter(find_scans(path))))


WAYS = [link_outside, link_to_a_link_outside, store_outside, compose]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that must not be shown, as bytes and within an HDF5 file."""
    (tmp_path / "secret").write_bytes(SECRET)
    pixels = np.frombuffer(SECRET[:7200], np.uint8).reshape(24, 20, 3, 5)
    layout_files.write(tmp_path / "secret.h5", images=pixels)
    return tmp_path / "secret"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["Images", "Masks"])
@pytest.mark.parametrize("read", [load_mouse_file, read_first_scan], ids=["mouse", "scan"])
def test_what_leads_out_of_a_file_is_refused(
    read: Callable[[Path], Any], name: str, way: Callable[..., None], secret: Path, tmp_path: Path
) -> None:
    path = layout_files.write(tmp_path / "mouse.h5")
    with h5py.File(path, "a") as f:
        del f[name]
        way(f, name, secret)
    with pytest.raises(FileLayoutError, match=r"link to another file|in other files|virtual dataset"):
        read(path)


@pytest.mark.parametrize("way", WAYS)
def test_masks_of_predictions_that_lead_out_of_their_file_are_refused(
    way: Callable[..., None], secret: Path, tmp_path: Path
) -> None:
    from mousecmr_data.evaluation.predictions import open_predictions

    (tmp_path / "predictions").mkdir()
    with h5py.File(tmp_path / "predictions/Mouse1.h5", "w") as f:
        way(f, "Masks", secret)
    predictions = open_predictions(tmp_path / "predictions")
    with pytest.raises(FileLayoutError, match=r"link to another file|in other files|virtual dataset"):
        predictions.read(predictions.find("Mouse1", alone=True), load_mouse_file(layout_files.write(tmp_path / "M.h5")))


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_lead_out_of_their_file_are_refused(
    way: Callable[..., None], secret: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from keras_file import randomised, write_keras

    from mousecmr_data.models.keras import read_keras_weights

    write_keras(tmp_path / "net.h5", randomised((2, 3, 4, 5, 6)))
    with h5py.File(tmp_path / "net.h5", "a") as f:
        arrays: list[str] = []
        f.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
        del f[arrays[0]]
        way(f, arrays[0], secret)
    with pytest.raises(FileLayoutError, match=r"in other files|virtual dataset|holds \["):  # links are left out
        read_keras_weights(tmp_path / "net.h5")


def test_links_within_a_file_are_followed_and_loops_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "links.h5", "w") as f:
        f["group/values"] = [1, 2, 3]
        f["soft"] = h5py.SoftLink("/group/values")
        f["group/relative"] = h5py.SoftLink("values")
        f["dangling"] = h5py.SoftLink("/nothing")
        f["loop"] = h5py.SoftLink("/loop")
        for name in ("soft", "group/relative", "group/values"):
            assert list(get_item(f, name)) == [1, 2, 3]
        assert get_item(f, "dangling") is None
        assert get_item(f, "group/values/more") is None
        with pytest.raises(FileLayoutError, match="do not end"):
            get_item(f, "loop")
