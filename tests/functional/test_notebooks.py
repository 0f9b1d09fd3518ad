"""The notebooks of docs/notebooks run, are stripped of outputs, and install only what is missing."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader runs it, in a kernel of its own; nothing is downloaded."""
    nbclient = pytest.importorskip("nbclient", reason="the extra test is not installed")
    import nbformat

    for module in ("torch", "monai", "matplotlib", "nibabel"):
        pytest.importorskip(module, reason="an extra is not installed")
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other tests, threads that wait for one another are slow
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    pictures = [o for o in outputs if {"image/png", "text/html"} & o.get("data", {}).keys()]
    assert pictures, "nothing to look at"
    errors = [o["text"] for o in outputs if o.get("name") == "stderr"]
    assert [text for text in errors if "Warning" in text and "IProgress" not in text] == []  # ipywidgets is not needed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stripped_and_begins_with_the_installation(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [c for c in code if c["outputs"] or c["execution_count"] is not None] == []
    assert cells[0]["source"][0].startswith("# ")
    first = "".join(code[0]["source"])
    assert first.startswith("try:\n    import mousecmr_data\nexcept ImportError:")
    assert "%pip install" in first
