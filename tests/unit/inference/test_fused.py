"""The arithmetic of the engines: folding, low-resolution convolution, rounding, parts, the gate's measures."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from networks import make_random_network, widen_network  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mousecmr_data.inference.engines import make_engine  # noqa: E402
from mousecmr_data.inference.engines.auto import COARSE, EXACT, compare_logits, compare_values  # noqa: E402
from mousecmr_data.inference.engines.fused import N_POINTS, Kernel, fold_batchnorm  # noqa: E402
from mousecmr_data.inference.engines.pytorch import FusedNetwork, UpsampledConv, make_part  # noqa: E402
from mousecmr_data.inference.engines.quantization import (  # noqa: E402
    list_coded_maps,
    quantize_kernels,
    round_to_bfloat16,
    to_bfloat16,
)
from mousecmr_data.inference.engines.reference import NumpyEngine  # noqa: E402
from mousecmr_data.inference.roi import Box  # noqa: E402
from mousecmr_data.models.unet3plus import CHANNELS, UNet3Plus  # noqa: E402

TINY = (2, 3, 4, 5, 6)
FIELD, WINDOW = Box(0, 0, 160, 160), Box(32, 64, 64, 64)


@pytest.mark.parametrize(("factor", "size"), [(2, (5, 7)), (2, (64, 3)), (4, (1, 24)), (8, (6, 5)), (16, (2, 1))])
def test_the_low_resolution_form_is_the_convolution(factor: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, *size), torch.randn(4, 3, 3, 3), torch.randn(4)
    up = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    plain = F.conv2d(up, weight, bias, padding=1)
    fused = UpsampledConv(Kernel(weight.numpy(), bias.numpy()), size, factor)
    assert torch.allclose(plain, fused(x), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "reduce", "context", "shape"),
    [(CHANNELS, 1, 0, (32, 32)), ((12, 24, 48, 96, 192), 2, 1, (64, 32)), (TINY, 1, 0, (96, 48))],
)
def test_every_library_computes_the_network_of_pytorch(
    channels: tuple[int, ...], reduce: int, context: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    """PyTorch's module; its restructured form; NumPy and the graph from arrays alone."""
    network = make_random_network(channels, reduce, context)
    images = torch.rand(2, network.n_inputs, *shape)
    expected = make_engine("eager", network, "cpu")(images)
    assert compare_values(FusedNetwork(network, shape)(images).detach(), expected) < 1e-5
    assert compare_values(NumpyEngine(network.to_arrays())(images), expected) < 1e-5
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    assert compare_values(make_engine("onnx", network.to_arrays(), "cpu")(images), expected) < 1e-5
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    openvino = make_engine("openvino", network.to_arrays(), "cpu", tmp_path).make_exact()
    assert compare_values(openvino(images), expected) < 1e-5


def test_arrays_are_the_network_of_pytorch() -> None:
    network = make_random_network(TINY, reduce=2, context=1)
    arrays = network.to_arrays()
    assert arrays.list_shapes() == {name: tuple(v.shape) for name, v in network.state_dict().items()}
    assert arrays.describe() == network.describe()
    again = UNet3Plus.from_arrays(arrays)
    assert again.describe() == network.describe()
    assert all(torch.equal(v, again.state_dict()[name]) for name, v in network.state_dict().items())


def test_bfloat16_is_rounded_as_by_pytorch() -> None:
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 1.00390625, 1.01171875, 3e38, 1e-40])])
    assert np.array_equal(to_bfloat16(x.numpy()), x.bfloat16().float().numpy())


def test_carried_rounding_keeps_the_sum_of_a_kernel() -> None:
    kernels = fold_batchnorm(make_random_network((8, 8, 8, 8, 8)).to_arrays())
    for name, kernel in round_to_bfloat16(kernels).items():
        before, after = kernels[name].weight, kernel.weight
        assert np.array_equal(after, to_bfloat16(after))
        nearest = np.abs((to_bfloat16(before) - before).sum((2, 3))).mean()
        assert np.abs((after - before).sum((2, 3))).mean() < 0.6 * nearest, name


class Recorder(NumpyEngine):
    """Keeps the largest values of the maps; with ``codes``, maps are rounded to 8 bits."""

    codes = False

    def code(self, x: np.ndarray, name: str) -> np.ndarray:
        """Record a map, and round it."""
        self.largest = getattr(self, "largest", {})
        self.largest[name] = np.maximum(self.largest.get(name, 0), x.max((0, 2, 3)))
        return np.rint(x.clip(0, 1) * 255) / np.float32(255) if self.codes else x


def test_eight_bit_maps_use_the_full_range_and_the_function_stays() -> None:
    """Scales change only the numbers inside; rounding changes little."""
    network, images = make_random_network((4, 6, 8, 10, 12)), torch.rand(4, 1, 32, 32)
    first = Recorder(network.to_arrays())
    first(images)
    kernels = quantize_kernels(
        fold_batchnorm(network.to_arrays()), {name: first.largest[name] for name in list_coded_maps()}
    )
    for kernel in kernels.values():
        if kernel.scale is not None:
            codes = kernel.weight.transpose(2, 3, 0, 1).reshape(9, *kernel.weight.shape[:2]) / kernel.scale[..., None]
            assert np.allclose(codes, codes.round(), atol=1e-3)
            assert np.abs(codes).max() <= 127.001
    coded = Recorder(network.to_arrays())
    coded.codes, coded._kernels = True, kernels
    logits, expected = coded(images), make_engine("eager", network, "cpu")(images).numpy()
    assert 0.5 < coded.largest["decoder.1"].max() < 1.1
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()
    assert not np.array_equal(logits, expected)


