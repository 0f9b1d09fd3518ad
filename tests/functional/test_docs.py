"""Run the examples of the documentation on synthetic mice, and check its links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=[p.stem for p in PAGES])
def test_examples_run(page: Path, tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [m["code"] for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if not m["skip"]]
    if not code:
        pytest.skip(f"{page.name} has no example to run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_CACHE", str(phantom_cache))
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_links_have_targets(page: Path) -> None:
    broken = [t for t in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / t).exists()]
    assert broken == []
