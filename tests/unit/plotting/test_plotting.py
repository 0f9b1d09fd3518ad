from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import write
from scipy import ndimage

import mousecmr_data as md
from mousecmr_data.errors import ArgumentError, MissingExtraError, UnlabelledError
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


@pytest.fixture
def small(phantom_cache: Path) -> Any:
    return md.load(mice=["Mouse5", "Mouse6"], source="phantom", size="small", cache=phantom_cache)


def list_titles(figure: Any) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_plot_draws_mice_and_cohorts_and_says_synthetic(small: Any) -> None:
    assert [title.split(",")[0] for title in list_titles(small.plot())] == ["Mouse5 (SYNTHETIC)", "Mouse6 (SYNTHETIC)"]
    assert len(list_titles(small.plot(limit=1))) == 1
    ds = small["Mouse5"]
    assert "SYNTHETIC" in collect_texts(ds.mousecmr.plot())
    assert "EF" in collect_texts(ds.mousecmr.plot("volume"))
    assert len(list_titles(md.plot(small.slices("all")))) == 12


def count_outlines(figure: Any) -> int:
    return sum(len(ax.collections) for ax in figure.axes)


def test_plot_draws_what_a_loader_gives_after_a_transform(small: Any) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from mousecmr_data.adapters import torch as mouse_torch

    def turn(sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "image": sample["image"].flip(-1), "label": sample["label"].flip(-1)}

    data = mouse_torch.dataset(small, transform=turn, mode="memory")
    figure = md.plot(data[4])
    assert list_titles(figure) == ["Mouse5 (SYNTHETIC), slice 4, ED"]
    assert count_outlines(figure) == 2
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert np.array_equal(shown, small["Mouse5"]["image"].values[0, 4][:, ::-1])
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=5, collate_fn=mouse_torch.collate)))
    assert len(list_titles(md.plot(batch))) == 5
    assert len(list_titles(md.plot([data[0], data[1]]))) == 2
    assert len(list_titles(md.plot((batch["image"], batch["label"][:, 0])))) == 5
    bare = {
        "image": batch["image"],
        "label": torch.nn.functional.one_hot(batch["label"][:, 0].long(), 3).movedim(-1, 1),
    }
    assert count_outlines(md.plot(bare)) == count_outlines(md.plot(batch))
    stack = mouse_torch.dataset(small, "stacks", mode="memory")
    assert len(list_titles(md.plot(stack[0]))) == small["Mouse5"].sizes["slice"]
    cine = mouse_torch.dataset(small, "cines", frames="all", mode="memory")
    figure = md.plot(cine[0])
    assert "unlabelled" in list_titles(figure)[1]
    assert not figure.axes[1].collections, "zeros that nobody drew were outlined"
    page = stack._repr_html_()
    assert "SYNTHETIC DATA" in page
    assert page.count("data:image/png;base64,") == 4
    assert len(page) < 200_000


def test_plot_refuses_what_it_cannot_draw(small: Any) -> None:
    with pytest.raises(ArgumentError, match="plot\\(\\) got a int"):
        md.plot(3)
    with pytest.raises(ArgumentError, match="did you mean 'volume'"):
        md.plot(small["Mouse5"], "volumes")
    with pytest.raises(UnlabelledError, match="no variable 'predicted'"):
        small["Mouse5"].mousecmr.plot(mask="predicted")


def test_figures_and_movies_show_themselves_without_pyplot(small: Any, tmp_path: Path) -> None:
    ds = small["Mouse5"]
    assert ds.mousecmr.plot()._repr_png_().startswith(b"\x89PNG")
    movie = ds.mousecmr.movie()
    assert movie.data[8:12] == b"WEBP"
    assert "data:image/webp;base64," in movie._repr_html_()
    assert ds.mousecmr.movie(tmp_path / "m.gif").data == (tmp_path / "m.gif").read_bytes()


def test_the_heading_of_a_small_movie_is_not_cut(small: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(plotting.write_movie(small["Mouse5"], tmp_path / "m.webp")) as movie:
        width = movie.width
    assert width > plotting._load_font().getlength(plotting.make_title(small["Mouse5"]))
