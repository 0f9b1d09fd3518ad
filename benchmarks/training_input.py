"""Time the batches that training gets, an old checkout against this one, in turn in one run.

    python benchmarks/training_input.py --old CHECKOUT [--kinds paper,notebook] [--batches 6] [--rounds 5] [--json FILE]

Batches of 16 whole slices of invented mice, augmented on the processor. Each side is a process of its own, with one
thread a worker; they take turns, some batches each. "cpu" is samples a second of processor time, which the load of the
machine disturbs less; "wall" is samples a second. "ratio" is new / old, round by round. "two workers" are samples a
second of this checkout with two threads that make batches, by wall time, and their ratio to one thread; "cores" is how
many cores the two had (processor time / wall time): where other work leaves them less than two, the ratio of wall times
says nothing, and "cpu ratio", processor time a sample with one thread / with two, says what the second thread costs.
``CHECKOUT`` is a folder with the package of another commit (``git worktree add CHECKOUT COMMIT``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import make_parser, summarize, write_record

ROOT = Path(__file__).parents[1]
SIDES = ("old", "new", "two")
MICE = 2


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--kinds", default="paper,notebook")
    parser.add_argument("--batches", type=int, default=6, help="batches of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        serve(args.side, args.kinds.split(","), args.batches, args.cache)
        return
    with tempfile.TemporaryDirectory() as scratch:
        numbers = {kind: summarize_turns(turns) for kind, turns in take_turns(args, scratch).items()}
    commit = subprocess.run(["git", "-C", args.old, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    write_record(args, {"old commit": commit.stdout.strip() or "unknown", **numbers}, "torch", "monai", "numpy")


def take_turns(args: argparse.Namespace, scratch: str) -> dict[str, list[dict[str, dict[str, float]]]]:
    """Return, of each kind of augmentation and round, the seconds that each side took for a sample."""
    running = {}
    for side in SIDES:
        checkout = args.old.resolve() if side == "old" else ROOT
        words = [sys.executable, __file__, "--side", side, "--old", str(args.old), "--cache", scratch]
        words += ["--kinds", args.kinds, "--batches", str(args.batches)]
        paths = os.pathsep.join([str(checkout), str(ROOT / "benchmarks")])
        running[side] = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        read_answer(running[side])  # the next one starts when this one is ready
    turns: dict[str, list[dict[str, dict[str, float]]]] = {kind: [] for kind in args.kinds.split(",")}
    for k in range(args.rounds + 1):
        for kind, rounds in turns.items():
            answers = {}
            for side, process in list(running.items())[:: 1 if k % 2 else -1]:
                print(kind, file=process.stdin, flush=True)
                answers[side] = read_answer(process)
            rounds += [answers] if k else []  # the first warms up
    for process in running.values():
        process.communicate()
    return turns


def read_answer(process: Any) -> dict[str, float]:
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"A side ended with code {process.wait()}.")
    return dict(json.loads(line))


def summarize_turns(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        side: {clock: summarize([1.0 / r[side][clock] for r in rounds]) for clock in ("cpu", "wall")}
        for side in ("old", "new")
    }
    numbers["ratio"] = {c: summarize([r["old"][c] / r["new"][c] for r in rounds]) for c in ("cpu", "wall")}
    numbers["two workers"] = {
        "wall": summarize([1.0 / r["two"]["wall"] for r in rounds]),
        "ratio": summarize([r["new"]["wall"] / r["two"]["wall"] for r in rounds]),
        "cpu ratio": summarize([r["new"]["cpu"] / r["two"]["cpu"] for r in rounds]),
        "cores": summarize([r["two"]["cpu"] / r["two"]["wall"] for r in rounds]),
    }
    return numbers


def serve(side: str, kinds: list[str], batches: int, cache: Path) -> None:
    """For each line of input, a kind of augmentation, make batches; answer with the seconds a sample."""
    import torch

    from mousecmr_data.phantom import make_plans
    from mousecmr_data.training import data
    from mousecmr_data.training.config import TrainConfig

    torch.set_num_threads(1)
    plans = make_plans("phantom")
    slices = data.render_slices({m: plans[m] for m in ("Mouse1", "Mouse2")}, MICE, 0, cache=cache)
    workers = {"workers": 2} if side == "two" else {}
    configs = {kind: TrainConfig(augmentation=kind, **workers) for kind in kinds}  # type: ignore[arg-type]
    print(json.dumps({"ready": 1}), flush=True)
    for line in sys.stdin:
        config = configs[line.strip()]
        cpu, wall = time.process_time(), time.perf_counter()
        if side == "two":
            for _ in data.iterate_epoch(slices, config, 1, batches, [0]):
                pass
        else:
            for step in range(batches):
                data.make_batch(slices, config, 1, step)
        samples = batches * config.batch_size
        seconds = {"cpu": (time.process_time() - cpu) / samples, "wall": (time.perf_counter() - wall) / samples}
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
