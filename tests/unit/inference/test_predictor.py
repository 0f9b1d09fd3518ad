import numpy as np
import pytest
import xarray as xr

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.dataset.model import build_dataset, resolve_sizes  # noqa: E402
from mousecmr_data.errors import FileLayoutError, UnitsError  # noqa: E402
from mousecmr_data.inference.grid import compute_softmax, normalize_min_max  # noqa: E402
from mousecmr_data.inference.predictor import Predictor, WeightsInfo  # noqa: E402
from mousecmr_data.metrics.volumes import measure  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus  # noqa: E402


class Threshold(UNet3Plus):
    """Replaces a trained network: bright is blood pool, medium is myocardium."""

    def forward(self, x: "torch.Tensor") -> list["torch.Tensor"]:
        """Return logits of grey ranges."""
        self.inputs = x
        return [torch.cat([0.3 - x, 0.25 - (x - 0.5).abs(), x - 0.7], 1) * 50]


def predictor() -> Predictor:
    return Predictor(Threshold((2, 2, 2, 2, 2)), WeightsInfo("threshold", "nothing", "none", True), "cpu")


def mouse(n: int = 256, mm: float = 0.1, frames: int = 3, slices: int = 2) -> xr.Dataset:
    """Make a bright disk in a grey ring, the same in mm for all pixel sizes."""
    at = (np.arange(n) - (n - 1) / 2) * mm
    r = np.hypot(at[:, None] - 1.0, at[None, :] + 2.0)
    plane = np.where(r < 1.8, 1000, np.where(r < 3.0, 500, 20)).astype(np.uint16)
    image = np.broadcast_to(plane, (frames, slices, n, n)).copy()
    mask = np.where(r < 1.8, 2, np.where(r < 3.0, 1, 0)).astype(np.uint8)
    masks = np.zeros_like(image, np.uint8)
    labelled = sorted({0, frames - 1})
    masks[labelled] = mask
    physical = resolve_sizes({}, (1.0, mm, mm), 5.0)
    return build_dataset(image, masks, labelled, physical, {"mouse": "Disk", "synthetic": True})


def test_every_frame_gets_labels_on_the_datasets_own_pixels() -> None:
    ds = mouse()
    done: list[int] = []
    out = predictor().segment(ds, progress=done.append)
    assert out["predicted"].dims == ("frame", "slice", "y", "x")
    assert out["predicted"].dtype == np.uint8
    assert sum(done) == 6
    assert np.array_equal(out["predicted"].values[0], ds["mask"].values[0])
    assert np.array_equal(out["predicted"].values[1], ds["mask"].values[0])
    assert "predicted" not in ds
    assert out["predicted"].attrs["synthetic_training"] == 1
    assert measure(out, mask="predicted").edv_ul == measure(ds).edv_ul


@pytest.mark.parametrize(("n", "mm"), [(128, 0.2), (192, 0.156), (320, 0.08), (100, 0.1)])
def test_the_result_does_not_depend_on_the_pixels(n: int, mm: float) -> None:
    ds = mouse(n, mm, frames=1, slices=1)
    s = predictor()
    out = s.segment(ds, postprocessing="none")
    truth, predicted = ds["mask"].values, out["predicted"].values
    for label in (1, 2):
        both = np.count_nonzero((truth == label) & (predicted == label))
        assert 2 * both / (np.count_nonzero(truth == label) + np.count_nonzero(predicted == label)) > 0.9
    assert s.network.inputs.shape[-1] >= 256


def test_each_slice_is_normalised_by_itself_and_a_flat_one_is_zeros() -> None:
    ds = mouse(frames=1, slices=3)
    ds["image"].values[0, 1] //= 10
    ds["image"].values[0, 2] = 77
    s = predictor()
    out = s.segment(ds)
    assert float(s.network.inputs[2].abs().max()) == 0.0
    assert s.network.inputs.amax((1, 2, 3)).tolist() == [1.0, 1.0, 0.0]
    assert np.array_equal(out["predicted"].values[0, 0], out["predicted"].values[0, 1])


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_result_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    torch.manual_seed(0)
    network = UNet3Plus((2, 3, 4, 5, 6))
    s = Predictor(network, WeightsInfo("random", "", "", False), "cpu")
    ds = mouse(64, 0.4)
    whole = s.segment(ds, postprocessing="none")["predicted"]
    assert np.array_equal(whole, s.segment(ds, postprocessing="none", batch_size=batch_size)["predicted"])


def test_other_datasets_are_refused() -> None:
    with pytest.raises(FileLayoutError, match="image"):
        predictor().segment(mouse().rename(image="picture"))
    with pytest.raises(UnitsError):
        predictor().segment(mouse().drop_vars("x"))


class Neighbours(UNet3Plus):
    """Labels a slice as blood pool if both slices beside it are bright."""

    def forward(self, x: "torch.Tensor") -> list["torch.Tensor"]:
        """Return logits."""
        bright = torch.minimum(x[:, :1], x[:, 2:])
        return [torch.cat([0.5 - bright, torch.full_like(bright, -9.0), bright - 0.5], 1)]


def test_a_network_with_context_sees_the_neighbours_of_its_own_stack_and_the_last_slice_twice() -> None:
    ds = mouse(frames=2, slices=5)
    image = ds["image"].values.copy()
    image[0, 3] = 0  # only in the first frame
    ds = ds.assign(image=(ds["image"].dims, image))
    network = Neighbours((2, 2, 2, 2, 2), context=1)
    s = Predictor(network, WeightsInfo("neighbours", "nothing", "none", True), "cpu")
    for batch_size in (1, 3, 16):
        predicted = s.segment(ds, postprocessing="none", batch_size=batch_size)["predicted"].values
        assert predicted.any((2, 3)).tolist() == [[True, True, False, True, False], [True] * 5]


def test_the_brightest_pixels_are_clipped_only_if_the_weights_ask_for_it() -> None:
    ds = mouse(frames=1, slices=1)
    image = ds["image"].values.copy()
    image[..., :10, :10] = 60000
    ds = ds.assign(image=(ds["image"].dims, image))
    origin = WeightsInfo("threshold", "nothing", "none", True)
    kept, clipped = (Predictor(Threshold((2, 2, 2, 2, 2), scaling=s), origin, "cpu") for s in ("min-max", "min-p99"))
    truth = ds["mask"].values
    assert not kept.segment(ds)["predicted"].values[truth > 0].any()
    assert (clipped.segment(ds)["predicted"].values == truth)[truth > 0].all()


def test_one_slice_at_a_time_is_computed_as_before() -> None:
    """Bit for bit: min-max scaling of each slice alone."""
    images = torch.rand(5, 256, 256)
    s = predictor()
    x = normalize_min_max(images[:, None])
    assert torch.equal(s.predict_probabilities(images, (0.1, 0.1)), compute_softmax(s.engine(x)))
