"""Each engine against the reference. The gates are those of :mod:`mousecmr_data.inference.engines.auto`."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from networks import lively, widened  # noqa: E402

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
from mousecmr_data.inference.predictor import load_model  # noqa: E402
from mousecmr_data.inference.preprocessing import normalize_min_max  # noqa: E402
from mousecmr_data.models.unet3plus import CHANNELS, UNet3Plus  # noqa: E402

TINY = (2, 3, 4, 5, 6)
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "openvino-int8": "openvino"}
GATED = ("exact", "onnx", "openvino", "openvino-int8")


def present(name: str) -> str:
    """``name``; the test is skipped where its package is not installed."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"the extra {PACKAGES[name]} is not installed")
    return name


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for compiled networks that the tests of this module share."""
    return tmp_path_factory.mktemp("engines")


@cache
def small() -> UNet3Plus:
    return load_model("phantom-small", device="cpu", engine="eager").network


@cache
def expected() -> "torch.Tensor":
    return run_engine(make_engine("eager", small(), "cpu"), make_gate_stacks())


@pytest.mark.parametrize("name", GATED)
def test_an_engine_passes_its_gate_on_phantom_stacks(name: str, kept: Path) -> None:
    found = compare_logits(run_engine(make_engine(present(name), small(), "cpu", kept), make_gate_stacks()), expected())
    assert found.passes(GATE_LIMITS[name]), found


@pytest.mark.parametrize("name", GATED)
def test_an_engine_passes_its_gate_on_a_real_stack(name: str, kept: Path, real_mouse: Path) -> None:
    image = open_mouse(str(real_mouse))["image"].transpose("frame", "slice", "y", "x").values
    stack = normalize_min_max(torch.from_numpy(image.astype(np.float32))[:, :, None])
    found = compare_engines(
        make_engine(present(name), small(), "cpu", kept), make_engine("eager", small(), "cpu"), stack
    )
    assert found.passes(GATE_LIMITS[name]), found


@pytest.mark.parametrize("name", ["exact", "openvino-int8"])  # bfloat16: tests/stress
def test_an_engine_passes_its_gate_at_full_width(name: str, kept: Path) -> None:
    """phantom-small with three times as many channels: the published width and more, and masks that mean something."""
    network = widened(small(), 3)
    assert all(n >= published for n, published in zip(network.channels, CHANNELS, strict=True))
    stacks = make_gate_stacks()[:, 2:8:2]
    found = compare_engines(
        make_engine(present(name), network, "cpu", kept), make_engine("eager", network, "cpu"), stacks
    )
    assert found.passes(GATE_LIMITS[name]), found


@pytest.mark.parametrize(("reduce", "shape"), [(1, (48, 32)), (2, (32, 96)), (1, (16, 80))])
@pytest.mark.parametrize("name", ["exact", "openvino"])
def test_any_size_and_any_number_of_images(name: str, reduce: int, shape: tuple[int, int], kept: Path) -> None:
    network = lively(TINY, reduce)
    images = torch.rand(3, 1, *shape)
    want = make_engine("eager", network, "cpu")(images)
    engine = make_engine(present(name), network, "cpu", kept)
    whole = engine(images)
    assert whole.shape == want.shape
    assert whole.dtype == torch.float32
    assert torch.allclose(whole, want, atol=1e-5 if name == "exact" else 0.05)
    assert torch.allclose(whole[1:2], engine(images[1:2]), atol=1e-5)


def test_the_reference_computes_as_published() -> None:
    """Upsampled maps are made, and the other form of the same network agrees."""
    network = lively(TINY)
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        low = network(images)[-1]
    reference = make_engine("eager", network, "cpu")
    assert not network.low_resolution
    assert torch.allclose(low, reference(images), atol=1e-5)
    assert not torch.equal(low, reference(images))


def test_compiled_networks_are_kept_and_damaged_ones_made_anew(tmp_path: Path) -> None:
    present("openvino")
    network, images = lively(TINY), torch.rand(1, 1, 32, 32)
    first = make_engine("openvino", network, "cpu", tmp_path)(images)
    (blob,) = tmp_path.rglob("*.openvino")
    stamp = blob.stat().st_mtime_ns
    assert torch.equal(first, make_engine("openvino", network, "cpu", tmp_path)(images))
    assert blob.stat().st_mtime_ns == stamp
    blob.write_bytes(b"not a network")
    assert torch.equal(first, make_engine("openvino", network, "cpu", tmp_path)(images))
    assert blob.stat().st_size > 1000
    other = lively(TINY)
    with torch.no_grad():
        other.head["1"].second.bias.add_(1.0)
    assert torch.allclose(first + 1.0, make_engine("openvino", other, "cpu", tmp_path)(images), atol=0.02)
    assert len(list(tmp_path.rglob("*.openvino"))) == 2  # other weights, another place


def test_auto_takes_the_fastest_that_passes_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("auto", small(), "cpu", tmp_path)
    assert engine.name in ("openvino", "exact")
    assert "passed its gate" in engine.verdicts[engine.name]  # type: ignore[attr-defined]
    monkeypatch.setattr(auto, "make_gate_stacks", lambda: pytest.fail("the gate was asked again"))
    assert make_engine("auto", small(), "cpu", tmp_path).name == engine.name


def test_auto_leaves_an_engine_that_fails_its_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mousecmr_data.inference.engines.auto import AutoEngine

    class Wrong:
        """Its labels are those of other images."""

        name = "openvino"

        def __init__(self, *_: object) -> None: ...

        def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
            return make_engine("eager", small(), "cpu")(images.flip(-1))

    def makes(name: str) -> Engine:
        return Wrong() if name == "openvino" else make_engine(name, small(), "cpu", tmp_path)

    few = make_gate_stacks()[:, 4:6]
    monkeypatch.setattr("mousecmr_data.inference.engines.auto.make_gate_stacks", lambda: few)
    auto = AutoEngine(small(), "cpu", tmp_path, makes)
    assert auto.name == "exact"
    assert auto.verdicts["openvino"].startswith("failed its gate")


def test_unknown_engines_and_missing_compilers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="openvino-int8"):
        make_engine("turbo", lively(TINY))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MouseCMRError, match=r"C\+\+ compiler"):
        make_engine("compiled", lively(TINY), "cpu")
    assert set(GATE_LIMITS) == set(ENGINE_NAMES) - {"auto"}


def test_segmenting_says_which_engine_it_was() -> None:
    predictor = load_model("phantom-small", device="cpu", engine="exact")
    ds = open_mouse("Mouse6", source="phantom").isel(frame=[0], slice=[4])
    assert predictor.segment(ds)["predicted"].attrs["engine"] == "exact"
