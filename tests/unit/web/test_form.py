from pathlib import Path

import pytest

from mousecmr_data._utils.atomic import write_text
from mousecmr_data.download.cache import get_own_weights_folder
from mousecmr_data.errors import ArgumentError
from mousecmr_data.inference.predictor import SHIPPED_FOLDER
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.job import TimeEstimator, format_duration
from mousecmr_data.web.service import PageService, parse_form
from mousecmr_data.web.sessions import SessionStore


def test_empty_fields_mean_the_values_in_the_file() -> None:
    config = parse_form("phantom-small", "", "", "", "", " ")
    assert config == SegmentConfig(weights="phantom-small")


def test_fields_accept_common_notations() -> None:
    config = parse_form("phantom-small", "1.0 × 0.1, 0.12", " XYZT ", "5", " 20 ", "0")
    assert (config.spacing, config.axes, config.frame_time_ms) == ((1.0, 0.1, 0.12), "xyzt", 5.0)
    assert (config.frames, config.fill) == (20, 0.0)
    assert parse_form("phantom-small", "", "", "", "", "-1.5").fill == -1.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("/etc/passwd", "", "", ""), "no weights"),
        (({"path": "/etc/passwd"}, "", "", ""), "no weights"),
        (("phantom-small", "1 2", "", ""), "voxel size"),
        (("phantom-small", "1 2 -3", "", ""), "not a number"),
        (("phantom-small", "nan 1 1", "", ""), "not a number"),
        (("phantom-small", "a b c", "", ""), "not a number"),
        (("phantom-small", "", "abc", ""), "axes"),
        (("phantom-small", "", "", "5 6"), "frame time"),
        *((("phantom-small", "", "", "", v), "frames of each slice") for v in ("1", "-4", "2.5", "x", "٣", "9" * 9)),
        *((("phantom-small", "", "", "", "", v), "fill value") for v in ("nan", "inf", "x", "0 0")),
        (("phantom-small", {"path": "/etc/passwd"}, "", ""), "not a number"),
    ],
)
def test_invalid_values_are_refused_with_the_name_of_the_field(fields: tuple[object, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_form(*fields)


def test_the_expected_time_is_a_guess_and_then_learnt() -> None:
    estimator = TimeEstimator()
    seconds, learnt = estimator.estimate("phantom-small", 100)
    assert seconds > 0
    assert not learnt
    estimator.learn("phantom-small", 50, 10.0)
    assert estimator.estimate("phantom-small", 100) == (20.0, True)
    estimator.learn("phantom-small", 100, 10.0)  # half of the new, half of the old time per slice
    assert estimator.estimate("phantom-small", 100) == (pytest.approx(15), True)
    assert not estimator.estimate("mousecmr-9.4T-unet3plus", 100)[1]


def test_durations_are_rounded() -> None:
    assert [format_duration(s) for s in (0.2, 7.6, 44, 89, 200)] == ["1 s", "8 s", "40 s", "90 s", "3 min"]


@pytest.mark.parametrize(
    "text", ["0.1 x 0.12 x 1 mm", "0.1mm×0.12mm×1mm", "1.0 0.12 0.1", "1 * 0.12 * 0.1", "0.1 0.12 1"]
)
def test_sizes_may_be_typed_with_units_and_in_the_order_x_y_z(text: str) -> None:
    assert parse_form("phantom-small", text, "", "5 ms").spacing == (1.0, 0.12, 0.1)


def test_weights_of_the_user_s_own_are_offered_by_name(tmp_path: Path) -> None:
    ui = pytest.importorskip("mousecmr_data.web.ui", reason="the extra web is not installed")
    with pytest.raises(ArgumentError, match="no weights 'lab-7T'"):
        parse_form("lab-7T", "", "", "", cache=tmp_path)
    card = SHIPPED_FOLDER.joinpath("phantom-small.toml").read_text(encoding="utf-8")
    card = card.replace('name = "phantom-small"', 'name = "lab-7T"').replace(
        '"synthetic mice only: ', '"5 reviewed mice ('
    )
    write_text(get_own_weights_folder(tmp_path) / "lab-7T.toml", card)
    assert parse_form("lab-7T", "", "", "", cache=tmp_path).weights == "lab-7T"
    text, name = ui.make_weight_choices(PageService(ServerConfig(cache=tmp_path), SessionStore()))[-1]
    assert name == "lab-7T" and "tuned on 5 reviewed mice" in text and "SYNTHETIC" in text
