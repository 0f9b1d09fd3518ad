from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from keras_file import randomised, write_keras  # noqa: E402

from mousecmr_data.errors import FileLayoutError, MissingDataError  # noqa: E402
from mousecmr_data.models.keras import read_keras_weights  # noqa: E402
from mousecmr_data.models.unet3plus import CHANNELS  # noqa: E402

KERAS = Path(__file__).parents[4] / "shared" / "keras"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "small.h5"
    write_keras(path, randomised((2, 3, 4, 5, 6)))
    return path


def test_the_network_gives_the_results_of_keras() -> None:
    """Limits: the maximum difference in probability is below 1e-4, labels are identical."""
    if not KERAS.is_dir():
        pytest.skip("the small Keras model is not next to this checkout (../shared/keras)")
    network = read_keras_weights(KERAS / "unet3plus_small_keras.h5")
    recorded = np.load(KERAS / "unet3plus_small_io.npz")
    with torch.no_grad():
        probabilities = network.predict_probabilities(torch.from_numpy(recorded["x"])[:, None]).movedim(1, -1).numpy()
    assert network.channels == (4, 8, 16, 32, 64)
    assert np.abs(probabilities - recorded["probabilities"]).max() < 1e-4
    assert np.array_equal(probabilities.argmax(-1), recorded["probabilities"].argmax(-1))


def test_a_full_width_file_converts_bit_for_bit(tmp_path: Path) -> None:
    network = randomised(CHANNELS)
    write_keras(tmp_path / "full.h5", network)
    read = read_keras_weights(tmp_path / "full.h5")
    assert read.channels == CHANNELS
    for name, value in network.state_dict().items():
        assert torch.equal(value, read.state_dict()[name]), name


def change_copy(path: Path, small: Path, change: Callable[[h5py.File], None]) -> Path:
    path.write_bytes(small.read_bytes())
    with h5py.File(path, "r+") as f:
        change(f)
    return path


def test_the_error_names_missing_layers(small: Path, tmp_path: Path) -> None:
    path = change_copy(tmp_path / "w.h5", small, lambda f: f.__delitem__("model_weights/Skip3_2_BN_1"))
    with pytest.raises(FileLayoutError, match=r"lacks 1 of .*Skip3_2_BN_1"):
        read_keras_weights(path)


def test_the_error_names_a_missing_array(small: Path, tmp_path: Path) -> None:
    path = change_copy(
        tmp_path / "w.h5", small, lambda f: f.__delitem__("model_weights/Decoder1_BN_1/Decoder1_BN_1/beta:0")
    )
    with pytest.raises(FileLayoutError, match="Decoder1_BN_1 holds"):
        read_keras_weights(path)


def test_the_error_names_extra_layers(small: Path, tmp_path: Path) -> None:
    path = change_copy(
        tmp_path / "w.h5", small, lambda f: f.create_dataset("model_weights/dense/dense/kernel:0", data=np.zeros(3))
    )
    with pytest.raises(FileLayoutError, match="dense"):
        read_keras_weights(path)


@pytest.mark.parametrize("shape", [(3, 3, 2, 9), (1, 1, 2, 2), (18,)])
def test_the_error_names_layers_of_another_shape(small: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    def change(f: h5py.File) -> None:
        name = "model_weights/Skip1_1_Conv_1/Skip1_1_Conv_1/kernel:0"
        del f[name]
        f.create_dataset(name, data=np.zeros(shape, "f4"))

    with pytest.raises(FileLayoutError, match="Skip1_1_Conv_1"):
        read_keras_weights(change_copy(tmp_path / "w.h5", small, change))


def test_values_that_are_not_finite_are_rejected(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        f["model_weights/Encoder1_Conv_1/Encoder1_Conv_1/bias:0"][0] = np.nan

    with pytest.raises(FileLayoutError, match="not finite"):
        read_keras_weights(change_copy(tmp_path / "w.h5", small, change))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_the_error_names_a_truncated_file(small: Path, tmp_path: Path, share: float) -> None:
    whole = small.read_bytes()
    (tmp_path / "w.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileLayoutError, match=r"w\.h5"):
        read_keras_weights(tmp_path / "w.h5")


def test_an_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:3aac\nsize 156245288\n")
    with pytest.raises(FileLayoutError, match=r"Git LFS pointer[\s\S]*Next: mousecmr fetch --only-weights"):
        read_keras_weights(tmp_path / "w.h5")


def test_other_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        read_keras_weights(tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "w.h5", "w") as f:
        f.create_dataset("Images", data=np.zeros(3))
    with pytest.raises(FileLayoutError, match="model_weights"):
        read_keras_weights(tmp_path / "w.h5")
