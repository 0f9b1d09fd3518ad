"""The arithmetic of the engines: folding, low-resolution convolution, rounding, the gate's measures."""

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from networks import make_random_network, widen_network  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mousecmr_data.inference.engines import make_engine  # noqa: E402
from mousecmr_data.inference.engines.auto import COARSE, EXACT, compare_logits  # noqa: E402
from mousecmr_data.inference.engines.fused import (  # noqa: E402
    FusedConv,
    FusedNetwork,
    UpsampledConv,
)
from mousecmr_data.inference.engines.quantization import find_channel_maxima, quantize_network, round_to_bfloat16  # noqa: E402

TINY = (2, 3, 4, 5, 6)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize(("factor", "size"), [(2, (5, 7)), (2, (64, 3)), (4, (1, 24)), (8, (6, 5)), (16, (2, 1))])
def test_the_low_resolution_form_is_the_convolution(factor: int, size: tuple[int, int], anchored: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, *size), torch.randn(4, 3, 3, 3), torch.randn(4)
    up = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    plain = F.relu(F.conv2d(up, weight, bias, padding=1))
    assert torch.allclose(plain, UpsampledConv(weight, bias, size, factor, anchored=anchored)(x), atol=1e-5)


def test_carried_rounding_keeps_the_sum_of_a_kernel() -> None:
    network = FusedNetwork(make_random_network((8, 8, 8, 8, 8)), (32, 32))
    before = {name: m.taps().clone() for name, m in network.named_modules() if isinstance(m, FusedConv | UpsampledConv)}
    round_to_bfloat16(network)
    for name, taps in before.items():
        after = network.get_submodule(name).taps()
        assert torch.equal(after, after.bfloat16().float())
        nearest = (taps.bfloat16().float().sum(0) - taps.sum(0)).abs().mean()
        assert (after.sum(0) - taps.sum(0)).abs().mean() < 0.6 * nearest, name


def test_eight_bit_maps_use_the_full_range_and_the_function_stays() -> None:
    """Scales change only the numbers inside; rounding changes little."""
    network, images = make_random_network((4, 6, 8, 10, 12)), torch.rand(4, 1, 32, 32)
    coded = FusedNetwork(network, (32, 32))
    quantize_network(coded, find_channel_maxima(FusedNetwork(network, (32, 32)), images))
    maxima: list[float] = []
    for module in coded.modules():
        if isinstance(module, FusedConv | UpsampledConv) and module.weight_scale is not None:
            codes = module.weight / module.weight_scale[:, None, None, None]
            assert torch.allclose(codes, codes.round(), atol=1e-3)
            assert codes.abs().max() <= 127.001
    coded.decoder["1"].register_forward_hook(lambda _m, _i, out: maxima.append(float(out.max())))
    with torch.inference_mode():
        logits = coded(images)
        expected = make_engine("eager", network, "cpu")(images)
    assert 0.5 < maxima[0] < 1.1
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()
    assert not torch.equal(logits, expected)


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
