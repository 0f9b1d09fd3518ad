"""Try the package in new environments and print a table: python scripts/try_environments.py [--write] PYTHON ...

For each PYTHON (a program, for example python3.13), each choice of extras (none, ``segment``, ``all``) and the lowest
and the newest versions that ``pyproject.toml`` allows: install, run ``mousecmr doctor``, run the tests of the core.
The lowest are those of the direct dependencies, as uv chooses them. PyTorch is always the version of
``constraints.txt``, whose CPU build is small. Results are kept in ``docs/environments.json``; ``--write`` puts the
table of all of them into ``docs/install.md``. Exit status 1 if a step failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "environments.json"
PAGE = ROOT / "docs" / "install.md"
MARK = "<!-- written by scripts/try_environments.py -->\n"
EXTRAS = {"core": "", "segment": "[segment]", "all": "[all]"}
VERSIONS = ("lowest", "newest")
CORE_TESTS = [f"tests/unit/{name}" for name in ("_utils", "dataset", "download", "phantom", "schema")]
TEST_TOOLS = ("hypothesis", "pytest", "pytest-socket")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--extras", choices=EXTRAS, action="append", help="only these (default: all three)")
    parser.add_argument("--versions", choices=VERSIONS, action="append", help="only these (default: both)")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    args = parser.parse_args()
    results: dict[str, dict[str, str]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    failed = False
    for python in args.pythons:
        for versions in args.versions or VERSIONS:
            for extras in args.extras or EXTRAS:
                result = try_environment(python, versions, extras)
                results[f"{result.pop('python')} {versions} {extras}"] = result
                failed |= "failed" in result.values()
                RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    table = make_table(results)
    print(table, end="")
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
        PAGE.write_text(before + MARK + table + MARK + rest.partition(MARK)[2], encoding="utf-8")
    sys.exit(failed)


def try_environment(python: str, versions: str, extras: str) -> dict[str, str]:
    """Return the outcome of each step in a new environment, and the versions of Python, numpy, xarray and zarr.

    Warnings are no errors here: old releases use what newer ones deprecate.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "venv"
        subprocess.run([python, "-m", "venv", environment], check=True)
        program = environment / "bin" / "python"
        constraints = Path(scratch) / "constraints.txt"
        choose_versions(program, versions, extras, constraints)
        release = run(program, "-c", "import platform; print(platform.python_version())")[1].strip()
        print(f"Python {release}, {versions}, {extras}", file=sys.stderr)
        steps: dict[str, list[object]] = {
            "install": ["-m", "pip", "install", "-q", "-c", constraints, f"{ROOT}{EXTRAS[extras]}", *TEST_TOOLS],
            "doctor": ["-m", "mousecmr_data.cli.main", "doctor", "--no-network"],
            "tests": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", *CORE_TESTS],
        }
        result = {"python": release}
        for name, arguments in steps.items():
            code, text = run(program, *arguments)
            result[name] = "failed" if code else re.findall(r"(\d+ passed)", text)[-1] if name == "tests" else "ok"
            if code:
                print(text[-3000:], file=sys.stderr)
                break
        for package in ("numpy", "xarray", "zarr"):
            code, text = run(program, "-c", f"import {package}; print({package}.__version__)")
            result[package] = "–" if code else text.strip()
    return result


def run(*command: object) -> tuple[int, str]:
    """Run a command in the checkout; return its exit status and output."""
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def choose_versions(program: Path, versions: str, extras: str, out: Path) -> None:
    """Write the constraints for pip: the lowest versions that fit together, or no more than PyTorch's."""
    if versions == "newest":
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        out.write_text("\n".join(line for line in lines if line.startswith("torch==")), encoding="utf-8")
        return
    extra = ["--extra", extras] * (extras != "core")
    options = ["-q", "--python", program, "--resolution", "lowest-direct", "-c", "constraints.txt", "-o", out]
    code, text = run(sys.executable, "-m", "uv", "pip", "compile", *options, *extra, "pyproject.toml")
    if code:
        raise SystemExit(f"uv (of the extra dev) found no versions that fit together:\n{text}")


def make_table(results: dict[str, dict[str, str]]) -> str:
    """Return the results as a table in Markdown; what was not tried is left out."""
    lines = ["| Python | versions | extras | install | `doctor` | core tests | numpy, xarray, zarr |", "|---" * 7 + "|"]
    for key in sorted(results, key=lambda k: ([int(n) for n in k.split()[0].split(".")], k)):
        python, versions, extras = key.split()
        r = results[key]
        steps = (r.get(step, "–") for step in ("install", "doctor", "tests"))
        cells = (python, versions, extras, *steps, f"{r['numpy']}, {r['xarray']}, {r['zarr']}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
