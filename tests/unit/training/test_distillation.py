"""A teacher's probabilities as targets: they move with the image, and are computed once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

from mousecmr_data.inference.predictor import Predictor, WeightsInfo  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus  # noqa: E402
from mousecmr_data.training.config import TrainConfig  # noqa: E402
from mousecmr_data.training.data import SliceData, iterate_validation, make_batch  # noqa: E402
from mousecmr_data.training.distillation import join_mice, split_pool, teach  # noqa: E402
from mousecmr_data.training.trainer import describe_origin, soft_dice_loss, supervised_loss  # noqa: E402


def make_slices(size: int = 64) -> SliceData:
    """Eight slices with a ring off the middle, in two mice of four frames of one slice."""
    image = np.random.default_rng(0).integers(0, 255, (8, size, size), dtype=np.uint8)
    label = np.zeros_like(image)
    k = size // 64
    label[:, 12 * k : 36 * k, 20 * k : 44 * k] = 1
    label[:, 18 * k : 30 * k, 26 * k : 38 * k] = 2
    return SliceData(image, label, (1,) * 8)


@pytest.mark.parametrize("augmentation", ["randomised", "paper", "none"])
def test_probabilities_move_with_the_image_as_labels_do(augmentation: str) -> None:
    size = 256 if augmentation == "paper" else 64
    hard = make_slices(size)
    soft = replace(hard, soft=np.stack([hard.label == 1, hard.label == 2], 1).astype(np.uint8) * 255)
    config = TrainConfig(augmentation=augmentation, batch_size=8, context=1, crop=size // 4 * 3)
    (x, labels), (x2, p) = (make_batch(slices, config, 1, 1) for slices in (hard, soft))
    assert torch.equal(x, x2), "random numbers are the same"
    assert (labels.dtype, p.dtype, p.shape) == (torch.int64, torch.float32, (8, 3, *labels.shape[1:]))
    assert torch.allclose(p.sum(1), torch.ones(labels.shape), atol=1e-5)
    assert float((p.argmax(1) == labels).float().mean()) > 0.98
    assert labels.any()
    for (_, y), (_, q) in zip(*(iterate_validation(slices, config) for slices in (hard, soft)), strict=True):
        assert torch.equal(q.argmax(1), y)
    assert hard.checksum() != soft.checksum()


def test_the_loss_of_certain_probabilities_is_that_of_labels_and_of_others_least_if_equal() -> None:
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn((2, 3, 8, 8), generator=g), torch.randint(0, 3, (2, 8, 8), generator=g)
    certain = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    expected = supervised_loss([logits], labels, 0.5)
    assert float(supervised_loss([logits], certain, 0.5)) == pytest.approx(float(expected), abs=1e-6)
    target = logits.softmax(1)
    assert float(soft_dice_loss(logits, target)) == pytest.approx(0.0, abs=1e-6)
    assert float(soft_dice_loss(4.0 * logits, target)) > 0.01, "not the sharpest prediction"


def test_the_teacher_sees_each_mouse_once_and_damaged_files_are_made_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet3Plus((2, 2, 2, 2, 2), context=1).eval()
    calls = []

    class Engine:
        name = "counting"

        def __call__(self, images: np.ndarray) -> np.ndarray:
            calls.append(tuple(images.shape))
            with torch.no_grad():
                return network(torch.from_numpy(images))[-1].numpy()

    teacher = Predictor(network, WeightsInfo("t", "", "", True, "ab" * 32), "cpu", engine=Engine())
    pool, done = make_slices(256), []
    mice = teach(split_pool(pool), teacher, total=2, cache=tmp_path, progress=done.append)
    assert (done, len(calls), set(calls)) == ([1, 1], 8, {(1, 3, 256, 256)})
    joined = join_mice(mice)
    assert (joined.stacks, joined.known) == (pool.stacks, None) and np.array_equal(joined.image, pool.image)
    assert joined.soft is not None and joined.soft.shape == (8, 2, 256, 256)
    x = pool.image[:4].astype(np.float32)[:1]
    p = teacher.predict_probabilities(x, (0.1, 0.1))[0]
    assert np.abs(joined.soft[0] / 255.0 - p[1:]).max() <= 0.5 / 255 + 1e-6
    assert (joined.label[0] == p.argmax(0)).mean() > 0.98
    calls.clear()
    damaged = min((tmp_path / "teachers").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-30])
    again = join_mice(teach(split_pool(pool), teacher, total=2, cache=tmp_path, progress=done.append))
    assert again.checksum() == joined.checksum() and len(calls) == 4


@pytest.mark.parametrize(("images", "teacher", "only", "ancestry"), [
    (True, True, True, True), (False, True, False, True), (True, False, False, True), (False, False, False, False),
])  # fmt: skip
def test_a_student_is_marked_as_its_images_and_its_teacher_are(
    images: bool, teacher: bool, only: bool, ancestry: bool
) -> None:
    info = WeightsInfo("big", "mice", "", teacher, "ab" * 32, licence="GPL-3.0")
    student = describe_origin("small", "10 mice", images, None, info)
    assert (student.synthetic_training, student.synthetic_ancestry) == (only, ancestry)
    assert student.licence == "GPL-3.0"
    assert f"Derived from big (SHA-256 {'ab' * 32}), licence: GPL-3.0." in student.limits
    assert ("SYNTHETIC" in student.trained_on) == teacher
