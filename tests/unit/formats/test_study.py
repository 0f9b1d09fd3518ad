"""Which series of a study are the short-axis cine."""

from dataclasses import replace
from pathlib import Path

import pytest

from mousecmr_data.formats.study import Stack, StudyScan, Unusable, choose_scans, find_purpose

AXIAL, CORONAL = (1.0, 0, 0, 0, 1, 0, 0, 0, 1), (1.0, 0, 0, 0, 0, -1, 0, 1, 0)
SLICE = Stack((Path("1"),), "scan 1", "cine", "IgFLASH", (72, 80), (0.1, 0.1), AXIAL, (-12.8, -12.8), (0.0,), 15, (1,))


def make(number: int, depth: float | tuple[float, ...] = 0.0, **changes: object) -> Stack:
    depths = (depth,) if isinstance(depth, float) else depth
    place = {"paths": (Path(str(number)),), "label": f"scan {number}", "depths": depths, "taken": (number,)}
    return replace(SLICE, **{**place, **changes})  # type: ignore[arg-type]


def list_paths(scans: list[StudyScan]) -> list[list[str]]:
    return [sorted(str(p) for p in scan.paths) for scan in scans]


def test_single_slices_become_a_stack_and_the_rest_is_left_out_with_a_reason() -> None:
    study = [
        make(1, (0.0, 1.0, 2.0), frames=1, name="1_Localizer"),
        make(2, frames=1, name="B0 map"),
        *(make(3 + k, float(k)) for k in range(4)),
        make(7, directions=CORONAL),
        make(8, directions=CORONAL, name="LA_2CH"),
        make(9, (0.0, 1.0), name="EPI", is_movie=False),
    ]
    (scan,) = choose_scans(study, [Unusable((Path("10"),), "scan 10 has slices in 3 directions: a localiser")])
    assert list_paths([scan]) == [["3", "4", "5", "6"]]
    (note,) = scan.notes
    for text in (
        "scan 1: 3 slices, 1 frame, a localiser by its name",
        "scan 2: 1 slice, 1 frame, a field map by its name",
        "scan 7: 1 slice, 15 frames",
        "scan 8: 1 slice, 15 frames, a long-axis view by its name",
        "scan 9: 2 slices, 15 frames, an EPI by its name",
        "scan 10 has slices in 3 directions: a localiser",
    ):
        assert text in note
    assert scan.incomplete == ()


def test_of_slices_that_were_scanned_again_the_latest_is_taken() -> None:
    study = [*(make(1 + k, float(k)) for k in range(6)), make(7, 2.0)]
    (scan,) = choose_scans(study)
    assert list_paths([scan]) == [["1", "2", "4", "5", "6", "7"]]
    assert scan.notes == ("Left out of this study: scan 3: 1 slice, 15 frames, the same slices scanned earlier.",)


def test_of_stacks_that_were_scanned_again_the_latest_complete_one_is_taken() -> None:
    whole = (0.0, 1.0, 2.0, 3.0)
    (scan,) = choose_scans([make(1, whole), make(2, whole), make(3, whole[:2])])
    assert list_paths([scan]) == [["2"]]
    assert "scan 1: 4 slices, 15 frames, the same slices scanned earlier" in scan.notes[0]
    assert "scan 3: 2 slices, 15 frames, the same slices scanned later, but not completely" in scan.notes[0]
    (scan,) = choose_scans([make(1, whole), make(2, whole, frames=20)])
    assert list_paths([scan]) == [["2"]]
    assert "the same slices with other frames" in scan.notes[0]


def test_a_slice_with_other_frames_may_be_missing() -> None:
    (scan,) = choose_scans([*(make(1 + k, float(k)) for k in range(3)), make(4, 3.0, frames=12)])
    assert list_paths([scan]) == [["1", "2", "3"]]
    assert scan.notes == ()
    assert "scan 4: 1 slice, 12 frames" in scan.incomplete[0]


