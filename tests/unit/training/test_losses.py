import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.training.losses import soft_dice_loss, supervised_loss  # noqa: E402


def one_hot(labels: "torch.Tensor") -> "torch.Tensor":
    return (torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() - 0.5) * 200


def test_the_loss_is_0_for_a_perfect_prediction_and_1_for_a_wrong_one() -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    assert float(soft_dice_loss(one_hot(labels), labels)) == pytest.approx(0.0, abs=1e-5)
    assert float(soft_dice_loss(one_hot((labels + 1) % 3), labels)) == pytest.approx(1.0, abs=1e-5)


def test_sums_run_over_the_batch_and_absent_classes_count_as_correct() -> None:
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    labels[0, 0, 0] = 2
    missed = one_hot(torch.zeros_like(labels))
    # Background 254/255, myocardium absent in both (1), blood pool missed (0).
    assert float(soft_dice_loss(missed, labels)) == pytest.approx(1 - (254 / 255 + 1 + 0) / 3, abs=1e-5)


def test_all_heads_have_the_same_weight() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    good, bad = one_hot(labels), one_hot(labels + 1)
    both = float(supervised_loss([good, bad], labels))
    assert both == pytest.approx((float(soft_dice_loss(good, labels)) + float(soft_dice_loss(bad, labels))) / 2)
    assert float(supervised_loss([bad], labels, cross_entropy=1.0)) > 10
