"""The first table of the benchmark: four networks on the phantom. Which is most robust, which needs the fewest mice?

    python benchmarks/first_table.py -o FOLDER [--protocols robust few] [--leaderboard DIR] [--trial] [--json FILE]

All networks learn the same number of steps with the same augmentation: 400 by the protocol `robust`, 600 by `few` (of
`few`, the first draw of each number of mice), with one seed, on the small phantom. Sized for less than three hours on
two cores; a run that was stopped goes on with the same command. SYNTHETIC mice: the table says nothing about real ones.
--trial: a few steps and mice, to see that everything runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from record import make_parser, write_record

from mousecmr_data._utils.text import SYNTHETIC_DATA
from mousecmr_data.evaluation.benchmark import run_benchmark
from mousecmr_data.evaluation.leaderboard import read_step_facts, submit
from mousecmr_data.evaluation.protocols import Protocol, read_protocol
from mousecmr_data.schema import SMALL_PHANTOM as SOURCE
from mousecmr_data.training.config import TrainConfig, update_config

MONAI = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet3plus-small": ("UNet3+ with 12 to 192 channels at half the resolution", {
        "channels": [12, 24, 48, 96, 192], "reduce": 2,
    }),
    "monai-unet": ("MONAI UNet with residual units", {
        "network": "monai.networks.nets:UNet",
        "network_args": {**MONAI, "channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 2},
    }),
    "monai-segresnet": ("MONAI SegResNet", {
        "network": "monai.networks.nets:SegResNet",
        "network_args": {**MONAI, "init_filters": 8},
    }),
    "monai-attentionunet": ("MONAI AttentionUnet", {
        "network": "monai.networks.nets:AttentionUnet",
        "network_args": {**MONAI, "channels": [12, 24, 48, 96], "strides": [2, 2, 2]},
    }),
}  # fmt: skip
COMMON: dict[str, Any] = {
    "augmentation": "randomised", "natural": 0.5, "batch_size": 8, "crop": 128, "cross_entropy": 0.5,
    "learning_rate": 2e-3, "patience": 99, "schedule": "one-cycle", "device": "cpu",
}  # fmt: skip
PROTOCOLS: dict[str, dict[str, int]] = {
    "robust": {"epochs": 2, "steps_per_epoch": 200},
    "few": {"epochs": 3, "steps_per_epoch": 200},
}
"""Length of the training."""
TRIAL = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2}


def select_parts(protocol: Protocol) -> Protocol:
    """Return a protocol with the first draw only, where it draws training mice several times."""
    return replace(
        protocol, parts=tuple(p for p in protocol.parts if "draw" not in p.name or p.name.endswith("draw-1"))
    )


def shorten(protocol: Protocol) -> Protocol:
    """Return a protocol with few mice, parts and conditions, for a trial."""
    parts = []
    for part in protocol.parts[:1]:
        conditions = [replace(c, mice=c.mice[:2]) for c in part.conditions[:2]]
        parts.append(replace(part, train=part.train[:2], validation=part.validation[:1], conditions=tuple(conditions)))
    return replace(protocol, parts=tuple(parts))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-o", "--folder", type=Path, required=True)
    parser.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--leaderboard", type=Path)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    numbers: dict[str, Any] = {"source": SOURCE, "note": SYNTHETIC_DATA, "trial": args.trial}
    for name in args.protocols:
        length = PROTOCOLS[name]
        protocol = select_parts(read_protocol(name))
        if args.trial:
            protocol = shorten(protocol)
        settings = {**COMMON, **length, **(TRIAL if args.trial else {})}
        methods = {m: update_config(TrainConfig(), {**settings, **own}) for m, (_, own) in NETWORKS.items()}
        folder = args.folder / name
        run_benchmark(protocol, methods, folder, source=SOURCE, seeds=range(1), cache=args.cache, workers=args.workers)
        tables = {path.stem: pd.read_csv(path) for path in sorted((folder / "tables").glob("*.csv"))}
        chosen = ("ranking", "tests", "cost", "by_condition", "by_part")
        numbers[name] = {k: t.to_dict("records") for k, t in tables.items() if k in chosen} | {
            "protocol": protocol.reference
        }
        if args.leaderboard and not args.trial and protocol == read_protocol(name):  # whole protocols only
            for m, (method, _) in NETWORKS.items():
                submit(
                    folder / m, f"{m}-{name}", protocol, SOURCE, args.leaderboard, method=method, licence="CC0-1.0",
                    about=read_step_facts(folder / m), cache=args.cache, workers=args.workers, overwrite=True,
                )  # fmt: skip
    write_record(args, numbers, "torch", "monai")


if __name__ == "__main__":
    main()
