"""A small protocol on the small phantom, and two networks that learn it in a second: ours and a stranger's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mousecmr_data.evaluation.protocols import PROTOCOLS_FOLDER, hash_protocol

SOURCE = "phantom-64"
MICE = {"train": ["Mouse1", "Mouse2"], "validation": ["Mouse5"], "test": ["Mouse6", "Mouse10", "Mouse12"]}
NOISE = {"name": "noise-5", "corruption": "noise", "severity": 5, "strength": 0.22}
TRAINING = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 2, "augmentation": "none", "device": "cpu"}
NETWORKS: dict[str, dict[str, Any]] = {
    "ours": {"channels": [4, 4, 4, 4, 4], "reduce": 4},
    "stranger": {"network": "strangers_network:Net", "network_args": {"width": 2}},
}


def write_protocol(folder: Path, name: str = "three") -> Path:
    """Write a protocol of two training, one validation and three test mice, as they are and with noise."""
    table = json.loads((PROTOCOLS_FOLDER / "internal.json").read_text(encoding="utf-8"))
    parts = [{"name": "all", "train": MICE["train"]}]
    rest = {"validation": MICE["validation"], "test": MICE["test"], "conditions": [{"name": "clean"}, NOISE]}
    table |= {"name": name, "parts": parts, **rest}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**table, "sha256": hash_protocol(table)}), encoding="utf-8")
    return path


def write_networks(folder: Path, **settings: Any) -> list[Path]:
    """Write the configurations of two networks."""
    paths = []
    for name, network in NETWORKS.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps({**TRAINING, **network, **settings}), encoding="utf-8")
    return paths
