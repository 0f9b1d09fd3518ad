"""Engines at the published width, on many mice: nowhere beyond their gates."""

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("openvino", reason="the extra openvino is not installed")

from unit.baseline.networks import widened  # noqa: E402

from mousecmr_data import baseline  # noqa: E402
from mousecmr_data.baseline.engines import gate, make, samples  # noqa: E402

FULL = bool(os.environ.get("MOUSECMR_STRESS"))
WEIGHTS = os.environ.get("MOUSECMR_WEIGHTS_FILE", "phantom-small")
MICE = ("Mouse6", "Mouse10", "Mouse15", "Mouse21", "Mouse30", "Mouse41") if FULL else ("Mouse10",)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["exact", "openvino", "openvino-int8"])
def test_no_mouse_is_beyond_the_gate(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """MOUSECMR_WEIGHTS_FILE names weights; else phantom-small, at full count with four times the channels."""
    network = baseline.load(WEIGHTS, device="cpu", engine="eager").network
    if FULL and WEIGHTS == "phantom-small":
        network = widened(network, 4)
    cache: Path = tmp_path_factory.getbasetemp() / "gates"
    engine, reference = make(name, network, "cpu", cache), make("eager", network, "cpu")
    for mouse in MICE:
        found = gate.agreement(engine, reference, samples.stacks(mouse))
        assert found.within(gate.LIMITS[name]), f"{mouse}: {found}"
