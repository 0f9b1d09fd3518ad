"""Settings of the site for Sphinx. `make docs` runs it; scripts/make_docs.py puts the pages together."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mousecmr_data._version import __version__

REPOSITORY = os.environ.get("DOCS_REPOSITORY", "https://example.org/mousecmr-data")
"""Where "Edit this page" leads: the workflow names the repository that it runs in."""
EDITED = json.loads((Path(__file__).parent / "edited.json").read_text(encoding="utf-8"))
"""The file of the repository that each page is made from."""
PICTURE = re.compile(r'(<img (?=[^>]*src="([^"]*_images/[^"]+)")[^>]*>)(?!</a>)')

project = "mousecmr-data"
author = copyright = "The mousecmr-data developers"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 88
maximum_signature_line_length = 88
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = "$ "
linkcheck_anchors = False

html_theme = "pydata_sphinx_theme"
html_title = f"mousecmr-data {version}"
html_static_path = ["_static", "images/heart.webp", "images/heart.png"]
html_css_files = ["site.css"]
html_show_sourcelink = html_copy_source = False
html_sidebars = {page: [] for page in ("index", "dataset", "gallery", "glossary", "changelog")}
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "logo": {"text": "mousecmr-data", "image_light": "_static/favicon.svg", "image_dark": "_static/favicon.svg"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["version", "theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "use_edit_page_button": True,
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "collapse_navigation": True,  # its buttons that open a level have no name that a screen reader could read
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": {"**": ["page-toc", "edit-this-page"], "index": []},
}
html_context = {"default_mode": "auto"}


def set_edit_link(_app: object, page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Lead "Edit this page" to the file that the page is made from; the theme wants its own variable to be named."""
    context["edit_page_url_template"] = f"{REPOSITORY}/edit/main/{EDITED.get(page, '')}{{# file_name #}}"
    context["theme_use_edit_page_button"] = page in EDITED


def mend_body(_app: object, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Replace what screen readers stumble over: lists of parameters without terms, headers of columns without text.

    Pictures lead to themselves in full size; long names, below the page, break after a point or a line.
    """
    for side in ("prev", "next"):
        if neighbour := context.get(side):
            context[f"{side}_title"] = re.sub(r"([._])(?=\w)", r"\1<wbr>", neighbour["title"])
    body = context.get("body", "")
    body = PICTURE.sub(r'<a href="\2">\1</a>', body)
    body = re.sub(r'<dl>\n((?:<dd><em class="sig-param.*\n)+)</dl>', format_parameters, body)
    context["body"] = re.sub(r'<th(?: class="head")?>(<p>\s*</p>)?</th>', "<td></td>", body)


def format_parameters(match: re.Match[str]) -> str:
    """Return the lines of a signature, one parameter each."""
    return match[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")


def setup(app: Any) -> None:
    app.connect("html-page-context", set_edit_link)
    app.connect("html-page-context", mend_body)
