"""Write manifests/protocols/*.json, the protocols of the benchmark: python scripts/make_protocols.py [--check]"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

import numpy as np

import mousecmr_data
from mousecmr_data.evaluation.protocols import CHECKSUM, PROTOCOLS_FOLDER, hash_protocol
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema import DEFAULT_DATASET, EXTERNAL_PHANTOMS, PHANTOM, SMALL_PHANTOM
from mousecmr_data.schema.manifest import load_manifest

MEASURES = ["edv_ul", "esv_ul", "ef_percent", "mass_ed_mg", "mass_es_mg"]
COMMON: dict[str, Any] = {
    "version": 1,
    "sources": [DEFAULT_DATASET, PHANTOM, SMALL_PHANTOM],
    "phases": ["ED", "ES"],
    "metrics": ["dice", "hd95_mm", "assd_mm", *MEASURES],
    "unlabelled": "none",
    "besides": "Other data and pretrained weights, if the card names them and no mouse of the benchmark is among them.",
    "seed": 2026,
    "conditions": [{"name": "clean"}],
}
STRENGTHS: dict[str, list[float]] = {
    "noise": [0.03, 0.06, 0.10, 0.15, 0.22],
    "ghosting": [0.10, 0.20, 0.30, 0.45, 0.60],
    "blur": [0.10, 0.15, 0.20, 0.30, 0.40],
    "bias-field": [0.30, 0.50, 0.75, 1.00, 1.40],
    "low-resolution": [0.25, 0.30, 0.40, 0.50, 0.65],
    "missing-slices": [1, 2, 3, 4, 5],
}
SIZES, DRAWS = (5, 10, 25, 80), 3


def make_protocols() -> dict[str, dict[str, Any]]:
    """Return the content of each file by the protocol's name."""
    splits = load_manifest().split_scheme("upstream-notebook").mice
    train, validation, test = (list(splits[k]) for k in ("train", "validation", "test"))
    published: dict[str, Any] = {"validation": validation, "test": test}
    all_mice: dict[str, Any] = {**published, "parts": [{"name": "all", "train": train}]}
    tables: dict[str, dict[str, Any]] = {
        "internal": {
            "title": "Train and test on the split of the authors' notebook",
            **all_mice,
        },
        "external": {
            "title": "Train at 9.4 T; test at 7 T and 11.7 T, without any mouse from there",
            **all_mice,
            # The article's external mice are not published: the phantoms stand in for them.
            "sources": [PHANTOM],
            "conditions": [
                {
                    "name": name.removeprefix(f"{PHANTOM}-"),
                    "source": name,
                    "mice": list(make_plans(name)),
                }
                for name in EXTERNAL_PHANTOMS
            ],
        },
        "few": {"title": "Train with 5, 10, 25 and 80 mice, three fixed draws of each", **published, "parts": []},
        "robust": {
            "title": "Test on images made worse in six ways at five severities, and on frames with inflow artefacts",
            **all_mice,
            "phases": ["ED", "ES", "inflow"],
            "conditions": [
                {"name": "clean"},
                *(
                    {"name": f"{kind}-{k}", "corruption": kind, "severity": k, "strength": strength}
                    for kind, strengths in STRENGTHS.items()
                    for k, strength in enumerate(strengths, start=1)
                ),
            ],
        },
        "half-supervised": {
            "title": "Train with the labelled frames, and all other frames of the training mice without labels",
            **all_mice,
            "unlabelled": "other frames",
        },
        "folds": {"title": "Five folds of all mice, stratified by the groups of the phantom", "parts": []},
    }
    for draw in range(1, DRAWS + 1):  # the mice of a small draw are in the larger ones
        order = np.random.default_rng([2026, draw]).permutation(len(train))
        tables["few"]["parts"] += [
            {"name": f"mice-{n:02}-draw-{draw}", "train": [train[k] for k in sorted(order[:n])]} for n in SIZES
        ]
    # The groups of the real mice are not published.
    for k, (rest, tested) in enumerate(mousecmr_data.load(source=PHANTOM).folds(5, stratify=True, seed=0), start=1):
        trained, stops = rest.folds(8, stratify=True, seed=k)[0]
        mice = {"train": list(trained), "validation": list(stops), "test": list(tested)}
        tables["folds"]["parts"].append({"name": f"fold-{k}", **mice})
    protocols = {}
    for name, table in tables.items():
        content = {"name": name, **COMMON, **table}
        protocols[name] = {**content, CHECKSUM: hash_protocol(content)}
    return protocols


def format_protocol(table: dict[str, Any]) -> str:
    """Return the JSON text of a protocol, each list of names in one paragraph."""
    text = json.dumps(table, indent=1, ensure_ascii=False)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda m: re.sub(r"\s+", " ", m[0]), text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    check = parser.parse_args().check
    differing = []
    PROTOCOLS_FOLDER.mkdir(exist_ok=True)
    for name, table in make_protocols().items():
        path, text = PROTOCOLS_FOLDER / f"{name}.json", format_protocol(table)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            differing.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{'differ' if check else 'written'}: {', '.join(differing) or 'none'}")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