def test_a_later_scan_of_one_frame_does_not_replace_the_cine() -> None:
    (scan,) = choose_scans([make(1, (0.0, 1.0)), make(2, (0.0, 1.0, 2.0), frames=1)])
    assert list_paths([scan]) == [["1"]]
    assert "scan 2: 3 slices, 1 frame" in scan.notes[0]


def test_a_slice_that_was_scanned_again_joins_if_the_reader_takes_the_latest() -> None:
    whole, again = make(1, (0.0, 1.0, 2.0)), make(2, 1.0)
    assert list_paths(choose_scans([whole, again])) == [["1"]]
    assert list_paths(choose_scans([whole, replace(again, takes_latest=True)])) == [["1", "2"]]


def test_series_of_one_frame_each_with_times_of_their_own_are_one_cine() -> None:
    phases = [make(1 + k, (0.0, 1.0), frames=1, trigger_ms=5.0 * k) for k in range(3)]
    assert list_paths(choose_scans(phases)) == [["1", "2", "3"]]
    assert list_paths(choose_scans([replace(s, trigger_ms=0.0) for s in phases])) == [["3"]]


def test_refused_files_that_may_belong_to_a_stack_are_said_and_stay() -> None:
    member = Unusable((Path("3"),), "3 is damaged", protocol="IgFLASH")
    others = [replace(member, name="LA_4CH"), replace(member, protocol="RARE"), replace(member, protocol=None)]
    scan, refused = choose_scans([make(1), make(2, 1.0)], [member])
    assert "3 is damaged" in scan.incomplete[0]
    assert refused.paths == (Path("3"),)
    (scan,) = choose_scans([make(1), make(2, 1.0)], others)
    assert (scan.incomplete, scan.notes) == ((), ("Left out of this study: 3 is damaged.",))


def test_of_stacks_in_several_directions_the_largest_is_taken() -> None:
    short, long = make(1, (0.0, 1.0, 2.0, 3.0)), make(2, (0.0, 1.0, 2.0), directions=CORONAL)
    assert list_paths(choose_scans([short, long])) == [["1"]]
    same = make(3, (0.0, 1.0, 2.0, 3.0), directions=CORONAL)
    scans = choose_scans([short, same])
    assert list_paths(scans) == [["1"], ["3"]]
    assert scans[0].notes[-1].startswith("This study has 2 such stacks, and all were taken")
    assert list_paths(choose_scans([short, replace(same, name="SAX cine")])) == [["3"]]


@pytest.mark.parametrize(
    "changes",
    [{"protocol": "FLASH"}, {"shape": (64, 64)}, {"steps": (0.1, 0.2)}, {"offset": (-12.8, -12.0)}],
)
def test_slices_of_other_geometry_or_protocol_are_not_joined(changes: dict[str, object]) -> None:
    scans = choose_scans([make(1), make(2, 1.0), make(3, 2.0, **changes)])
    assert list_paths(scans) == [["1", "2"]]
    assert "scan 3" in scans[0].notes[0]


def test_a_study_without_a_cine_or_without_a_stack() -> None:
    assert list_paths(choose_scans([make(1, (0.0, 1.0), frames=1), make(2, frames=1)])) == [["1"]]
    assert list_paths(choose_scans([], [Unusable((Path("1"),), "a localiser")])) == [["1"]]
    assert choose_scans([]) == []


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("1_Localizer", "a localiser"),
        ("TriPilot-multi", "a localiser"),
        ("LA_4CH", "a long-axis view"),
        ("EPI-SE-FOVsat", "an EPI"),
        ("B0Map-ADJ_B0MAP", "a field map"),
        ("mgre", "a multi-echo series"),
        ("IG_FLASH_cine_SA", ""),
        ("gems", ""),
    ],
)
def test_purposes_by_name(name: str, purpose: str) -> None:
    assert find_purpose(name) == purpose
