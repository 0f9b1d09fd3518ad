"""What the engines' arithmetic rests on: folding, low-resolution convolution, rounding, the gate's measures."""

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from networks import lively, widened  # noqa: E402
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
    network = FusedNetwork(lively((8, 8, 8, 8, 8)), (32, 32))
    before = {name: m.taps().clone() for name, m in network.named_modules() if isinstance(m, FusedConv | UpsampledConv)}
    round_to_bfloat16(network)
    for name, taps in before.items():
        after = network.get_submodule(name).taps()
        assert torch.equal(after, after.bfloat16().float())
        nearest = (taps.bfloat16().float().sum(0) - taps.sum(0)).abs().mean()
        assert (after.sum(0) - taps.sum(0)).abs().mean() < 0.6 * nearest, name


def test_eight_bit_maps_fill_their_code_and_the_function_stays() -> None:
    """Scales change nothing but the numbers inside; rounding changes little."""
    network, images = lively((4, 6, 8, 10, 12)), torch.rand(4, 1, 32, 32)
    coded = FusedNetwork(network, (32, 32))
    quantize_network(coded, find_channel_maxima(FusedNetwork(network, (32, 32)), images))
    seen: list[float] = []
    for module in coded.modules():
        if isinstance(module, FusedConv | UpsampledConv) and module.weight_scale is not None:
            codes = module.weight / module.weight_scale[:, None, None, None]
            assert torch.allclose(codes, codes.round(), atol=1e-3)
            assert codes.abs().max() <= 127.001
    coded.decoder["1"].register_forward_hook(lambda _m, _i, out: seen.append(float(out.max())))
    with torch.inference_mode():
        found = coded(images)
        want = make_engine("eager", network, "cpu")(images)
    assert 0.5 < seen[0] < 1.1
    assert (found - want).abs().max() < 0.1 * want.abs().max()
    assert not torch.equal(found, want)


def test_widening_keeps_the_function() -> None:
    network, images = lively(TINY), torch.rand(1, 1, 32, 32)
    want = make_engine("eager", network, "cpu")(images)
    assert torch.allclose(make_engine("eager", widened(network, 3), "cpu")(images), want, atol=1e-5)


def test_the_gate_measures_what_users_see() -> None:
    """Two stacks of one slice: a square of blood pool that halves from end-diastole to end-systole."""

    def logits(end_diastole: int, end_systole: int) -> "torch.Tensor":
        labels = torch.zeros(2, 1, 32, 32, dtype=torch.long)
        labels[0, :, 4 : 4 + end_diastole, :10] = 2
        labels[1, :, 4 : 4 + end_systole, :10] = 2
        return F.one_hot(labels, 3).movedim(-1, 2).float()

    same = compare_logits(logits(20, 10), logits(20, 10))
    assert (same.same_pixels, same.dice, same.ef_points, same.logit) == (1.0, 1.0, 0.0, 0.0)
    assert same.passes(EXACT)
    found = compare_logits(logits(20, 9), logits(20, 10))
    assert found.same_pixels == pytest.approx(1 - 10 / 2048)
    assert found.dice == pytest.approx(18 / 19)
    assert found.ef_points == pytest.approx(5.0)
    assert not found.passes(COARSE)
    assert compare_logits(logits(20, 10)[:1], logits(20, 10)[:1]).passes(EXACT)  # no EF of one stack
    nothing = compare_logits(logits(0, 10), logits(20, 10))  # no cavity at end-diastole: no EF, and no Dice
    assert not nothing.passes(COARSE)
    broken = logits(20, 10) * float("nan")
    assert not compare_logits(broken, logits(20, 10)).passes(EXACT)
