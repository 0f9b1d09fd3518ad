"""Write CITATION.cff and .zenodo.json from the manifest and the package's metadata, or with --check compare them.

python scripts/make_citation.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mousecmr_data.export.citation import make_cff, make_zenodo
from mousecmr_data.schema.manifest import load_manifest

ROOT = Path(__file__).parents[1]
FILES = {"CITATION.cff": make_cff, ".zenodo.json": make_zenodo}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    check, differs = parser.parse_args().check, False
    for name, make in FILES.items():
        path, text = ROOT / name, make(load_manifest())
        same = path.exists() and path.read_text(encoding="utf-8") == text
        differs |= not same
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{name}: {'up to date' if same else 'DIFFERS from the output of this script' if check else 'written'}")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main())
