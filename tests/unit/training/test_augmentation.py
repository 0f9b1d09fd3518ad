import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

from mousecmr_data.training.augmentation import augment, clahe  # noqa: E402


def batch() -> tuple["torch.Tensor", "torch.Tensor"]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (6, 256, 256), dtype=np.uint8)
    label = np.zeros_like(image)
    label[:, 100:160, 90:150], label[:, 115:145, 105:135] = 1, 2
    image[label == 2] += 150
    return torch.from_numpy(image)[:, None], torch.from_numpy(label)


@pytest.mark.parametrize("kind", ["paper", "notebook"])
def test_the_same_seed_gives_the_same_batch(kind: str) -> None:
    x, y = augment(*batch(), seed=3, kind=kind)
    again, labels = augment(*batch(), seed=3, kind=kind)
    other, _ = augment(*batch(), seed=4, kind=kind)
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, other)
    assert type(x) is torch.Tensor
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((6, 1, 256, 256), torch.float32, (6, 256, 256), torch.int64)
    assert torch.equal(x.amin((1, 2, 3)), torch.zeros(6))
    assert torch.equal(x.amax((1, 2, 3)), torch.ones(6))


def test_labels_are_transformed_like_the_image() -> None:
    for seed in range(4):
        x, y = augment(*batch(), seed=seed)
        for image, label in zip(x[:, 0], y, strict=True):
            assert set(label.unique().tolist()) == {0, 1, 2}
            assert image[label == 2].mean() > 1.5 * image[label != 2].mean()


def test_clahe_raises_local_contrast_and_keeps_flat_areas_in_range() -> None:
    rng = np.random.default_rng(0)
    dim = rng.integers(40, 60, (64, 96), dtype=np.uint8)
    assert clahe(dim, 8.0).std() > 2 * dim.std()
    assert clahe(dim, 1.0).std() < clahe(dim, 8.0).std()
    assert clahe(np.full((50, 70), 9, np.uint8)).dtype == np.uint8
