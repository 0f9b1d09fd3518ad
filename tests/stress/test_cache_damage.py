"""A flipped bit in any derived file is found: what is read is right, or an error that says so; it is never wrong."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from bad_files import flip_bit
from layout_files import lab

import mousecmr_data as md
from mousecmr_data.dataset.cohort import fill_layout_cache
from mousecmr_data.dataset.memmap import make_frame_files
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema.manifest import load_manifest

FLIPS = 60 if os.environ.get("MOUSECMR_STRESS") else 3
MICE = {"A": (0, 2), "B": (0, 1, 2, 3)}
PHANTOM = "phantom-11.7T"
"""The cohort whose mice are made fastest."""
Read = Callable[[Path], Any]
"""Reads everything from the cache at a path, as a comparable value."""


def read_mice(**options: Any) -> Read:
    """Return all mice of the laboratory's files, whose manifest is beside the cache."""

    def read(cache: Path) -> dict[str, xr.Dataset]:
        source = cache.parent / "lab" / "manifest"
        return {name: ds.load() for name, ds in md.load(source=source, cache=cache, download=False, **options).items()}

    return read


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the files of two small mice."""
    source = lab(tmp_path / "lab", MICE)
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "lab" / "files").as_uri())
    md.fetch(source=source, cache=tmp_path / "cache", progress=False)
    return tmp_path / "cache"


def is_same(one: Any, two: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(is_same(one[k], two[k]) for k in one)
    if isinstance(one, xr.Dataset):
        return bool(one.identical(two))
    return bool(np.array_equal(one, two))


def check_flips(cache: Path, derived: str, read: Read, *, remade: bool = True, expected: Any = None) -> None:
    """Flip a bit of a random file that matches ``derived`` in a copy of the cache, and read; again for each flip.

    The right values have to come back; where the files are not made again (``remade`` False), an error may come.
    """
    rng = random.Random(derived)
    expected = read(cache) if expected is None else expected
    errors = 0
    for number in range(FLIPS):
        copy = cache.with_name(f"flipped-{number}")
        shutil.copytree(cache, copy)
        files = sorted(p for p in copy.glob(derived) if p.is_file() and p.stat().st_size)
        path = rng.choice(files)
        bit = flip_bit(path, rng)
        try:
            assert is_same(read(copy), expected), f"silently wrong: bit {bit} of {path.relative_to(copy)}"
        except FileLayoutError:
            assert not remade
            errors += 1
        shutil.rmtree(copy)
    assert remade or errors, "no flip was noticed"


@pytest.mark.stress
def test_layout_cache(cache: Path, tmp_path: Path) -> None:
    fill_layout_cache(md.load(source=tmp_path / "lab" / "manifest", cache=cache, download=False))
    check_flips(cache, "layouts/zarr-*/**/*", read_mice())


@pytest.mark.stress
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_stores_of_the_user(cache: Path, tmp_path: Path, packed: bool) -> None:
    """Read as a folder, by this library's own reader of shards, and as a zip file, by zarr."""
    stores = tmp_path / "stores"
    md.load(source=tmp_path / "lab" / "manifest", cache=cache, download=False).to_zarr(stores / "lab.zarr")

    def read(folder: Path) -> dict[str, xr.Dataset]:
        store = folder / "lab.zarr"
        if packed:
            store = Path(shutil.make_archive(str(folder / "packed"), "zip", store))
        return {name: ds.load().drop_attrs(deep=False) for name, ds in md.load(source=store).items()}

    check_flips(stores, "**/*", read, remade=False)


@pytest.mark.stress
def test_frame_files(cache: Path, tmp_path: Path) -> None:
    def read(cache: Path) -> dict[str, Any]:
        cohort = md.load(source=tmp_path / "lab" / "manifest", cache=cache, download=False)
        files = {mouse: make_frame_files(cohort, mouse, all_frames=False) for mouse in cohort}
        return {m: {"image": f.image(), "mask": f.mask(), "frames": f.frames} for m, f in files.items()}

    check_flips(cache, "layouts/npy-*/**/*", read)


@pytest.mark.stress
def test_phantom_files(tmp_path: Path) -> None:
    mouse = min(make_plans(PHANTOM).values(), key=lambda p: p.n_slices * p.n_frames).mouse

    def read(cache: Path) -> xr.Dataset:
        return md.load(mice=[mouse], source=PHANTOM, cache=cache, layout_cache=False)[mouse].load()

    (tmp_path / "cache").mkdir()
    check_flips(tmp_path / "cache", f"{PHANTOM}/*/*.h5", read)


