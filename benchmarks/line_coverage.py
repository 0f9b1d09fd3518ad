"""Which lines of the package the tests of some folders run: `make coverage` calls this.

Each folder is a run of pytest, with its subprocesses. A failing test ends with status 1, after the report. The lines
that no test runs are listed, and are red in the folder coverage/.

    python benchmarks/line_coverage.py FOLDER ... [--json FILE]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import coverage
from record import make_parser, write_record

ROOT = Path(__file__).parents[1]
PYTEST = ("-m", "pytest", "--numprocesses", "auto", "--dist", "loadfile", "--cov", "--cov-append", "--cov-report=")
COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    args = parser.parse_args()
    os.chdir(ROOT)
    Path(".coverage").unlink(missing_ok=True)
    failed = [f for f in args.folders if subprocess.run([sys.executable, *PYTEST, f]).returncode]
    data = coverage.Coverage()
    data.load()
    data.report()
    data.html_report(directory="coverage")
    data.json_report(outfile="coverage/coverage.json")
    parts: dict[str, dict[str, int]] = {}
    for name, file in json.loads(Path("coverage/coverage.json").read_text(encoding="utf-8"))["files"].items():
        for part in (Path(name).parts[1].removesuffix(".py"), "all"):
            total = parts.setdefault(part, dict.fromkeys(COUNTS, 0))
            parts[part] = {key: total[key] + file["summary"][key] for key in COUNTS}
    write_record(args, {"folders": args.folders, "failed": failed, "parts": parts}, "coverage", "pytest")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
