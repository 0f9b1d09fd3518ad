import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.inference.grid import normalize_min_max  # noqa: E402
from mousecmr_data.training.domain_randomization import randomize  # noqa: E402


def batch() -> tuple["torch.Tensor", "torch.Tensor"]:
    image = torch.randint(0, 255, (4, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    label = torch.zeros_like(image)
    label[:, 20:44, 20:44] = 1
    label[:, 26:38, 26:38] = 2
    return image[:, None], label[:, None]


@pytest.mark.parametrize("reduce", [1, 2])
def test_the_same_generator_gives_the_same_batch(reduce: int) -> None:
    batches = [randomize(*batch(), torch.Generator().manual_seed(s), reduce=reduce) for s in (1, 1, 2)]
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1], batches[1][1])
    assert not torch.equal(batches[0][0], batches[2][0])
    x, y = batches[0]
    assert (x.shape, y.shape, y.dtype) == ((4, 1, 64, 64), (4, 64, 64), torch.int64)
    assert set(y.unique().tolist()) <= {0, 1, 2}
    assert float(x.min()) == 0.0
    assert float(x.max()) == 1.0
    assert torch.isfinite(x).all()


def test_all_slices_of_a_sample_get_the_same_pose_and_labels_are_those_of_the_middle() -> None:
    image, label = batch()
    same = randomize(image.repeat(1, 3, 1, 1), label.repeat(1, 3, 1, 1), torch.Generator().manual_seed(1))
    label = torch.cat([torch.zeros_like(label), label, torch.zeros_like(label)], 1)
    x, y = randomize(image.repeat(1, 3, 1, 1), label, torch.Generator().manual_seed(1), reduce=2, scaling="min-p99")
    assert x.shape == (4, 3, 64, 64)
    assert torch.equal(y, same[1])
    assert ((x == 1.0).float().mean((-2, -1)) >= 0.01).all(), "the brightest hundredth is clipped"


def test_natural_slices_keep_their_grey_values_and_get_a_pose_like_the_others() -> None:
    image, label = batch()
    seeded = [torch.Generator().manual_seed(3) for _ in range(3)]
    changed, natural, half = (
        randomize(image, label, g, natural=share) for g, share in zip(seeded, (0.0, 1.0, 0.5), strict=True)
    )
    assert torch.equal(changed[1], natural[1]), "the same pose"
    assert natural[0].sub(changed[0]).abs().mean() > 0.01
    kept = [torch.equal(h, n) for h, n in zip(half[0], natural[0], strict=True)]
    assert kept != [torch.equal(h, c) for h, c in zip(half[0], changed[0], strict=True)]
    assert len(set(kept)) == 2, "some are natural, some are not"


def test_a_flat_slice_becomes_zeros() -> None:
    x = torch.stack([torch.full((1, 4, 4), 5.0), torch.arange(16.0).reshape(1, 4, 4)])
    assert not normalize_min_max(x)[0].any()
    assert float(normalize_min_max(x)[1].max()) == 1.0
