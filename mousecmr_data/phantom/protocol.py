"""What each cohort's scanner does: the grid, the timing and the tissues' relaxation at its field."""

from __future__ import annotations

from dataclasses import dataclass

from mousecmr_data.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Relaxation:
    """T1 and T2* in ms and proton density relative to muscle."""

    t1_ms: float
    t2star_ms: float
    density: float = 1.0


@dataclass(frozen=True, slots=True)
class Protocol:
    """One site's short-axis cine protocol."""

    field_t: float
    shape_yx: tuple[int, int]
    matrix_yx: tuple[int, int]
    """Acquired k-space; smaller than ``shape_yx`` is zero-filled."""
    voxel_size_mm: tuple[float, float, float]
    te_ms: float
    tr_ms: float
    flip_deg: float
    frame_time_ms: float
    frames: tuple[int, int]
    """Fewest and most frames of a cine, which covers about one beat."""
    snr_myocardium: tuple[float, float]
    """Range drawn from: myocardial signal over the noise SD of one channel in the stored image."""
    names: str
    """``str.format`` pattern of the mice's names."""


PROTOCOLS: dict[str, Protocol] = {
    # The published protocol (source: the paper): 128 x 128 zero-filled to 256 x 256, 0.1 mm, 9.4 T.
    "phantom": Protocol(
        9.4, (256, 256), (128, 128), (1.0, 0.1, 0.1), 1.2, 5.0, 16.0, 5.0, (17, 36), (5.5, 15.0), "Mouse{}"
    ),
    # The two external sites' protocols are not published; these are plausible small-animal ones.
    "phantom-7T": Protocol(
        7.0, (192, 192), (192, 192), (1.0, 0.156, 0.156), 1.8, 8.0, 15.0, 8.0, (11, 24), (5.0, 9.0), "7T-Mouse{}"
    ),
    "phantom-11.7T": Protocol(
        11.7, (288, 288), (192, 192), (0.8, 0.1, 0.1), 1.5, 6.0, 18.0, 6.0, (14, 30), (5.0, 10.0), "11.7T-Mouse{}"
    ),
}


def protocol(cohort: str) -> Protocol:
    """The protocol of a phantom cohort."""
    try:
        return PROTOCOLS[cohort]
    except KeyError:
        raise UnknownNameError(
            f"There is no phantom cohort {cohort!r}.",
            expected=f"one of {', '.join(PROTOCOLS)}",
            next_step="mousecmr_data.load(source='phantom')",
        ) from None


def relaxation(field_t: float) -> dict[str, Relaxation]:
    """Relaxation of each tissue at a field strength.

    Values at 9.4 T: T1 and T2* of mouse myocardium, blood, liver and muscle rounded from the
    small-animal literature (myocardium 1.4 s, blood 2.2 s, liver 1.1 s, muscle 1.6 s); lung has little
    water and a T2* well under 1 ms. T1 grows and T2* falls with the field (exponents 0.3 and -0.7).
    """
    longer, shorter = (field_t / 9.4) ** 0.3, (field_t / 9.4) ** -0.7
    at_9t = {
        "myocardium": Relaxation(1400.0, 11.0),
        "blood": Relaxation(2200.0, 14.0, 1.05),
        "skin": Relaxation(1100.0, 5.0, 0.80),
        "fat": Relaxation(420.0, 8.0, 0.62),
        "muscle": Relaxation(1600.0, 10.0),
        "lung": Relaxation(1300.0, 0.8, 0.45),
        "liver": Relaxation(1150.0, 4.5, 0.90),
        "gut_wall": Relaxation(1300.0, 7.0),
        "gut_content": Relaxation(1100.0, 1.6, 0.75),
        "gut_paste": Relaxation(900.0, 3.0, 0.75),
        "bone": Relaxation(1000.0, 0.5, 0.35),
        "marrow": Relaxation(700.0, 3.0, 0.65),
        "rim": Relaxation(450.0, 8.0, 0.70),
    }
    return {
        name: Relaxation(tissue.t1_ms * longer, tissue.t2star_ms * shorter, tissue.density)
        for name, tissue in at_9t.items()
    }
