"""Write the site: python scripts/make_docs.py [--output site] [--draft] [--links]

The pages are docs/*.md, docs/notebooks/*.ipynb and, made here, the reference of every public name and of every command,
the page of the dataset (from its manifest), and the files of the repository that a page links to. They are put together
in a temporary folder, where Sphinx builds them; each of its warnings is an error. The notebooks are run for their
outputs, which takes minutes; --draft leaves this out. --links writes nothing and asks each external link.
"""

from __future__ import annotations

import argparse
import ast
import base64
import html
import importlib
import inspect
import json
import os
import pkgutil
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from nbclient import NotebookClient
from sphinx.cmd.build import build_main
from sphinx.pycode import ModuleAnalyzer

import mousecmr_data
from mousecmr_data.cli.main import SECTIONS
from mousecmr_data.export.citation import make_bibtex
from mousecmr_data.schema.manifest import Constant, load_manifest

ROOT = Path(__file__).parents[1]
PACKAGE = mousecmr_data.__name__
PAGES = {
    "ARCHITECTURE.md": "architecture",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "benchmarks/RESULTS.md": "results",
}
"""Pages that lie elsewhere in the repository, and their names on the site."""
STABLE_MODULES = ("errors", "evaluation.plots", "plotting", "formats.nifti", "export.hub")
"""Modules without ``__all__`` whose functions and classes docs/api.md or the gallery names."""
MORE_NAMES = {f"{PACKAGE}.download.downloader": ["ResumingDownloader"]}
LICENCE = """The authors' repository has one licence file, {licence}, for data, masks, code and weights. This library is
BSD-3-Clause and contains none of them. What `mousecmr publish` writes names the licence of its data."""
LINK = re.compile(r"(\]\()(?!https?://|mailto:|#|<)([^)#\s]+)")
FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
EXTERNAL = re.compile(r'<a [^>]*href="(https?://[^"]+)"')


def list_public_names() -> dict[str, list[str]]:
    """Return the public names of each public module: its ``__all__``, or what docs/api.md calls stable."""
    packages = [m.name for m in pkgutil.walk_packages(mousecmr_data.__path__, f"{PACKAGE}.") if m.ispkg]
    public: dict[str, list[str]] = {}
    for package in (PACKAGE, *packages):
        if names := getattr(importlib.import_module(package), "__all__", None):
            public[package] = list(names)
    for name in STABLE_MODULES:
        module = importlib.import_module(f"{PACKAGE}.{name}")
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        public[module.__name__] = [n for n in own if not n.startswith("_")]
    return public | MORE_NAMES


def find_definition(module: ModuleType, name: str) -> str:
    """Return the module that defines ``name``, following the imports of ``module`` or of its stub."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return str(value.__module__)
    source = Path(str(module.__file__))
    stub = source.with_suffix(".pyi")
    for node in ast.walk(ast.parse((stub if stub.exists() else source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            found = f"{module.__name__}.{node.module}" if node.level else str(node.module)
            return find_definition(importlib.import_module(found), name)
    return module.__name__


def describe(module: str, name: str, defined: str) -> tuple[str, str]:
    """Return the directive of Sphinx that documents a public name, and its docstring."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        options = "\n   :members:\n   :undoc-members:\n   :show-inheritance:"
        return f".. autoclass:: {module}.{name}{options}", inspect.getdoc(value) or ""
    if inspect.isfunction(inspect.unwrap(value)):  # also with a cache
        return f".. autofunction:: {module}.{name}", inspect.getdoc(value) or ""
    text = "\n".join(ModuleAnalyzer.for_module(defined).find_attr_docs().get(("", name), []))
    shown = repr(value) if len(repr(value)) < 200 else "..."
    return f".. py:data:: {module}.{name}\n   :value: {shown}\n\n   " + text.replace("\n", "\n   "), text


