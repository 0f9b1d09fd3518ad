import pytest

from mousecmr_data.errors import ArgumentError
from mousecmr_data.web.job import TimeEstimator, format_duration
from mousecmr_data.web.service import parse_form


def test_empty_fields_are_the_files_own() -> None:
    s = parse_form("phantom-small", "", "", "")
    assert (s.weights, s.spacing, s.axes, s.frame_time_ms) == ("phantom-small", None, None, None)


def test_fields_as_people_type_them() -> None:
    s = parse_form("phantom-small", "1.0 × 0.1, 0.12", " XYZT ", "5")
    assert (s.spacing, s.axes, s.frame_time_ms) == ((1.0, 0.1, 0.12), "xyzt", 5.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("/etc/passwd", "", "", ""), "no weights"),
        (({"path": "/etc/passwd"}, "", "", ""), "no weights"),
        (("phantom-small", "1 2", "", ""), "voxel size"),
        (("phantom-small", "1 2 -3", "", ""), "not a number"),
        (("phantom-small", "nan 1 1", "", ""), "not a number"),
        (("phantom-small", "a b c", "", ""), "not a number"),
        (("phantom-small", "", "abc", ""), "axes"),
        (("phantom-small", "", "", "5 6"), "frame time"),
        (("phantom-small", {"path": "/etc/passwd"}, "", ""), "not a number"),
    ],
)
def test_other_values_are_refused_by_name(fields: tuple[object, ...], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        parse_form(*fields)


def test_the_pace_is_a_guess_and_then_learnt() -> None:
    estimator = TimeEstimator()
    guessed, learnt = estimator.estimate("phantom-small", 100)
    assert guessed > 0
    assert not learnt
    estimator.learn("phantom-small", 50, 10.0)
    assert estimator.estimate("phantom-small", 100) == (20.0, True)
    estimator.learn("phantom-small", 100, 10.0)  # twice as fast: half of the way
    assert estimator.estimate("phantom-small", 100) == (pytest.approx(15), True)
    assert not estimator.estimate("mousecmr-9.4T-unet3plus", 100)[1]


def test_seconds_as_people_say_them() -> None:
    assert [format_duration(s) for s in (0.2, 7.6, 44, 89, 200)] == ["1 s", "8 s", "40 s", "90 s", "3 min"]
