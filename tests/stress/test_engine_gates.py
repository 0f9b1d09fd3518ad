"""Engines at the published width stay within their gates on many mice."""

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("openvino", reason="the extra openvino is not installed")

from networks import widen_network  # noqa: E402

from mousecmr_data.inference.engines import make_engine  # noqa: E402
from mousecmr_data.inference.engines.auto import GATE_LIMITS, compare_engines, make_gate_stacks  # noqa: E402
from mousecmr_data.inference.predictor import load_model  # noqa: E402

FULL = bool(os.environ.get("MOUSECMR_STRESS"))
WEIGHTS = os.environ.get("MOUSECMR_WEIGHTS_FILE", "phantom-small")
MICE = ("Mouse6", "Mouse10", "Mouse15", "Mouse21", "Mouse30", "Mouse41") if FULL else ("Mouse10",)


@pytest.mark.stress
@pytest.mark.parametrize("name", ["exact", "openvino", "openvino-int8"])
def test_no_mouse_is_beyond_the_gate(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """MOUSECMR_WEIGHTS_FILE names weights; else phantom-small, in a full run with four times the channels."""
    network = load_model(WEIGHTS, device="cpu", engine="eager").network
    if FULL and WEIGHTS == "phantom-small":
        network = widen_network(network, 4)
    cache: Path = tmp_path_factory.getbasetemp() / "gates"
    engine, reference = make_engine(name, network, "cpu", cache), make_engine("eager", network, "cpu")
    for mouse in MICE:
        result = compare_engines(engine, reference, make_gate_stacks(network, mouse))
        assert result.passes(GATE_LIMITS[name]), f"{mouse}: {result}"
