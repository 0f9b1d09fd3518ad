import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.errors import ArgumentError  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus, convolve_upsampled  # noqa: E402

TINY = (2, 3, 4, 5, 6)


def test_the_default_has_the_published_number_of_parameters() -> None:
    network = UNet3Plus()
    trainable = sum(p.numel() for p in network.parameters())
    running = sum(b.numel() for b in network.buffers() if b.is_floating_point())
    assert trainable == 12_953_715
    assert trainable + running == 12_963_443


def test_every_head_has_the_size_of_the_input() -> None:
    network = UNet3Plus(TINY)
    assert [tuple(o.shape) for o in network(torch.zeros(2, 1, 48, 32))] == [(2, 3, 48, 32)] * 5
    network.deep_supervision = False
    assert len(network(torch.zeros(2, 1, 48, 32))) == 1


def test_switching_deep_supervision_does_not_change_the_prediction() -> None:
    network = UNet3Plus(TINY).eval()
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        whole = network(x)[-1]
        network.deep_supervision = False
        assert torch.equal(whole, network(x)[-1])


def test_a_reduced_network_returns_the_resolution_of_the_input() -> None:
    assert UNet3Plus(TINY, reduce=2)(torch.zeros(1, 1, 64, 96))[-1].shape == (1, 3, 64, 96)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_upsampled_convolution_equals_the_plain_one(factor: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 5, 7), torch.randn(4, 3, 3, 3), torch.randn(4)
    up = torch.nn.functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    plain = torch.nn.functional.conv2d(up, weight, bias, padding=1)
    assert torch.allclose(plain, convolve_upsampled(x, weight, bias, factor), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 40, 32), (1, 2, 32, 32), (1, 32, 32)])
def test_invalid_shapes_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        UNet3Plus(TINY)(torch.zeros(shape))


def test_invalid_channels_are_rejected() -> None:
    with pytest.raises(ArgumentError, match="channels"):
        UNet3Plus((4, 8))
