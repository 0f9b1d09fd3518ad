from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

from mousecmr_data.inference.grid import normalize  # noqa: E402
from mousecmr_data.training.augmentation import (  # noqa: E402
    STRENGTHS,
    AugmentationDraws,
    apply_augmentation,
    augment,
    draw_augmentation,
    equalize,
)


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
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((6, 1, 256, 256), torch.float32, (6, 256, 256), torch.int64)
    assert torch.equal(x.amin((1, 2, 3)), torch.zeros(6))
    assert torch.equal(x.amax((1, 2, 3)), torch.ones(6))


def test_labels_are_transformed_like_the_image() -> None:
    for seed in range(4):
        x, y = augment(*batch(), seed=seed)
        for image, label in zip(x[:, 0], y, strict=True):
            assert set(label.unique().tolist()) == {0, 1, 2}
            assert image[label == 2].mean() > 1.5 * image[label != 2].mean()


def apply_monai(image: "torch.Tensor", label: "torch.Tensor", d: AugmentationDraws, k: int) -> tuple[object, object]:
    """Return sample ``k``, image in [0, 1] and label, after MONAI's transforms, one by one, of what was drawn."""
    from monai import transforms as t

    def round_to_greys(x: "torch.Tensor") -> "torch.Tensor":
        return (torch.as_tensor(x).clamp(0.0, 1.0) * 255.0).round() / 255.0

    x, y = image[k].float() / 255.0, label[k, None].float()
    if d.flip[k]:
        x, y = (t.Flip(spatial_axis=1)(part) for part in (x, y))
    if d.turns[k]:
        x, y = (t.Rotate90(int(d.turns[k]), (0, 1))(part) for part in (x, y))
    if d.brightness[k]:
        x = round_to_greys(t.ShiftIntensity(float(d.brightness[k]))(x))
    if d.gamma[k] != 1.0:
        x = t.AdjustContrast(float(d.gamma[k]))(x)
    if d.noise_sd[k]:
        x = x + d.noise[np.count_nonzero(d.noise_sd[:k])] * float(d.noise_sd[k])
    x = round_to_greys(x)
    if d.equalize[k]:
        greys = (x * 255.0).round().to(torch.uint8).numpy()
        x = torch.from_numpy(np.stack([clahe(channel) for channel in greys]).astype(np.float32) / 255.0)
    if d.move[k]:
        values = {"rotate_params": float(d.rotation[k]), "translate_params": d.shift[k].tolist()}
        values |= {"scale_params": d.scale[k].tolist(), "padding_mode": "zeros", "image_only": True}
        x, y = (t.Affine(mode=mode, **values)(part) for part, mode in ((x, "bilinear"), (y, "nearest")))
    return torch.as_tensor(x), torch.as_tensor(y)


