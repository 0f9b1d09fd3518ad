import subprocess
import sys
from pathlib import Path

import mousecmr_data as md

DOCS = Path(__file__).parents[2] / "docs"


def test_exported_names_are_sorted_and_resolve() -> None:
    assert list(md.__all__) == sorted(md.__all__)
    for name in md.__all__:
        assert getattr(md, name) is not None
    assert set(md.__all__) <= set(dir(md))


def test_unknown_names_raise_attribute_error() -> None:
    try:
        md.lode  # type: ignore[attr-defined]  # noqa: B018
    except AttributeError as e:
        assert "lode" in str(e)
    else:
        raise AssertionError("mousecmr_data.lode resolved")


def test_every_public_name_has_a_docs_page() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in DOCS.rglob("*.md"))
    assert [n for n in md.__all__ if f"`{n}" not in text and f".{n}" not in text] == []


def test_importing_the_package_loads_no_heavy_package() -> None:
    code = """
import sys, time
start = time.perf_counter()
import mousecmr_data
seconds = time.perf_counter() - start
heavy = {"torch", "datasets", "matplotlib", "numpy", "pandas", "xarray", "zarr", "h5py", "gradio", "pooch"}
print(sorted(heavy & set(sys.modules)), seconds < 0.3)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("]")[0] == "["
    assert out.stdout.strip().endswith("True")


def test_loading_imports_neither_torch_nor_matplotlib() -> None:
    code = """
import sys, mousecmr_data as m
m.load, m.open_mouse, m.measure
print([heavy for heavy in ("torch", "datasets", "matplotlib") if heavy in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
