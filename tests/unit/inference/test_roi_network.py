from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.engines.fused import FusedNetwork  # noqa: E402
from mousecmr_data.inference.engines.quantization import find_channel_maxima, quantize_network  # noqa: E402
from mousecmr_data.inference.engines.roi_network import N_POINTS, ContextNetwork, FieldNetwork, WindowNetwork  # noqa: E402
from mousecmr_data.inference.roi import Box  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus  # noqa: E402

FIELD = Box(0, 0, 160, 160)


@pytest.mark.parametrize(("reduce", "context"), [(1, 0), (2, 0), (2, 1)])
def test_a_key_frame_in_its_window_equals_the_whole_field(reduce: int, context: int) -> None:
    """Without the context it does not, so the test would notice a missing context."""
    torch.manual_seed(0)
    network = UNet3Plus((3, 4, 5, 6, 7), reduce=reduce, context=context).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    network.deep_supervision = False
    window = Box(32, 64, 64, 64)
    images = torch.rand(2, network.n_inputs, 160, 160)
    with torch.inference_mode():
        (reference,) = network(images)
        points = FieldNetwork(network, (160, 160))(images)
        assert len(points) == N_POINTS
        assert torch.allclose(points[-1], reference, atol=1e-4)
        cut = window.cut(images, FIELD)
        maps = ContextNetwork(network, (64, 64))(cut, *(window.cut(p, FIELD) for p in points))
        windowed = WindowNetwork(network, (64, 64))(cut, *maps)
        without_context = WindowNetwork(network, (64, 64))(cut, *(torch.zeros_like(m) for m in maps))
    truth = window.cut(reference, FIELD)
    assert torch.allclose(windowed, truth, atol=1e-4)
    assert not torch.allclose(without_context, truth, atol=1e-2)


def test_eight_bits_keep_the_whole_field_in_a_window() -> None:
    """Maps are coded after the context was added and negative values were removed, not before."""
    torch.manual_seed(0)
    network = UNet3Plus((8, 8, 8, 8, 8)).eval()
    network.deep_supervision = False
    window, images = Box(32, 64, 64, 64), torch.rand(2, 1, 160, 160)
    largest = find_channel_maxima(FusedNetwork(network, (160, 160)), images)

    def coded(module: FusedNetwork) -> FusedNetwork:
        quantize_network(module, largest)
        return module

    with torch.inference_mode():
        points = coded(FieldNetwork(network, (160, 160)))(images)
        reference = coded(FusedNetwork(network, (160, 160)))(images)
        cut = window.cut(images, FIELD)
        maps = coded(ContextNetwork(network, (64, 64)))(cut, *(window.cut(p, FIELD) for p in points))
        module = coded(WindowNetwork(network, (64, 64)))
        windowed, without_context = module(cut, *maps), module(cut, *(torch.zeros_like(m) for m in maps))
    assert torch.allclose(points[-1], reference, atol=1e-4)
    truth = window.cut(reference, FIELD)
    assert (windowed - truth).abs().mean() < 0.1 * (without_context - truth).abs().mean()


def test_openvino_computes_the_same_parts_and_caches_them(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    from mousecmr_data.inference.engines.openvino import CompiledRoiNetwork, OpenVinoEngine

    torch.manual_seed(0)
    network = UNet3Plus((3, 4, 5, 6, 7)).eval()
    engine = OpenVinoEngine(network, cache=tmp_path)
    engine.config["INFERENCE_PRECISION_HINT"] = "f32"
    images, size = torch.rand(3, 1, 32, 48), (32, 48)
    with torch.inference_mode():
        points = FieldNetwork(network, size)(images)
        moved = tuple(p + 0.1 for p in points)
        maps = ContextNetwork(network, size)(images, *moved)
        logits = WindowNetwork(network, size)(images, *maps)
    for _ in range(2):  # compiled, then from the cache
        for kind, inputs, expected in (
            (ContextNetwork, (images, *moved), maps),
            (WindowNetwork, (images, *maps), (logits,)),
        ):
            outputs = CompiledRoiNetwork(engine, kind, size)(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            assert len(outputs) == len(expected)
            assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(outputs, expected, strict=True))
    assert len(list(tmp_path.rglob("*.openvino"))) == 2