@pytest.mark.stress
def test_slices_of_synthetic_mice(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from mousecmr_data.training.data import render_slices

    def read(cache: Path) -> dict[str, Any]:
        plans = make_plans("phantom")
        pool = render_slices({"Mouse1": plans["Mouse1"]}, 1, seed=0, cache=cache)
        return {"image": pool.image, "label": pool.label}

    (tmp_path / "cache").mkdir()
    check_flips(tmp_path / "cache", "*.npy", read)


@pytest.mark.stress
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_compiled_networks(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes long: here it is an error; tests/unit/inference/test_engines.py compiles again."""
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    pytest.importorskip("onnxruntime" if engine == "onnx" else engine, reason=f"the extra {engine} is not installed")
    from networks import make_random_network
    from strangers_network import make_small

    from mousecmr_data.inference.engines import make_engine
    from mousecmr_data.models.network import build_network

    network = make_random_network((2, 3, 4, 5, 6)) if engine == "openvino" else build_network(make_small)
    images = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0))

    def read(cache: Path) -> Any:
        return make_engine(engine, network, "cpu", cache)(images).argmax(1)

    expected = read(tmp_path / "cache")
    making = {"openvino": "openvino.OpenVinoEngine._build_model", "onnx": "pytorch.PlainNetwork.__init__"}
    monkeypatch.setattr(f"mousecmr_data.inference.engines.{making[engine]}", make_again)
    check_flips(tmp_path / "cache", f"engines/*.{engine}", read, remade=False, expected=expected)


@pytest.mark.stress
def test_scales_of_8_bit_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    from networks import make_random_network

    from mousecmr_data.inference.engines.openvino import OpenVinoEngine

    network = make_random_network((2, 3, 4, 5, 6))

    def read(cache: Path) -> dict[str, Any]:
        return OpenVinoEngine(network, "int8", cache)._find_maxima(network.to_arrays())

    expected = read(tmp_path / "cache")
    monkeypatch.setattr("mousecmr_data.inference.engines.openvino.make_calibration_slices", make_again)
    check_flips(tmp_path / "cache", "engines/*.scales", read, remade=False, expected=expected)


def make_again(*_: Any, **__: Any) -> None:
    raise FileLayoutError("It is made again.")


@pytest.mark.stress
def test_choices_of_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from networks import make_random_network

    from mousecmr_data.inference.engines.auto import AutoEngine
    from mousecmr_data.inference.engines.pytorch import EagerEngine

    network = make_random_network((2, 3, 4, 5, 6))

    class Named(EagerEngine):
        def __init__(self, name: str) -> None:
            super().__init__(network, "cpu")
            self.name = name  # type: ignore[misc]

    def read(cache: Path) -> str:
        engine = AutoEngine(network, "cpu", cache, Named)
        return engine.name + str(engine.verdicts)

    expected = read(tmp_path / "cache")
    monkeypatch.setattr(AutoEngine, "_find_first_passing", make_again)
    check_flips(tmp_path / "cache", "engines/*.json", read, remade=False, expected=expected)


@pytest.mark.stress
def test_tables(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    from mousecmr_data.adapters import huggingface

    def read(cache: Path) -> dict[str, Any]:
        table = huggingface.dataset(md.load(source=tmp_path / "lab" / "manifest", cache=cache, download=False))
        rows = enumerate(huggingface.numpy_samples(table))
        return {f"{i} {name}": value for i, row in rows for name, value in row.items()}

    check_flips(cache, "layouts/huggingface-*/**/*.*", read)


@pytest.mark.stress
def test_converted_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from keras_file import randomised, write_keras

    from mousecmr_data._utils.checksums import compute_sha256
    from mousecmr_data.download.cache import get_weights_folder
    from mousecmr_data.inference.predictor import load_model

    name, channels = "mousecmr-9.4T-unet3plus", (2, 3, 4, 5, 6)
    file = tmp_path / "weights.h5"
    write_keras(file, randomised(channels))
    entry = load_manifest().weights[name]
    entry = replace(entry, sha256=compute_sha256(file), size=file.stat().st_size, channels=channels)
    manifest = replace(load_manifest(), weights={name: entry})
    cached = get_weights_folder(entry, tmp_path / "cache") / Path(entry.path).name
    cached.parent.mkdir(parents=True)
    file.rename(cached)

    def read(cache: Path) -> dict[str, Any]:
        network = load_model(name, manifest=manifest, cache=cache, offline=True, device="cpu", engine="eager").network
        return {"reduce": network.reduce} | {k: v.numpy() for k, v in network.state_dict().items()}

    check_flips(tmp_path / "cache", "weights/*/*/*.safetensors", read)