@pytest.mark.parametrize("kind", ["paper", "notebook"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_is_that_of_monai_with_the_same_numbers(kind: str, channels: int) -> None:
    image, label = batch()
    image = torch.cat([image.roll(n, 0) for n in range(channels)], 1)
    draws = draw_augmentation(np.random.default_rng(5), STRENGTHS[kind], tuple(image.shape))
    chance = np.arange(6)  # each transform alone, then all
    draws = replace(
        draws,
        flip=np.isin(chance, (0, 5)),
        turns=np.array([3, 1, 0, 0, 0, 2]),
        brightness=np.array([0.0, 0.11, 0.0, 0.0, 0.0, -0.08], np.float32),
        gamma=np.array([1.0, 1.0, 0.7, 1.0, 1.0, 1.15], np.float32),
        noise_sd=np.array([0.0, 0.0, 0.0, 0.1, 0.0, 0.02], np.float32),
        noise=torch.randn((2, *image.shape[1:]), generator=torch.Generator().manual_seed(0)),
        equalize=np.isin(chance, (3, 5)),
        move=np.isin(chance, (4, 5)),
    )
    before = image.clone()
    x, y = apply_augmentation(image, label, draws, STRENGTHS[kind])
    assert torch.equal(image, before), "the caller's tensors stay as they are"
    for k in range(6):
        expected, labels = apply_monai(image, label, draws, k)
        greys = (normalize((expected.clamp(0, 1) * 255).round()) - x[k]).abs() * 255  # type: ignore[attr-defined]
        assert (greys > 1.5).float().mean() < 1e-4, f"sample {k}"
        assert (greys > 0.01).float().mean() < 0.01, f"sample {k}: only where a value is halfway between two greys"
        assert (labels[0].long() != y[k]).float().mean() < 1e-4, f"sample {k}"  # type: ignore[index]


def test_transforms_are_as_frequent_and_as_strong_as_in_the_article() -> None:
    s = STRENGTHS["paper"]
    d = draw_augmentation(np.random.default_rng(0), s, (20_000, 1, 1, 1))
    shares = {"flip": d.flip, "turn": d.turns > 0, "noise": d.noise_sd > 0, "CLAHE": d.equalize, "affine": d.move}
    for name, done in shares.items():
        assert done.mean() == pytest.approx(0.5, abs=0.02), name
    assert (d.brightness != 0).mean() == pytest.approx(0.4, abs=0.02)
    assert (d.gamma != 1).mean() == pytest.approx(0.3, abs=0.02)
    assert [(d.turns == k).mean() for k in (1, 2, 3)] == pytest.approx([1 / 6] * 3, abs=0.02)
    limits = {
        "brightness": (d.brightness, -0.17, 0.17),
        "gamma": (d.gamma[d.gamma != 1], 0.7, 1.2),
        "noise": (d.noise_sd[d.noise_sd > 0], *s.noise_sd),
        "rotation": (np.rad2deg(d.rotation), -10.0, 10.0),
        "shift": (d.shift, -16.0, 16.0),
        "scale": (d.scale, 0.9, 1.1),
    }
    for name, (values, low, high) in limits.items():
        assert [values.min(), values.max()] == pytest.approx([low, high], abs=0.01 * (high - low)), name
    assert len(d.noise) == np.count_nonzero(d.noise_sd)
    assert float(d.noise.std()) == pytest.approx(1.0, abs=0.03)


def clahe(greys: NDArray[np.uint8], clip_limit: float = 2.0, tiles: int = 8) -> NDArray[np.uint8]:
    """Return one image (Y, X) after CLAHE (Zuiderveld, 1994), written with NumPy: table by table."""
    rows, columns = greys.shape
    height, width = -(-rows // tiles), -(-columns // tiles)
    padded = np.pad(greys, ((0, height * tiles - rows), (0, width * tiles - columns)), mode="reflect")
    tables = np.zeros((tiles, tiles, 256))
    limit = max(1.0, clip_limit * height * width / 256.0)
    for i in range(tiles):
        for j in range(tiles):
            tile = padded[i * height : (i + 1) * height, j * width : (j + 1) * width]
            counts = np.bincount(tile.ravel(), minlength=256).astype(np.float64)
            counts = np.minimum(counts, limit) + np.maximum(counts - limit, 0.0).sum() / 256.0
            tables[i, j] = counts.cumsum() * 255.0 / (height * width)
    v = np.clip((np.arange(rows) + 0.5) / height - 0.5, 0, tiles - 1)
    u = np.clip((np.arange(columns) + 0.5) / width - 0.5, 0, tiles - 1)
    top, left = np.floor(v).astype(int), np.floor(u).astype(int)
    bottom, right = np.minimum(top + 1, tiles - 1), np.minimum(left + 1, tiles - 1)
    fv, fu = (v - top)[:, None], (u - left)[None, :]
    above, below, before, after = top[:, None], bottom[:, None], left[None, :], right[None, :]
    upper = tables[above, before, greys] * (1 - fu) + tables[above, after, greys] * fu
    lower = tables[below, before, greys] * (1 - fu) + tables[below, after, greys] * fu
    return np.asarray(np.clip(np.rint(upper * (1 - fv) + lower * fv), 0, 255), np.uint8)


@pytest.mark.parametrize(("shape", "tiles"), [((256, 256), 8), ((50, 70), 8), ((64, 96), 4)])
def test_a_batch_is_equalized_like_each_of_its_images(shape: tuple[int, int], tiles: int) -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, shape[1])[None] * np.linspace(0.2, 1, shape[0])[:, None]
    images = np.stack([ramp + rng.integers(0, 40, shape), ramp[::-1], np.full(shape, 9.0)]).astype(np.uint8)
    for limit in (1.0, 2.0, 8.0):
        result = equalize(torch.from_numpy(images)[:, None].float(), limit, tiles)[:, 0]
        difference = np.abs(result.numpy() - np.stack([clahe(image, limit, tiles) for image in images]))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_equalizing_raises_local_contrast() -> None:
    dim = torch.from_numpy(np.random.default_rng(0).integers(40, 60, (1, 1, 64, 96))).float()
    assert equalize(dim, 8.0).std() > 2 * dim.std()
    assert equalize(dim, 1.0).std() < equalize(dim, 8.0).std()
