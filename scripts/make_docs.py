"""Write the reference as HTML pages to site/: python scripts/make_docs.py"""

from __future__ import annotations

from pathlib import Path

import pdoc

import mousecmr_data


def main() -> None:
    for name in mousecmr_data.__all__:  # names are imported when first used; pdoc documents only imported ones
        getattr(mousecmr_data, name)
    pdoc.render.configure(docformat="numpy")
    pdoc.pdoc("mousecmr_data", output_directory=Path(__file__).parents[1] / "site")


if __name__ == "__main__":
    main()
