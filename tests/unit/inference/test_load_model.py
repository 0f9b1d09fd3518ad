import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from keras_file import randomised, write_keras  # noqa: E402

from mousecmr_data.download.cache import get_weights_folder  # noqa: E402
from mousecmr_data.errors import ChecksumError, FileLayoutError, MissingDataError, UnknownNameError  # noqa: E402
from mousecmr_data.inference import predictor  # noqa: E402
from mousecmr_data.inference.predictor import SHIPPED_FOLDER, list_models, load_model  # noqa: E402
from mousecmr_data.schema.manifest import Manifest, load_manifest  # noqa: E402

AUTHORS = "mousecmr-9.4T-unet3plus"
TINY = (2, 3, 4, 5, 6)


@pytest.fixture
def lab(tmp_path: Path) -> tuple[Manifest, Path]:
    """A manifest whose weights are a small Keras file, and a cache that already holds the file."""
    network = randomised(TINY)
    source = tmp_path / "source.h5"
    write_keras(source, network)
    content = source.read_bytes()
    entry = replace(
        load_manifest().weights[AUTHORS], sha256=hashlib.sha256(content).hexdigest(), size=len(content), channels=TINY
    )
    cache = tmp_path / "cache"
    path = get_weights_folder(entry, cache) / Path(entry.path).name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return replace(load_manifest(), weights={AUTHORS: entry}), cache


def test_there_are_two_sets_of_weights() -> None:
    assert {AUTHORS, "phantom-small"} <= set(list_models())
    small = list_models()["phantom-small"]
    assert small.synthetic_training
    assert small.measured
    assert "synthetic" in small.weights.limits.lower()


def test_phantom_small_ships_and_loads() -> None:
    entry = list_models()["phantom-small"].weights
    path = SHIPPED_FOLDER / entry.path
    assert path.stat().st_size == entry.size <= 4_000_000
    predictor = load_model("phantom-small", device="cpu")
    assert predictor.network.channels == entry.channels
    assert predictor.origin.synthetic_training


def test_damaged_shipped_weights_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in SHIPPED_FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shipped = tmp_path / list_models()["phantom-small"].weights.path
    content = bytearray(shipped.read_bytes())
    content[-5] ^= 1
    shipped.write_bytes(content)
    monkeypatch.setattr(predictor, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(ChecksumError, match="SHA-256"):
        load_model("phantom-small", device="cpu")


def test_unavailable_weights_are_an_error_with_two_next_steps(tmp_path: Path) -> None:
    """No other weights replace them."""
    with pytest.raises(MissingDataError) as e:
        load_model(AUTHORS, cache=tmp_path, offline=True, device="cpu")
    assert "SEG459.h5" in str(e.value)
    assert str(tmp_path) in str(e.value)
    assert "--weights phantom-small" in str(e.value)


def test_a_file_in_the_cache_is_converted_once(lab: tuple[Manifest, Path]) -> None:
    manifest, cache = lab
    first = load_model(AUTHORS, manifest=manifest, cache=cache, offline=True, device="cpu").network.state_dict()
    folder = get_weights_folder(manifest.weights[AUTHORS], cache)
    converted = folder / f"{AUTHORS}.safetensors"
    (folder / "SEG459.h5").unlink()
    again = load_model(AUTHORS, manifest=manifest, cache=cache, offline=True, device="cpu").network.state_dict()
    for name, value in randomised(TINY).state_dict().items():
        assert torch.equal(first[name], value)
        assert torch.equal(again[name], value)
    content = bytearray(converted.read_bytes())
    content[-100] ^= 0xFF
    converted.write_bytes(content)
    with pytest.raises(MissingDataError):  # damaged, and its source is gone
        load_model(AUTHORS, manifest=manifest, cache=cache, offline=True, device="cpu")


def test_a_file_in_the_cache_with_other_bytes_is_not_used(lab: tuple[Manifest, Path]) -> None:
    manifest, cache = lab
    path = get_weights_folder(manifest.weights[AUTHORS], cache) / "SEG459.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(MissingDataError):
        load_model(AUTHORS, manifest=manifest, cache=cache, offline=True, device="cpu")


def test_your_own_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    write_keras(tmp_path / "own.h5", randomised(TINY))
    assert load_model(tmp_path / "own.h5", device="cpu").network.channels == TINY
    with pytest.raises(MissingDataError):
        load_model(tmp_path / "other.h5", device="cpu")
    with pytest.raises(UnknownNameError, match="phantom-small"):
        load_model("phantom-large", device="cpu")


def test_the_card_of_weights_states_their_preprocessing_and_a_contradiction_is_an_error(
    lab: tuple[Manifest, Path],
) -> None:
    manifest, cache = lab
    assert {card.weights.scaling for card in list_models().values()} <= {"min-max", "min-p99"}
    published = list_models()[AUTHORS].weights
    assert (published.scaling, published.context) == ("min-max", 0)
    entry = replace(manifest.weights[AUTHORS], scaling="min-p99")
    with pytest.raises(FileLayoutError, match="min-p99"):
        load_model(AUTHORS, manifest=replace(manifest, weights={AUTHORS: entry}), cache=cache, offline=True)
