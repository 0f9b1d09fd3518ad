"""Each engine compared with the reference, by the gates of :mod:`mousecmr_data.inference.engines.auto`."""

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from networks import make_random_network, widen_network  # noqa: E402

from mousecmr_data import open_mouse  # noqa: E402
from mousecmr_data.errors import MouseCMRError, UnknownNameError  # noqa: E402
from mousecmr_data.inference.engines import (  # noqa: E402
    ENGINE_NAMES,
    Engine,
    auto,
    make_engine,
)
from mousecmr_data.inference.engines.auto import (  # noqa: E402
    GATE_LIMITS,
    compare_engines,
    compare_logits,
    make_gate_stacks,
    run_engine,
)
from mousecmr_data.inference.grid import list_neighbours, normalize  # noqa: E402
from mousecmr_data.inference.predictor import load_model  # noqa: E402
from mousecmr_data.models.unet3plus import CHANNELS, UNet3Plus  # noqa: E402

TINY = (2, 3, 4, 5, 6)
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "openvino-int8": "openvino"}
GATED = ("exact", "onnx", "openvino", "openvino-int8")


def require(name: str) -> str:
    """Return ``name``; skip the test if its package is not installed."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"the extra {PACKAGES[name]} is not installed")
    return name


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache for compiled networks, shared by the tests of this module."""
    return tmp_path_factory.mktemp("engines")


@cache
def small() -> UNet3Plus:
    return load_model("phantom-small", device="cpu", engine="eager").network


@cache
def expected() -> np.ndarray:
    return run_engine(make_engine("eager", small(), "cpu"), make_gate_stacks(small()))


@pytest.mark.parametrize("name", GATED)
def test_an_engine_passes_its_gate_on_phantom_stacks(name: str, cache_folder: Path) -> None:
    result = compare_logits(
        run_engine(make_engine(require(name), small(), "cpu", cache_folder), make_gate_stacks(small())), expected()
    )
    assert result.passes(GATE_LIMITS[name]), result


@pytest.mark.parametrize("name", GATED)
def test_an_engine_passes_its_gate_on_a_real_stack(name: str, cache_folder: Path, real_mouse: Path) -> None:
    image = open_mouse(str(real_mouse))["image"].transpose("frame", "slice", "y", "x").values
    scaled = normalize(image.astype(np.float32), small().scaling)
    stack = scaled[:, list_neighbours(image.shape[1], small().context)]
    result = compare_engines(
        make_engine(require(name), small(), "cpu", cache_folder), make_engine("eager", small(), "cpu"), stack
    )
    assert result.passes(GATE_LIMITS[name]), result


@pytest.mark.parametrize("name", ["exact", "openvino-int8"])  # bfloat16: tests/stress
def test_an_engine_passes_its_gate_at_full_width(name: str, cache_folder: Path) -> None:
    """phantom-small with three times as many channels: at least the published width, and meaningful masks."""
    network = widen_network(small(), 3)
    assert all(n >= published for n, published in zip(network.channels, CHANNELS, strict=True))
    stacks = make_gate_stacks(network)[:, 2:8:2]
    result = compare_engines(
        make_engine(require(name), network, "cpu", cache_folder), make_engine("eager", network, "cpu"), stacks
    )
    assert result.passes(GATE_LIMITS[name]), result


@pytest.mark.parametrize(
    ("reduce", "context", "shape"), [(1, 0, (48, 32)), (2, 0, (32, 96)), (1, 1, (16, 80)), (2, 1, (32, 64))]
)
@pytest.mark.parametrize("name", ["exact", "openvino", "onnx"])
def test_any_size_and_any_number_of_images(
    name: str, reduce: int, context: int, shape: tuple[int, int], cache_folder: Path
) -> None:
    network = make_random_network(TINY, reduce, context)
    images = torch.rand(3, 1 + 2 * context, *shape)
    expected_logits = make_engine("eager", network, "cpu")(images)
    engine = make_engine(require(name), network, "cpu", cache_folder)
    whole = torch.as_tensor(engine(images))
    assert whole.shape == expected_logits.shape
    assert whole.dtype == torch.float32
    assert torch.allclose(whole, expected_logits, atol=0.05 if name == "openvino" else 1e-4)
    assert torch.allclose(whole[1:2], torch.as_tensor(engine(images[1:2])), atol=1e-5)


def test_the_reference_computes_as_published() -> None:
    """Upsampled maps are computed, and the other form of the same network agrees."""
    network = make_random_network(TINY)
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        low = network(images)[-1]
    reference = make_engine("eager", network, "cpu")
    assert not network.low_resolution
    assert torch.allclose(low, reference(images), atol=1e-5)
    assert not torch.equal(low, reference(images))