def summarize(docstring: str) -> str:
    """Return the first sentence of a docstring in reStructuredText as a cell of a table in Markdown."""
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", paragraph).replace("``", "`")
    return re.split(r"(?<=[.:;]) ", text)[0].rstrip(":;").replace("|", r"\|")


def make_toctree(caption: str, pages: Iterable[str]) -> list[str]:
    """Return the lines that put pages, each "title <page>", below ``caption`` in the navigation."""
    return ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]


class Site:
    """The sources of the site in ``folder``."""

    def __init__(self, folder: Path, *, draft: bool = False) -> None:
        self.folder = folder
        self.draft = draft
        """Whether notebooks have no outputs."""
        self.edited: dict[str, str] = {}
        """The file of the repository behind each page."""
        self.linked: set[str] = set()
        """Other files of the repository, or folders, to which pages link."""

    def write_page(self, page: str, text: str, edited: str) -> None:
        path = self.folder / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.edited[page] = edited

    def add_written_pages(self) -> None:
        """Copy docs/ and the pages beside it; the files of the repository that they link to become pages, too."""
        docs = ROOT / "docs"
        shutil.copytree(docs, self.folder, dirs_exist_ok=True)
        sources = {path.relative_to(docs).with_suffix("").as_posix(): path for path in docs.rglob("*.md")}
        sources |= {page: ROOT / path for path, page in PAGES.items()}
        notebooks = {path.relative_to(docs).with_suffix("").as_posix(): path for path in docs.rglob("*.ipynb")}
        texts = {page: source.read_text(encoding="utf-8") for page, source in sources.items()}
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each notebook has a process of its own
            executed = pool.map(read_notebook if self.draft else run_notebook, notebooks.values())
        for (page, source), cells in zip(notebooks.items(), executed, strict=True):
            texts[page] = self.show_notebook(page, source, cells)
        for page, source in (sources | notebooks).items():
            text = self.lead_links(texts[page], source.parent, page)
            self.write_page(page, text, source.relative_to(ROOT).as_posix())
        for path in sorted(self.linked):
            self.write_page(f"files/{path}", show_files(path), path)

    def show_notebook(self, page: str, path: Path, cells: list[dict[str, Any]]) -> str:
        """Return a notebook as a page; below its title, links to the file and, if the repository is known, to Colab.

        Pictures of outputs become files beside the page; the cell's metadata "alt" says what is seen in them.
        """
        blocks = []
        for cell in cells:
            is_code = cell["cell_type"] == "code"
            blocks.append(f"```python\n{cell['source']}\n```" if is_code else cell["source"])
            for output in cell.get("outputs", ()):
                data = output.get("data", {"text/plain": output.get("text", "")})
                if "image/png" in data:
                    picture = Path(f"{page}-{len(blocks)}.png")
                    (self.folder / picture).write_bytes(base64.b64decode(data["image/png"]))
                    blocks.append(f"![{cell['metadata']['alt']}]({picture.name})")
                else:
                    blocks.append(show_output(data))
        title, _, rest = blocks[0].partition("\n")
        links = [f"{{download}}`Download this notebook <{path.name}>`"]
        if (repository := os.environ.get("DOCS_REPOSITORY", "")).startswith("https://github.com/"):
            place = repository.replace("https://github.com", "https://colab.research.google.com/github")
            links.append(f"[open it in Colab]({place}/blob/main/{path.relative_to(ROOT).as_posix()})")
        return "\n\n".join([title, "; ".join(links), rest.strip(), *blocks[1:]]) + "\n"

    def lead_links(self, text: str, folder: Path, page: str) -> str:
        """Return the text of a page in ``folder`` with links to files of the repository led to pages of the site."""
        fences = [m.span() for m in FENCE.finditer(text)]

        def lead(match: re.Match[str]) -> str:
            path = posixpath.normpath(posixpath.join(folder.relative_to(ROOT).as_posix(), match[2]))
            if path.startswith("docs/"):
                target = path.removeprefix("docs/").replace(".ipynb", ".md")
            elif path in PAGES:
                target = f"{PAGES[path]}.md"
            else:
                self.linked.add(path)
                target = f"files/{path}.md"
            is_code = any(start <= match.start() < end for start, end in fences)
            return match[0] if is_code else match[1] + posixpath.relpath(target, posixpath.dirname(page) or ".")

        return LINK.sub(lead, text)

    def add_reference(self) -> None:
        """Write a page for each public name, and the list of them by module."""
        text: list[str] = []
        for module_name, names in list_public_names().items():
            module = importlib.import_module(module_name)
            pages = []
            summary = summarize(module.__doc__ or "")
            text += ["", f"## {module_name}", "", summary, "", "| name | what it is |", "|---|---|"]
            for name in names:
                if isinstance(value := getattr(module, name), ModuleType):
                    row = f"[`{name}`](#{value.__name__.replace('.', '')})", summarize(value.__doc__ or "")
                else:
                    defined = find_definition(module, name)
                    directive, docstring = describe(module_name, name, defined)
                    page = f"{module_name}.{name}"
                    pages.append(f"{name} <{page}>")
                    title = page if module_name == PACKAGE else page.removeprefix(f"{PACKAGE}.")
                    code = f"# {title}\n\n```{{eval-rst}}\n{directive}\n```\n"
                    source = Path(str(importlib.import_module(defined).__file__)).relative_to(ROOT)
                    self.write_page(f"reference/{page}", code, source.as_posix())
                    row = f"[`{name}`]({page}.md)", summarize(docstring)
                text.append(f"| {row[0]} | {row[1]} |")
            text += make_toctree(module_name.removeprefix(f"{PACKAGE}."), pages)
        self.fill_page("reference/index", "\n".join(text))

    def add_commands(self) -> None:
        """Write a page for each command, and the list of them by section."""
        text: list[str] = []
        for section, commands in SECTIONS.items():
            text += ["", f"## {section}", "", "| command | what it does |", "|---|---|"]
            for name, summary in commands.items():
                text.append(f"| [`mousecmr {name}`]({name}.md) | {summary} |")
                directive = f".. click:: mousecmr_data.cli.{name}:command\n   :prog: mousecmr {name}\n   :nested: full"
                code = f"```{{eval-rst}}\n{directive}\n```\n"
                self.write_page(f"cli/{name}", code, f"mousecmr_data/cli/{name}.py")
            text += make_toctree(section, [f"{name} <{name}>" for name in commands])
        self.fill_page("cli/index", "\n".join(text))

    def add_dataset(self) -> None:
        """Add the tables of the embedded manifest to the page of the dataset."""
        m = load_manifest()
        lines = [f"**{m.title}**", "", "| fact | value | source |", "|---|---|---|"]
        lines += [f"| version | `{m.version[:12]}` of {m.released} | repo |", f"| licence | {m.licence} | repo |"]
        for key, constant in {**m.counts, **m.acquisition}.items():
            lines.append(f"| {key.replace('_', ' ')} | {format_constant(constant)} | {constant.source} |")
        lines += ["", "## Groups", "", "| group | mice | source |", "|---|---|---|"]
        lines += [f"| {g.name} | {g.n_mice} | {g.source} |" for g in m.groups]
        lines += ["", "Which mouse is in which group was not published.", "", "## Splits", ""]
        for scheme in m.splits.values():
            counts = ", ".join(f"{len(mice)} {split}" for split, mice in scheme.mice.items()) or "not published"
            lines += [f"**`{scheme.name}`**: {counts}. {scheme.description} {scheme.caveat}", ""]
        if p := m.published:
            lines += ["## The published table", "", f"{p.n_mice} test mice, mean ± SD; source: {p.source}.", ""]
            lines += ["Compare a network with it: [Reproducing the article](reproducing.md).", ""]
            lines += [
                "| measure | truth | network | bias | limits of agreement | p | r |",
                "|---|---|---|---|---|---|---|",
            ]
            for row in p.measures:
                truth, model = (f"{mean} ± {sd}" for mean, sd in (row.truth, row.model))
                cells = [truth, model, f"{row.bias:+}", "{} to {}".format(*row.limits_of_agreement), row.p, row.r]
                lines.append(f"| {row.name} ({row.unit}) | {' | '.join(map(str, cells))} |")
            lines += ["", "| Dice | ED and ES | ED | ES |", "|---|---|---|---|"]
            for structure in dict.fromkeys(d.structure for d in p.dice):
                dice = [f"{d.mean} ± {d.sd}" for d in p.dice if d.structure == structure]
                lines.append(f"| {structure} | {' | '.join(dice)} |")
        lines += ["", "## Known issues", ""]
        lines += [f"- **{issue.title}** (`{issue.id}`, {issue.source}): {issue.text}" for issue in m.known_issues]
        lines += ["", "## Licence", "", LICENCE.format(licence=m.licence)]
        lines += ["", "## How to cite", "", "Cite the article, and the version of the data that you used:", ""]
        lines += ["```bibtex", *"\n".join(make_bibtex(m).values()).splitlines(), "```", ""]
        self.fill_page("dataset", "\n".join(lines))

    def fill_page(self, page: str, text: str) -> None:
        """Append what is made here to a page of docs/."""
        with (self.folder / f"{page}.md").open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")


def format_constant(constant: Constant) -> str:
    """Return value and unit of a constant of the manifest."""
    value = constant.value
    text = " × ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{text} {constant.unit}".strip()


def read_notebook(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook."""
    return list(nbformat.read(path, as_version=4)["cells"])  # type: ignore[no-untyped-call]


def run_notebook(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook with outputs: run in a new folder, without network, and with an empty cache.

    Raises CellExecutionError if a cell fails, and RuntimeError if one warns.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        variables = {"MOUSECMR_CACHE": str(cache), "MOUSECMR_OFFLINE": "1", "MOUSECMR_PROGRESS": "0"}
        # Threads of two notebooks that wait for one another are slow; tqdm asks for widgets, which nothing here needs.
        variables |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
        client = NotebookClient(
            nbformat.read(path, as_version=4),  # type: ignore[no-untyped-call]
            timeout=600,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        cells = client.execute(env=os.environ | variables)["cells"]
    for output in (o for cell in cells for o in cell.get("outputs", ())):
        if output.get("name") == "stderr":
            raise RuntimeError(f"{path} writes to standard error: {output['text']}")
        data = output.get("data", output)
        for key in {"text", "text/plain", "text/html"} & data.keys():
            data[key] = data[key].replace(str(cache), "~/.cache/mousecmr")
    return list(cells)


def show_output(data: dict[str, str]) -> str:
    """Return what a cell shows, in HTML or as text, in the classes that the theme has for outputs of notebooks."""
    if "text/html" in data:
        shown = re.sub(r"<style scoped>.*?</style>", "", data["text/html"], flags=re.DOTALL)  # for tables of pandas
    else:
        shown = f'<pre tabindex="0">{html.escape(data["text/plain"])}</pre>'
    return f'~~~~~~{{raw}} html\n<div class="cell_output"><div class="output">{shown}</div></div>\n~~~~~~'


def show_files(path: str) -> str:
    """Return a page with a file of the repository, or with all scripts of a folder."""
    files = [ROOT / path] if (ROOT / path).is_file() else sorted((ROOT / path).glob("*.py"))
    blocks = []
    for file in files:
        language, code = "python" if file.suffix == ".py" else "text", file.read_text(encoding="utf-8")
        blocks.append(f"`{file.relative_to(ROOT).as_posix()}`\n\n~~~~~~{language}\n{code}\n~~~~~~")
    return "\n\n".join(["---\norphan: true\n---", f"# {path}", *blocks]) + "\n"


def list_external_links(site: Path) -> list[str]:
    """Return the addresses of other hosts to which the pages in ``site`` link."""
    texts = (page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    return sorted({html.unescape(url) for text in texts for url in EXTERNAL.findall(text)})


def build(output: Path, builder: str = "html", *, draft: bool = False) -> int:
    """Build the site in ``output``, a draft without outputs of notebooks; return the exit status of Sphinx."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), draft=draft)
        site.add_written_pages()
        site.add_reference()
        site.add_commands()
        site.add_dataset()
        (site.folder / "edited.json").write_text(json.dumps(site.edited), encoding="utf-8")
        strict = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--doctree-dir", f"{folder}-doctrees"]
        status = int(build_main([*strict, "--builder", builder, folder, str(output)]))
        shutil.rmtree(f"{folder}-doctrees", ignore_errors=True)
        return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "site")
    parser.add_argument("--draft", action="store_true", help="do not run the notebooks")
    parser.add_argument("--links", action="store_true", help="ask each external link, over the network")
    args = parser.parse_args()
    if args.links:
        return build(args.output / "links", "linkcheck", draft=True)
    shutil.rmtree(args.output, ignore_errors=True)
    if status := build(args.output, draft=args.draft):
        return status
    links = list_external_links(args.output)
    (args.output / "external-links.txt").write_text("\n".join(links) + "\n", encoding="utf-8")
    print(f"written: {args.output / 'index.html'}; {len(links)} links to other hosts are listed in external-links.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
