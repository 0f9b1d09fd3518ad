"""Write the generated files of the manifest, or with --check compare them.

    python scripts/make_manifests.py path/to/upstream_files.csv [--check]

files.csv   one row per mouse from the list of git blob SHA-1 (mouse,path,git_blob_sha1); SHA-256 and
            size, known only after a download (`mousecmr lock export`), are kept if present.
splits.toml the split "upstream-notebook" by its rule: the names sorted as strings, shuffled by
            NumPy's legacy generator with seed 42; first 90 train, next 15 validation, last 25 test.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

import numpy as np

from mousecmr_data.schema.manifest import FILES_CSV_COLUMNS

FOLDER = Path(__file__).parents[1] / "manifests" / "mousecmr-130"
SIZES = {"train": 90, "validation": 15, "test": 25}


def make_files_csv(upstream: Path, existing: Path) -> str:
    """Return the text of files.csv."""
    known: dict[str, dict[str, str]] = {}
    if existing.exists():
        with existing.open(newline="") as f:
            known = {row["git_blob_sha1"]: row for row in csv.DictReader(f)}
    out = io.StringIO()
    writer = csv.DictWriter(out, FILES_CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    with upstream.open(newline="") as f:
        for row in csv.DictReader(f):
            old = known.get(row["git_blob_sha1"], {})
            writer.writerow({**row, "sha256": old.get("sha256", ""), "size": old.get("size", "")})
    return out.getvalue()


def make_splits_toml(mice: list[str]) -> str:
    """Return the text of splits.toml."""
    names = sorted(mice)
    np.random.seed(42)  # noqa: NPY002 (the rule is the legacy generator's)
    np.random.shuffle(names)  # noqa: NPY002
    lines = [
        "# Written by scripts/make_manifests.py.",
        "",
        "[upstream-notebook]",
        'description = "Reproducible from the authors\' notebook: names sorted as strings, NumPy legacy seed 42."',
        'caveat = "Not the article\'s split. The published weights may have been trained on some of its test mice."',
        "labelled_images_2d = { train = 1858, validation = 280, test = 695 }",
    ]
    start = 0
    for split, size in SIZES.items():
        part = sorted(names[start : start + size], key=lambda m: int(m.removeprefix("Mouse")))
        start += size
        lines.append(f"{split} = [")
        lines += ["  " + " ".join(f'"{m}",' for m in part[i : i + 10]) for i in range(0, len(part), 10)]
        lines.append("]")
    lines += [
        "",
        "[paper]",
        'description = "The article\'s split: 90/15/25 mice, 224/30/50 stacks, 2087/286/460 labelled 2D images."',
        'caveat = "The lists are not published; only the counts are."',
        "labelled_images_2d = { train = 2087, validation = 286, test = 460 }",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("upstream", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    args = parser.parse_args()
    files = make_files_csv(args.upstream, FOLDER / "files.csv")
    mice = [row["mouse"] for row in csv.DictReader(io.StringIO(files))]
    texts = {"files.csv": files, "splits.toml": make_splits_toml(mice)}
    different = 0
    for name, text in texts.items():
        path = FOLDER / name
        if args.check:
            same = path.exists() and path.read_text() == text
            different += not same
            print(f"{name}: {'up to date' if same else 'DIFFERS from the output of this script'}")
        else:
            path.write_text(text)
            print(f"{name}: written")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
