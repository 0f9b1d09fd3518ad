"""Training: it learns, resumes after a kill, and gives the same on two processes as on one."""

import csv
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import small_run  # noqa: E402

from mousecmr_data.errors import FileLayoutError  # noqa: E402
from mousecmr_data.metrics.overlap import dice_by_class  # noqa: E402
from mousecmr_data.models.safetensors import read_weights  # noqa: E402
from mousecmr_data.training.data import SliceData  # noqa: E402
from mousecmr_data.training.trainer import TrainingProgress, fit  # noqa: E402

SCRIPT = Path(small_run.__file__)


def losses(progress: TrainingProgress) -> list[tuple[float, float]]:
    return [(row["loss"], row["validation_loss"]) for row in progress.curve]


def test_one_batch_can_be_overfitted(tmp_path: Path) -> None:
    """The network must know which of the two slices it sees: it beats the other slice's mask, and gets most of the
    outline, where nearly all errors lie, right. Rounding and seed decide the rest: the smaller Dice was 0.953 to 0.983
    over three seeds and three instruction sets. With batch statistics as in training: the running statistics (momentum
    0.99, as in the authors' network) need more steps than this."""
    torch.set_num_threads(1)
    slices = small_run.slices(size=48)
    batch = SliceData(slices.image[:2], slices.label[:2])
    config = replace(
        small_run.config(epochs=1), channels=(12, 12, 16, 16, 16), batch_size=2, steps_per_epoch=250
    )  # fmt: skip
    config = replace(config, augmentation="none", learning_rate=1e-2, schedule="one-cycle", cross_entropy=1.0)
    network, _ = fit(config, batch, batch, tmp_path)
    network.train()
    network.dropout.eval()
    with torch.no_grad():
        predicted = network(torch.from_numpy(batch.image)[:, None].float() / 255)[-1].argmax(1).numpy()
    other_slice = dice_by_class(batch.label[::-1], batch.label)
    for label, dice in dice_by_class(predicted, batch.label).items():
        assert dice > max(0.9, other_slice[label])


def test_a_killed_and_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path / "killed"), "5", "1", "30"], env=environment()
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "curves.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, resumed = small_run.run(tmp_path / "killed", 5)
    network, whole = small_run.run(tmp_path / "whole", 5)
    assert np.allclose(losses(resumed), losses(whole), rtol=1e-4)
    assert [row["epoch"] for row in resumed.curve] == [1, 2, 3, 4, 5]
    assert resumed.best_epoch == whole.best_epoch
    assert all(torch.isfinite(v).all() for v in network.state_dict().values())


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_with_one_seed_give_the_same_numbers(threads: int, tmp_path: Path) -> None:
    """Bit by bit: docs/benchmark.md states what varies between machines and numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (network, a), (other, b) = (small_run.run(tmp_path / name, 1) for name in ("a", "b"))
    finally:
        torch.set_num_threads(before)
    assert losses(a) == losses(b)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())


def test_two_processes_train_like_one_process_with_two_replicas(tmp_path: Path) -> None:
    """DistributedDataParallel on gloo: separate batch statistics, averaged gradients."""
    torch.set_num_threads(1)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
         "--master-port", str(port), str(SCRIPT), str(tmp_path / "two"), "3", "2", "0"],
        check=True, timeout=300, env=environment(), capture_output=True,
    )  # fmt: skip
    _, one = small_run.run(tmp_path / "one", 3, 2)
    with (tmp_path / "two" / "curves.csv").open() as f:
        two = [(float(row["loss"]), float(row["validation_loss"])) for row in csv.DictReader(f)]
    assert np.allclose(losses(one), two, rtol=1e-4)
    _, single = small_run.run(tmp_path / "single", 3, 1)
    assert not np.allclose(losses(one), losses(single), rtol=1e-4)


def test_mixed_precision_trains(tmp_path: Path) -> None:
    config = replace(small_run.config(epochs=1), precision="bfloat16")
    full, mixed = (fit(c, small_run.slices(), small_run.slices(), tmp_path)[1] for c in (small_run.config(1), config))
    assert losses(mixed) != losses(full)
    assert np.allclose(losses(mixed), losses(full), rtol=0.02)


def test_training_stops_early_and_returns_the_best_weights(tmp_path: Path) -> None:
    """The learning rate is so high that every epoch is worse: the weights of the first epoch are returned."""
    config = replace(small_run.config(epochs=30), patience=2, learning_rate=30.0)
    network, progress = fit(config, small_run.slices(), small_run.slices(), tmp_path)
    assert progress.epoch == progress.best_epoch + 2 < 30
    best, _ = read_weights(tmp_path / "best.safetensors")
    assert all(torch.equal(v, best[k]) for k, v in network.state_dict().items() if v.is_floating_point())


def test_a_run_is_not_resumed_with_another_configuration(tmp_path: Path) -> None:
    small_run.run(tmp_path, 1)
    with pytest.raises(FileLayoutError, match="another configuration"):
        small_run.run(tmp_path, 2)


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[3])}
