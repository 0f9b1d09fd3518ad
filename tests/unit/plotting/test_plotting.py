from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import write
from scipy import ndimage

import mousecmr_data as md
from mousecmr_data.errors import MissingExtraError, UnlabelledError
from mousecmr_data.metrics.volumes import smooth_curve
from mousecmr_data.schema.labels import COLOURS

plotting = pytest.importorskip("mousecmr_data.plotting", reason="the extra 'evaluation' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'evaluation' is not installed")


def collect_texts(figure: Any) -> str:
    parts = [t.get_text() for t in figure.texts]
    if figure._suptitle is not None:
        parts.append(figure._suptitle.get_text())
    return "\n".join(parts)


@pytest.mark.parametrize("synthetic", [True, False])
def test_figures_of_synthetic_mice_are_marked(tmp_path: Path, synthetic: bool) -> None:
    ds = md.open_mouse(write(tmp_path / "m.h5", attrs={"synthetic": synthetic}))
    for figure in (plotting.plot_montage(ds), plotting.plot_volume_curve(ds)):
        assert ("SYNTHETIC" in collect_texts(figure)) == synthetic


def test_montage_shows_every_slice_of_ed_and_es(tmp_path: Path) -> None:
    figure = plotting.plot_montage(md.open_mouse(write(tmp_path / "m.h5", (0, 2))))
    assert len(figure.axes) == 2 * 3
    labels = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
    assert labels == ["ED 0\n0 ms", "ES 2\n10 ms"]
    path = plotting.save_figure(figure, tmp_path / "new" / "m.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_montage_has_es_among_many_labelled_frames(tmp_path: Path) -> None:
    figure = plotting.plot_montage(md.open_mouse(write(tmp_path / "m.h5", (0, 1, 2, 3, 4))))
    labels = [ax.get_ylabel().split("\n")[0] for ax in figure.axes if ax.get_ylabel()]
    assert labels == ["ED 0", "ES 2", "inflow 1", "inflow 3"]


def test_the_axes_of_a_curve_with_a_single_frame_are_large_enough(tmp_path: Path) -> None:
    figure = plotting.plot_volume_curve(md.open_mouse(write(tmp_path / "m.h5", (2,))))
    assert all(ax.get_position().height > 0.2 for ax in figure.axes)


def test_an_unlabelled_mouse_has_a_montage_but_no_curve(tmp_path: Path) -> None:
    ds = md.open_mouse(write(tmp_path / "m.h5", ()))
    assert "no frame is labelled" in collect_texts(plotting.plot_montage(ds))
    with pytest.raises(UnlabelledError):
        plotting.plot_volume_curve(ds)


def test_the_curve_marks_unlabelled_frames(tmp_path: Path) -> None:
    ds = md.open_mouse(write(tmp_path / "m.h5", (0, 2)))
    volume = plotting.plot_volume_curve(ds).axes[0]
    measured, blank = volume.lines[0], volume.lines[-1]
    np.testing.assert_allclose(measured.get_ydata(), md.measure(ds).frames["blood_pool_ul"])
    assert blank.get_xdata().tolist() == [5.0, 15.0, 20.0]


def test_predicted_masks_have_a_smoothed_curve_of_all_frames(tmp_path: Path) -> None:
    ds = md.open_mouse(write(tmp_path / "m.h5", range(5)))
    phase = np.array(["ED", "unlabelled", "ES", "unlabelled", "unlabelled"])
    ds = ds.assign(predicted=ds["mask"].assign_attrs(weights="net")).assign_coords(phase=("frame", phase))
    figure = plotting.plot_volume_curve(ds, "predicted", "SYNTHETIC masks. More.")
    line, dots, *_ = (x.get_ydata() for x in figure.axes[0].lines)
    volumes = md.measure(ds, mask="predicted").frames["blood_pool_ul"]
    np.testing.assert_allclose(dots, volumes)
    np.testing.assert_allclose(line, smooth_curve(volumes))
    assert [t.get_text()[:2] for t in figure.axes[0].texts] == ["ED", "ES"]
    assert "masks: net" in collect_texts(figure) and "SYNTHETIC masks" in collect_texts(figure)
    unknown = plotting.plot_volume_curve(ds.assign_attrs(frame_time_known=False), "predicted")
    assert "time between frames is unknown" in unknown.axes[1].get_xlabel()


def test_without_matplotlib_the_error_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mousecmr-data\[evaluation\]'"):
        plotting.plot_montage(md.open_mouse(write(tmp_path / "m.h5")))


def test_a_page_of_the_movie_is_enlarged_and_outlined_as_by_scipy() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, plotting.N_GREYS, (2, 6, 23, 31)).astype(np.uint8)
    labels = rng.integers(0, 3, images.shape).astype(np.uint8)
    pages = plotting._tile_slices(images, labels)
    assert pages.shape == (2, plotting.HEADER_PIXELS + 2 * 46, 5 * 62)
    for frame in range(2):
        tile = ndimage.zoom(images[frame, 5], 2, order=1, grid_mode=True, mode="nearest")
        enlarged = labels[frame, 5].repeat(2, axis=0).repeat(2, axis=1)
        for number, label in enumerate(COLOURS):
            inside = enlarged >= label
            tile[inside & ~ndimage.binary_erosion(inside)] = plotting.N_GREYS + number
        assert np.array_equal(pages[frame, -46:, :62], tile)