def test_compiled_networks_are_cached_and_damaged_ones_compiled_again(tmp_path: Path) -> None:
    require("openvino")
    network, images = make_random_network(TINY), torch.rand(1, 1, 32, 32)
    first = make_engine("openvino", network, "cpu", tmp_path)(images)
    (blob,) = tmp_path.rglob("*.openvino")
    stamp = blob.stat().st_mtime_ns
    assert np.array_equal(first, make_engine("openvino", network, "cpu", tmp_path)(images))
    assert blob.stat().st_mtime_ns == stamp
    blob.write_bytes(b"not a network")
    assert np.array_equal(first, make_engine("openvino", network, "cpu", tmp_path)(images))
    assert blob.stat().st_size > 1000
    other = make_random_network(TINY)
    with torch.no_grad():
        other.head["1"].second.bias.add_(1.0)
    assert np.allclose(first + 1.0, make_engine("openvino", other, "cpu", tmp_path)(images), atol=0.02)
    assert len(list(tmp_path.rglob("*.openvino"))) == 2  # other weights, another file


def test_auto_takes_the_fastest_that_passes_and_keeps_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine("auto", small(), "cpu", tmp_path)
    assert engine.name in ("openvino", "exact")
    assert "passed its gate" in engine.verdicts[engine.name]  # type: ignore[attr-defined]
    monkeypatch.setattr(auto, "make_gate_stacks", lambda _: pytest.fail("the gate was computed again"))
    assert make_engine("auto", small(), "cpu", tmp_path).name == engine.name


def test_auto_rejects_an_engine_that_fails_its_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mousecmr_data.inference.engines.auto import AutoEngine

    class Wrong:
        """Its labels are those of other images."""

        name = "openvino"

        def __init__(self, *_: object) -> None: ...

        def __call__(self, images: np.ndarray) -> "torch.Tensor":
            return make_engine("eager", small(), "cpu")(images[..., ::-1].copy())

    def make(name: str) -> Engine:
        return Wrong() if name == "openvino" else make_engine(name, small(), "cpu", tmp_path)

    stacks = make_gate_stacks(small())[:, 4:6]
    monkeypatch.setattr("mousecmr_data.inference.engines.auto.make_gate_stacks", lambda _: stacks)
    auto = AutoEngine(small(), "cpu", tmp_path, make)
    assert auto.name == ("onnx" if find_spec("onnxruntime") else "exact")
    assert auto.verdicts["openvino"].startswith("failed its gate")


class Shifted:
    """An engine whose labels are those of other images."""

    name = "openvino-int8"

    def __call__(self, images: np.ndarray) -> "torch.Tensor":
        return make_engine("eager", small(), "cpu")(images[..., ::-1].copy())


def test_an_engine_asked_for_by_name_has_to_pass_its_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = make_gate_stacks(small())[:, 4:6]
    monkeypatch.setattr(auto, "make_gate_stacks", lambda _: stacks)
    monkeypatch.setattr("mousecmr_data.inference.predictor.make_engine", lambda *_: Shifted())
    load = partial(load_model, "phantom-small", device="cpu", engine="openvino-int8", cache=tmp_path)
    with pytest.raises(MouseCMRError, match=r"openvino-int8' failed its accuracy check .* phantom-small") as e:
        load()
    assert "Dice 0.99 or more, EF within 1 points" in str(e.value)
    assert "--engine auto" in str(e.value) and "--force" in str(e.value)
    monkeypatch.setattr(auto, "make_gate_stacks", lambda _: pytest.fail("the gate was computed again"))
    with pytest.raises(MouseCMRError, match="failed its accuracy check"):
        load()
    predictor = load(force=True)
    assert predictor.origin.name == "phantom-small (openvino-int8 FAILED its accuracy check)"
    ds = open_mouse("Mouse6", source="phantom").isel(frame=[0], slice=[4])
    assert "FAILED" in predictor.segment(ds)["predicted"].attrs["weights"]


def test_unknown_engines_and_missing_compilers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="openvino-int8"):
        make_engine("turbo", make_random_network(TINY))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MouseCMRError, match=r"C\+\+ compiler"):
        make_engine("compiled", make_random_network(TINY), "cpu")
    assert set(GATE_LIMITS) == set(ENGINE_NAMES) - {"auto"}


def test_results_name_their_engine() -> None:
    predictor = load_model("phantom-small", device="cpu", engine="exact")
    ds = open_mouse("Mouse6", source="phantom").isel(frame=[0], slice=[4])
    assert predictor.segment(ds)["predicted"].attrs["engine"] == "exact"
