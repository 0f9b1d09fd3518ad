"""One rendered mouse for all tests of the folder: rendering takes seconds."""

from __future__ import annotations

import pytest

from mousecmr_data import phantom


@pytest.fixture(scope="session")
def plan() -> phantom.Plan:
    """A mouse with inflow frames."""
    return phantom.make_plans("phantom")["Mouse17"]


@pytest.fixture(scope="session")
def rendering(plan: phantom.Plan) -> phantom.Rendering:
    return phantom.render(plan)
