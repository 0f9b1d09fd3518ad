"""The built site: every name and command, no broken link, no other host, readable by screen readers, short ways."""

import functools
import html.parser
import http.server
import importlib
import posixpath
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from page_app import IN_BROWSER, open_chromium

pytest.importorskip("sphinx", reason="the extra dev is not installed")

import make_docs
import nbformat

from mousecmr_data import plotting
from mousecmr_data.cli.main import SECTIONS
from mousecmr_data.evaluation import plots

LOADED = {"script": "src", "img": "src", "source": "srcset", "link": "href", "iframe": "src", "video": "src"}


class Page(html.parser.HTMLParser):
    """The links, the anchors and the loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.pictures: list[str] = []
        """What is seen in each picture, and an empty text where it does not say."""
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "img" and "logo__image" not in found.get("class", ""):  # its link is named
            self.pictures.append(found.get("alt", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if found.get(LOADED.get(tag, ""), "") and found.get("rel") not in ("index", "search", "next", "prev"):
            self.loaded.append(found[LOADED[tag]])


def resolve(page: str, link: str) -> tuple[str, str]:
    """Return the page and the anchor to which a link of ``page`` leads."""
    parts = urlsplit(link)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path))) if parts.path else page
    return path, unquote(parts.fragment)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once; a warning of Sphinx is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(make_docs.ROOT / "scripts" / "make_docs.py"), "--output", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    return {
        path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html") if "_static" not in path.parts
    }


def test_every_public_name_has_its_page_with_its_docstring(site: Path, pages: dict[str, Page]) -> None:
    public = make_docs.list_public_names()
    assert {"mousecmr_data", "mousecmr_data.adapters.torch", "mousecmr_data.pipeline"} <= public.keys()
    absent = []
    for module, names in public.items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            page, anchor = f"reference/{module}.{name}.html", f"{module}.{name}"
            if isinstance(value, ModuleType):
                page, anchor = "reference/index.html", re.sub(r"[._]", "-", value.__name__)
            if page not in pages or anchor not in pages[page].anchors:
                absent.append(f"{page}#{anchor}")
    assert absent == []
    text = (site / "reference/mousecmr_data.load.html").read_text(encoding="utf-8")
    assert "missing files are downloaded and verified" in text
    assert "<td><p></p></td>" not in (site / "reference/index.html").read_text(encoding="utf-8"), "without a docstring"
    assert "object at 0x" not in "".join(p.read_text(encoding="utf-8") for p in (site / "reference").glob("*.html"))


def test_every_command_has_its_page_with_every_option(site: Path) -> None:
    for name in [name for commands in SECTIONS.values() for name in commands]:
        text = (site / "cli" / f"{name}.html").read_text(encoding="utf-8")
        command: Any = importlib.import_module(f"mousecmr_data.cli.{name}").command
        for part in [command, *getattr(command, "commands", {}).values()]:
            options = [p.opts[-1] for p in part.params if p.param_type_name == "option"]
            assert [o for o in options if o not in text] == [], name


def test_every_picture_of_the_library_is_in_the_gallery() -> None:
    """With the code that draws it; scripts/draw_gallery.py runs that code."""
    page = (make_docs.ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    drawn = [n for module in (plotting, plots) for n in vars(module) if n.startswith("plot_") or n == "write_movie"]
    assert [n for n in drawn if n != "plot_all" and f"{n}(" not in page] == []
    for name in re.findall(r"images/gallery/(\S+?)\)", page):
        assert f'"{name}"' in page, f"no code writes {name}"


def test_each_notebook_stands_there_with_its_outputs(site: Path, pages: dict[str, Page]) -> None:
    """The build ran them; a failing cell or a warning would have ended it. They name no place of the machine."""
    notebooks = sorted((make_docs.ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        name = f"notebooks/{path.stem}.html"
        text = (site / name).read_text(encoding="utf-8")
        shown = [site / resolve(name, link)[0] for link in pages[name].loaded if path.stem in link]
        assert 'class="cell_output"' in text and shown, f"{path.stem}: no output, or no picture"
        assert len(text) + sum(picture.stat().st_size for picture in shown) < 1e6, path.stem
        assert f"{tempfile.gettempdir()}/" not in text and str(Path.home()) not in text
        assert (site / resolve(name, next(k for k in pages[name].links if k.endswith(".ipynb")))[0]).is_file()


def test_a_warning_of_a_notebook_ends_the_build(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; sys.stderr.write('careful')")])
    nbformat.write(notebook, tmp_path / "warns.ipynb")
    with pytest.raises(RuntimeError, match=r"warns.ipynb writes to standard error: careful"):
        make_docs.run_notebook(tmp_path / "warns.ipynb")


def test_every_picture_says_what_is_seen(pages: dict[str, Page]) -> None:
    """Except small ones that have a caption, in the HTML of a cohort in a notebook."""
    assert [name for name, page in pages.items() if "" in page.pictures and not name.startswith("notebooks/")] == []


def test_every_link_to_another_host_is_listed(site: Path, pages: dict[str, Page]) -> None:
    listed = set((site / "external-links.txt").read_text(encoding="utf-8").split())
    assert {link for page in pages.values() for link in page.links if link.startswith("http")} <= listed


def test_no_link_is_broken(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        for link in page.links + page.loaded:
            target, anchor = resolve(name, link)
            if urlsplit(link).scheme:
                continue
            if not (site / target).is_file() or (target in pages and anchor not in pages[target].anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_no_page_loads_from_another_host(pages: dict[str, Page], site: Path) -> None:
    assert [(name, url) for name, page in pages.items() for url in page.loaded if urlsplit(url).netloc] == []
    for css in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", css.read_text(encoding="utf-8")), css.name


WALK = {
    "load": "reference/mousecmr_data.load.html",
    "a DataLoader": "tutorials/train.html#a-dataloader",
    "a segmented scan": "tutorials/scans.html#segment",
    "the published table": "dataset.html#the-published-table",
}


@pytest.mark.parametrize("goal", WALK)
def test_a_newcomer_gets_there_in_three_clicks(goal: str, pages: dict[str, Page]) -> None:
    page, _, anchor = WALK[goal].partition("#")
    assert anchor in pages[page].anchors
    seen = {"index.html"}
    for _ in range(3):
        seen |= {resolve(p, link)[0] for p in seen for link in pages[p].links} & pages.keys()
    assert page in seen


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


class TestInBrowser:
    pytestmark = IN_BROWSER

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize(
        "page",
        [
            "index",
            "tutorials/train",
            "notebooks/load-and-look",
            "reference/mousecmr_data.load",
            "gallery",
            "cli/fetch",
            "dataset",
            "benchmark",
        ],
    )
    def test_a_page_is_readable_and_asks_no_other_host(
        self, page: str, scheme: str, address: str, chromium: Any
    ) -> None:
        """No violation is found by axe; nothing is wider than a phone; no error, no request elsewhere."""
        sync = pytest.importorskip("axe_playwright_python.sync_playwright")
        context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        shown = context.new_page()
        requested: list[str] = []
        errors: list[str] = []
        shown.on("request", lambda r: requested.append(r.url))
        shown.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        shown.goto(f"{address}{page}.html")
        shown.wait_for_load_state("networkidle")
        assert [u for u in requested if not u.startswith((address, "data:"))] == []
        assert errors == []
        assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        for width in (390, 1280):
            shown.set_viewport_size({"width": width, "height": 844})
            violations = sync.Axe().run(shown).response["violations"]
            assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
        context.close()

    def test_the_search_finds_a_name(self, address: str, chromium: Any) -> None:
        page = chromium.new_page()
        page.goto(f"{address}search.html?q=open_mouse")
        page.wait_for_selector("ul.search li a")
        assert any("open_mouse" in link for link in page.locator("ul.search li a").all_inner_texts())
        page.close()