def cut(maps: np.ndarray) -> np.ndarray:
    return np.asarray(WINDOW.cut(maps, FIELD))


@pytest.mark.parametrize(("reduce", "context"), [(1, 0), (2, 0), (2, 1)])
def test_a_key_frame_in_its_window_equals_the_whole_field(reduce: int, context: int) -> None:
    """Without the context it does not, so the test would notice a missing context."""
    network = make_random_network((3, 4, 5, 6, 7), reduce, context)
    arrays, images = network.to_arrays(), np.random.default_rng(0).random((2, network.n_inputs, 160, 160), np.float32)
    reference = make_engine("eager", network, "cpu")(images).numpy()
    points = make_part(arrays, "field", (160, 160))(images)
    assert len(points) == N_POINTS
    assert np.allclose(points[-1], reference, atol=1e-4)
    maps = make_part(arrays, "context", (64, 64))(cut(images), *map(cut, points))
    (windowed,) = make_part(arrays, "window", (64, 64))(cut(images), *maps)
    (without_context,) = make_part(arrays, "window", (64, 64))(cut(images), *map(np.zeros_like, maps))
    assert np.allclose(windowed, cut(reference), atol=1e-4)
    assert not np.allclose(without_context, cut(reference), atol=1e-2)


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_other_libraries_compute_the_same_parts(name: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name), reason=f"the extra {name} is not installed")
    arrays = make_random_network((3, 4, 5, 6, 7), reduce=2, context=1).to_arrays()
    images, size = np.random.default_rng(0).random((3, 3, 32, 64), np.float32), (32, 64)
    points = make_part(arrays, "field", size)(images)
    moved = tuple(p + np.float32(0.1) for p in points)
    maps = make_part(arrays, "context", size)(images, *moved)
    logits = make_part(arrays, "window", size)(images, *maps)
    for _ in range(2):  # compiled, then from the cache
        engine = make_engine(name, arrays, "cpu", tmp_path)
        engine = engine.make_exact() if name == "openvino" else engine
        for part, inputs, expected in (
            ("field", (images,), points),
            ("context", (images, *moved), maps),
            ("window", (images, *maps), logits),
        ):
            outputs = engine.compute(part, *inputs)
            assert len(outputs) == len(expected)
            assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(outputs, expected, strict=True)), part
    assert len(list(tmp_path.rglob("*.openvino"))) == (3 if name == "openvino" else 0)


def test_eight_bits_keep_the_whole_field_in_a_window(tmp_path: Path) -> None:
    """Maps are coded after the context was added and negative values were removed, not before."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    network = make_random_network((8, 8, 8, 8, 8))
    engine = make_engine("openvino-int8", network, "cpu", tmp_path)
    recorder, images = Recorder(network.to_arrays()), np.random.default_rng(0).random((2, 1, 160, 160), np.float32)
    recorder(images)
    engine._find_maxima = lambda _: {name: recorder.largest[name] for name in list_coded_maps()}
    points, reference = engine.compute("field", images), engine(images)
    maps = engine.compute("context", cut(images), *map(cut, points))
    (windowed,) = engine.compute("window", cut(images), *maps)
    (without_context,) = engine.compute("window", cut(images), *map(np.zeros_like, maps))
    truth = cut(reference)
    assert np.abs(windowed - truth).mean() < 0.1 * np.abs(without_context - truth).mean()


def test_widening_keeps_the_function() -> None:
    network, images = make_random_network(TINY), torch.rand(1, 1, 32, 32)
    expected = make_engine("eager", network, "cpu")(images)
    wide = widen_network(network, 3)
    assert torch.allclose(make_engine("eager", wide, "cpu")(images), expected, atol=1e-5)


def test_the_gate_measures_labels_dice_and_ef() -> None:
    """Two stacks of one slice: a square of blood pool that halves from end-diastole to end-systole."""

    def logits(end_diastole: int, end_systole: int) -> "torch.Tensor":
        labels = torch.zeros(2, 1, 32, 32, dtype=torch.long)
        labels[0, :, 4 : 4 + end_diastole, :10] = 2
        labels[1, :, 4 : 4 + end_systole, :10] = 2
        return F.one_hot(labels, 3).movedim(-1, 2).float()

    same = compare_logits(logits(20, 10), logits(20, 10))
    assert (same.same_pixels, same.dice, same.ef_points, same.logit) == (1.0, 1.0, 0.0, 0.0)
    assert same.passes(EXACT)
    result = compare_logits(logits(20, 9), logits(20, 10))
    assert result.same_pixels == pytest.approx(1 - 10 / 2048)
    assert result.dice == pytest.approx(18 / 19)
    assert result.ef_points == pytest.approx(5.0)
    assert not result.passes(COARSE)
    assert compare_logits(logits(20, 10)[:1], logits(20, 10)[:1]).passes(EXACT)  # no EF of one stack
    nothing = compare_logits(logits(0, 10), logits(20, 10))  # no cavity at end-diastole: no EF, and no Dice
    assert not nothing.passes(COARSE)
    broken = logits(20, 10) * float("nan")
    assert not compare_logits(broken, logits(20, 10)).passes(EXACT)
