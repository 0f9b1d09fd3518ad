"""Reading a local store's data files directly gives the same values as Zarr, and reports damage."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import zarr
from bad_files import flip_bit
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec

from mousecmr_data.dataset.zarr_store import SHARD_PATH, ZarrArray, open_shard
from mousecmr_data.errors import FileLayoutError

SHAPE = (6, 3, 8, 5)
VALUES = np.random.default_rng(0).integers(1, 65536, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store"))


def make_store(folder: Path, **changes: object) -> Path:
    compressors = (BloscCodec(cname="zstd"), Crc32cCodec())
    layout = {"chunks": (1, *SHAPE[1:]), "shards": SHAPE, "compressors": compressors, **changes}
    group = zarr.create_group(folder, zarr_format=3)
    group.create_array("image", shape=SHAPE, dtype="uint16", **layout)[...] = VALUES  # type: ignore[arg-type]
    return folder


def array(folder: Path) -> ZarrArray:
    return ZarrArray(str(folder), "image", SHAPE, "uint16")


def keys() -> st.SearchStrategy[tuple[object, ...]]:
    def axis(size: int) -> st.SearchStrategy[object]:
        return st.one_of(
            st.integers(0, size - 1),
            st.slices(size),
            st.lists(st.integers(0, size - 1), max_size=4).map(lambda v: np.array(v, int)),
        )

    return st.tuples(*(axis(n) for n in SHAPE))


def expected(key: tuple[object, ...]) -> np.ndarray:
    values = VALUES
    for axis in (3, 2, 1, 0):
        values = values[(slice(None),) * axis + (key[axis],)]  # type: ignore[index]
    return values


def test_shards_without_checksums_are_read(tmp_path: Path) -> None:
    make_store(tmp_path, compressors=BloscCodec(cname="zstd"))
    np.testing.assert_array_equal(array(tmp_path).read((slice(None),) * 4), VALUES)


@settings(max_examples=200, deadline=None)
@given(key=keys())
def test_any_outer_key_gives_what_numpy_gives(folder: Path, key: tuple[object, ...]) -> None:
    np.testing.assert_array_equal(array(folder).read(key), expected(key))


def test_other_layouts_are_left_to_zarr(tmp_path: Path) -> None:
    for name, layout in {
        "chunks": {"shards": (2, *SHAPE[1:])},
        "codec": {"compressors": None},
        "no shards": {"shards": None},
    }.items():
        store = make_store(tmp_path / name, **layout)
        opened = zarr.open_array(store, path="image", mode="r")
        assert open_shard(opened, store / "image" / SHARD_PATH) is None
        np.testing.assert_array_equal(array(store).read((slice(None),) * 4), VALUES)


@pytest.mark.parametrize("damage", ["truncated", "index", "frame", "missing"])
def test_damage_is_an_error(tmp_path: Path, damage: str) -> None:
    file = make_store(tmp_path) / "image" / SHARD_PATH
    data = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "missing":
        file.unlink()
    else:
        at = len(data) - 8 if damage == "index" else 4  # in a frame: the length its header states
        data[at] ^= 0xFF
        file.write_bytes(data)
    with pytest.raises(FileLayoutError):
        array(tmp_path).read((slice(None),) * 4)


def test_any_flipped_bit_is_an_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    file = make_store(tmp_path) / "image" / SHARD_PATH
    whole = file.read_bytes()
    for _ in range(300):
        flip_bit(file, rng)
        with pytest.raises(FileLayoutError, match="image cannot be read"):
            array(tmp_path).read((slice(None),) * 4)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("old", "new"), [('"separator":"/"', '"separator":"."'), ('"data_type":"uint16"', '"data_type":"int16"')]
)
def test_metadata_that_contradict_the_index_are_an_error(tmp_path: Path, old: str, new: str) -> None:
    path = make_store(tmp_path) / "image" / "zarr.json"
    text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(FileLayoutError, match=r"its zarr\.json is damaged"):
        array(tmp_path).read((slice(None),) * 4)
