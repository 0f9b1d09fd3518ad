import numpy as np
import pytest

from mousecmr_data.inference.roi import MARGIN_PIXELS, Box, find_heart, list_windows, touches_edge


def stack(top: int, left: int, side: int = 40) -> np.ndarray:
    labels = np.zeros((5, 256, 256), np.uint8)
    labels[1:4, top : top + side, left : left + side] = 1
    labels[1:4, top + 10 : top + side - 10, left + 10 : left + side - 10] = 2
    return labels


def test_a_heart_is_found_or_the_reason_is_returned() -> None:
    assert find_heart(stack(100, 90)) == Box(100, 90, 40, 40)
    assert find_heart(np.zeros((5, 256, 256), np.uint8)) == "no heart was found"
    one_slice = stack(100, 90)
    one_slice[2:] = 0
    assert find_heart(one_slice) == "no heart was found"
    no_blood = np.minimum(stack(100, 90), 1)
    assert find_heart(no_blood) == "no heart was found"
    assert find_heart(stack(1, 90)) == "the heart reaches the border of the field"
    assert find_heart(stack(100, 216)) == "the heart reaches the border of the field"


def test_windows_hold_the_heart_with_a_margin_and_fit_the_network() -> None:
    for top, left in ((100, 90), (3, 211), (57, 3), (110, 121)):
        heart = find_heart(stack(top, left))
        assert isinstance(heart, Box)
        for step in (16, 32):
            windows = list_windows(heart, (256, 256), step)
            assert [w.rows for w in windows] == sorted({w.rows for w in windows})
            for w in windows:
                assert {w.top % step, w.left % step, w.rows % step} == {0}
                assert w.rows == w.columns and w.top >= 0 and w.left + w.columns <= 256
                assert w.top <= max(0, top - MARGIN_PIXELS) and w.top + w.rows >= min(256, top + 40 + MARGIN_PIXELS)
                assert w.left <= max(0, left - MARGIN_PIXELS) and w.left + w.columns >= min(
                    256, left + 40 + MARGIN_PIXELS
                )
    assert list_windows(Box(20, 20, 200, 200), (256, 256), 16) == []


def test_labels_at_an_edge_count_if_the_field_continues() -> None:
    window = Box(0, 64, 96, 96)
    labels = np.zeros((2, 96, 96), np.uint8)
    labels[1, 40:60, 40:60] = 2
    assert not touches_edge(labels, window, (256, 256))
    labels[1, :60, 40:60] = 2
    assert not touches_edge(labels, window, (256, 256)), "the field itself ends here"
    labels[1, 40:60, :60] = 1
    assert touches_edge(labels, window, (256, 256))


def test_a_network_other_than_unet3plus_computes_the_whole_field() -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from strangers_network import make_small

    from mousecmr_data.inference.engines import make_engine
    from mousecmr_data.inference.roi import RoiPredictor
    from mousecmr_data.models.network import build_network

    network = build_network(make_small)
    outcome, keys = RoiPredictor(network, make_engine("eager", network, "cpu")).choose_window(
        torch.zeros(6, 3, 64, 64), lambda labels: labels
    )
    assert (outcome.window, keys) == (None, [])
    assert "windows are for UNet3+" in outcome.reason
