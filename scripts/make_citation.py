"""Write CITATION.cff from the embedded manifest and the package's metadata, or with --check compare it.

python scripts/make_citation.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mousecmr_data.export.citation import make_cff
from mousecmr_data.schema.manifest import load_manifest

PATH = Path(__file__).parents[1] / "CITATION.cff"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    text = make_cff(load_manifest())
    if parser.parse_args().check:
        same = PATH.exists() and PATH.read_text(encoding="utf-8") == text
        print(f"{PATH.name}: {'up to date' if same else 'DIFFERS from the output of this script'}")
        return int(not same)
    PATH.write_text(text, encoding="utf-8")
    print(f"{PATH.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
