"""The notebooks of docs/notebooks are stripped of outputs and install only what is missing; test_site runs them."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stripped_and_begins_with_the_installation(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [c for c in code if c["outputs"] or c["execution_count"] is not None] == []
    assert cells[0]["source"][0].startswith("# ")
    first = "".join(code[0]["source"])
    assert first.startswith("try:\n    import mousecmr_data\nexcept ImportError:")
    assert "%pip install" in first
