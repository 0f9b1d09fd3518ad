"""Engines: the same network computed in several ways, against plain PyTorch. All sides in one run.

    python benchmarks/inference.py [--weights PATH] [--frames 22] [--engines eager,exact,...] [--json FILE]

A cine of 9 slices and 22 frames (phantom Mouse6, its frames repeated as needed), a frame a batch. Each engine has a
process of its own, with all cores; they take turns, frame by frame, so that what else the machine does meets all of
them. The base, "eager", is plain PyTorch float32 in inference mode, in the faster of its two memory formats. Ratios
are of medians, of the wall clock and of processor time; on a busy machine the second one is the one to look at.

Without --weights, a network of the published width with random weights: good for times, not for the gate. The gate's
figures are of phantom stacks at end-diastole and end-systole, and of a real one if --stack names its file.
Engines whose package is missing are said to be so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ENGINES = "eager (contiguous),eager (channels last),exact,compiled,onnx,openvino,openvino-int8"
ON_GPU = ",eager on cuda,cuda"
PRECISION = {"openvino": "bfloat16", "openvino-int8": "int8"}
SLICES = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--frames", type=int, default=22)
    parser.add_argument("--engines", default=ENGINES)
    parser.add_argument("--stack", type=Path, help="a real mouse, for the gate")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        Worker(args.worker, args.weights, args.scratch, args.stack).serve()
        return
    with tempfile.TemporaryDirectory() as scratch:
        benchmark(args, Path(scratch))


class Side:
    """An engine in a process of its own, told line by line what to do."""

    def __init__(self, name: str, args: argparse.Namespace, scratch: Path) -> None:
        command = [sys.executable, __file__, "--worker", name, "--scratch", str(scratch)]
        command += ["--weights", args.weights] if args.weights else []
        command += ["--stack", str(args.stack)] if args.stack else []
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(self, what: str) -> dict[str, Any]:
        """The answer to a request; raises RuntimeError with the last line of what went wrong."""
        to, answers, complaints = (self.process.stdin, self.process.stdout, self.process.stderr)
        if to is None or answers is None or complaints is None:
            raise RuntimeError("it has no pipes")
        try:
            to.write(f"{what}\n")
            to.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            lines = complaints.read().strip().splitlines()
            raise RuntimeError(lines[-1][:150] if lines else "it ended")
        return dict(json.loads(answer))

    def end(self) -> None:
        """End the process."""
        self.process.communicate("end\n")


class Worker:
    """What runs in an engine's process."""

    def __init__(self, name: str, weights: str | None, scratch: Path, stack: Path | None) -> None:
        import torch

        self.name, self.scratch, self.stack = name, scratch, stack
        self.network = network(weights)
        self.cache = scratch / "cache" / name.replace(" ", "-")
        self.torch: Any = torch
        self.engine: Any = None

    def serve(self) -> None:
        """Answer requests until "end"."""
        answers = sys.stdout
        sys.stdout = sys.stderr
        for line in sys.stdin:
            if line.strip() == "end":
                return
            print(json.dumps(getattr(self, line.strip())()), file=answers, flush=True)

    def first(self) -> dict[str, Any]:
        """Seconds from asking for the engine to the first frame's labels."""
        frames = self._frames()
        start = time.perf_counter()
        self.engine = self._made()
        self.engine(frames[0]).argmax(1).cpu()
        return {"seconds": time.perf_counter() - start}

    def frame(self) -> dict[str, Any]:
        """A frame: seconds of the wall clock and of the processor."""
        frames = self._frames()
        self.at = (getattr(self, "at", -1) + 1) % len(frames)
        start, used = time.perf_counter(), time.process_time()
        self.engine(frames[self.at]).argmax(1).cpu()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {"wall": time.perf_counter() - start, "cpu": time.process_time() - used, "gib": peak}

    def gate(self) -> dict[str, Any]:
        """Write the logits of the gate's stacks, for the other process to compare."""
        import torch

        from mousecmr_data.inference.engines.auto import run_engine

        stacks = [torch.load(self.scratch / "stacks.pt"), *([real_stack(self.stack)] if self.stack else [])]
        torch.save([run_engine(self.engine, s) for s in stacks], self.scratch / f"{self.name}.pt")
        return {}

    def peak(self) -> dict[str, Any]:
        """GFLOP/s of a matrix product of 2048 × 2048, in three precisions."""
        torch = self.torch
        a, b = torch.randn(2, 2048, 2048)
        i, k = torch.randint(-127, 127, (2, 2048, 2048), dtype=torch.int8)
        low = (a.bfloat16(), b.bfloat16())
        products = {"float32": lambda: a @ b, "bfloat16": lambda: low[0] @ low[1], "int8": lambda: torch._int_mm(i, k)}
        found = {}
        for name, product in products.items():
            start, used = time.perf_counter(), time.process_time()
            product()
            spent = {"wall": time.perf_counter() - start, "cpu": time.process_time() - used}
            found[name] = {clock: 2 * 2048**3 / s / 1e9 for clock, s in spent.items()}
        return found

    def arithmetic(self) -> dict[str, Any]:
        """GFLOP of a slice: as published, and restructured."""
        from torch.utils.flop_counter import FlopCounterMode

        from mousecmr_data.inference.engines.fused import FusedNetwork

        x = self.torch.zeros(1, 1, 256, 256)
        counts = {}
        self.network.deep_supervision = self.network.low_resolution = False
        for name, module in (("published", self.network), ("restructured", FusedNetwork(self.network, (256, 256)))):
            with self.torch.no_grad(), FlopCounterMode(display=False) as counter:
                module(x)
            counts[name] = counter.get_total_flops() / 1e9
        return counts

    def _frames(self) -> Any:
        return self.torch.load(self.scratch / "frames.pt")

    def _made(self) -> Any:
        from mousecmr_data.inference.engines import make_engine

        if not self.name.startswith("eager"):
            return make_engine(self.name, self.network, "cpu", self.cache)
        engine = make_engine("eager", self.network, "cuda" if "cuda" in self.name else "cpu")
        if "contiguous" in self.name:
            self.network.to(memory_format=self.torch.contiguous_format)
            return self.torch.inference_mode()(lambda x: self.network(x.to(self.network_device()))[-1])
        return engine

    def network_device(self) -> Any:
        """Where the network lies."""
        return next(self.network.parameters()).device


def network(weights: str | None) -> Any:
    """The network of a weights file or name; of the published width with random weights, for None."""
    import torch

    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.models.unet3plus import UNet3Plus

    if weights:
        return load_model(weights, device="cpu", engine="eager").network
    torch.manual_seed(0)
    return UNet3Plus().eval()


def real_stack(path: Path) -> Any:
    """The first frame of a mouse, as the gate takes it: (1, slice, 1, Y, X)."""
    import numpy as np
    import torch

    import mousecmr_data
    from mousecmr_data.inference.preprocessing import normalize_min_max

    image = mousecmr_data.open_mouse(str(path))["image"].transpose("frame", "slice", "y", "x").values[:1]
    return normalize_min_max(torch.from_numpy(image.astype(np.float32))[:, :, None])


def prepare(scratch: Path, frames: int) -> None:
    """The cine and the gate's stacks, as files."""
    import torch

    from mousecmr_data.inference.engines.auto import GATE_MOUSE, make_gate_stacks
    from mousecmr_data.inference.preprocessing import normalize_min_max
    from mousecmr_data.phantom import make_plans, render

    image = torch.from_numpy(render(make_plans("phantom")[GATE_MOUSE]).image.astype("float32"))
    cine = normalize_min_max(image[[k % len(image) for k in range(frames)], :SLICES][:, :, None])
    torch.save(cine, scratch / "frames.pt")
    torch.save(make_gate_stacks(), scratch / "stacks.pt")


def benchmark(args: argparse.Namespace, scratch: Path) -> None:
    """Measure and print."""
    import torch

    from mousecmr_data.inference.engines.auto import GATE_LIMITS, compare_logits
    from mousecmr_data.inference.engines.cache import describe_processor

    names = args.engines.split(",")
    if torch.cuda.is_available() and args.engines == ENGINES:
        names += ON_GPU.strip(",").split(",")
    prepare(scratch, args.frames)
    packages = ("torch", "onnxruntime", "openvino", "mousecmr-data")
    print(f"{describe_processor()}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    print(f"{', '.join(f'{p} {installed(p)}' for p in packages)}; weights: {args.weights or 'random'}")
    sides, first = start(names, args, scratch)
    ruler = Side("peak", args, scratch)
    arithmetic = ruler.ask("arithmetic")
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    peaks = []
    for _ in range(args.frames):
        peaks.append(ruler.ask("peak"))
        for name, side in sides.items():
            times[name].append(side.ask("frame"))
    for side in sides.values():
        side.ask("gate")
    for side in [*sides.values(), ruler]:
        side.end()
    found = summary(times, peaks, arithmetic, first)
    report(found, arithmetic, peaks, args.frames)
    reference = torch.load(scratch / f"{next(n for n in sides if n.startswith('eager'))}.pt")
    print("\nAgreement with eager: phantom stacks, then the real one")
    for name in sides:
        if name.startswith("eager") and "cuda" not in name:
            continue
        logits, limits = torch.load(scratch / f"{name}.pt"), GATE_LIMITS[name.split()[0]]
        for ours, theirs in zip(logits, reference, strict=True):
            a = compare_logits(ours, theirs)
            found[name].setdefault("gate", []).append({**vars(a), "within": a.passes(limits)})
            print(f"  {name:24} {'within' if a.passes(limits) else 'BEYOND'} its gate: {a}")
    if args.json:
        args.json.write_text(json.dumps({"engines": found, "arithmetic": arithmetic}, indent=1), encoding="utf-8")


def start(names: list[str], args: argparse.Namespace, scratch: Path) -> tuple[dict[str, Side], dict[str, list[float]]]:
    """Each engine's process, and its first result in seconds: with an empty cache, and in a second process."""
    sides, first = {}, {}
    for name in names:
        try:
            seconds = []
            for _ in range(2):
                side = Side(name, args, scratch)
                seconds.append(side.ask("first")["seconds"])
                if len(seconds) == 1:
                    side.end()
            sides[name], first[name] = side, seconds
        except RuntimeError as e:
            print(f"  {name}: not measured: {e}")
    return sides, first


def summary(times: Any, peaks: Any, arithmetic: Any, first: Any) -> dict[str, dict[str, Any]]:
    """Medians, ratios to the faster eager on the processor, and shares of the matrix product's speed."""

    def median(name: str, clock: str) -> float:
        return statistics.median(t[clock] for t in times[name]) / SLICES

    bases = [n for n in times if n.startswith("eager") and "cuda" not in n]
    found = {}
    for name in times:
        precision = PRECISION.get(name, "float32")
        done = arithmetic["published" if name.startswith("eager") else "restructured"]
        row = {"first_cold_s": first[name][0], "first_warm_s": first[name][1], "gib": times[name][-1]["gib"]}
        for clock in ("wall", "cpu"):
            here = median(name, clock)
            row[f"{clock}_ms"] = 1000 * here
            row[f"{clock}_ratio"] = min(median(b, clock) for b in bases) / here if bases else float("nan")
            row[f"{clock}_share"] = done / here / statistics.median(p[precision][clock] for p in peaks)
        found[name] = row
    return found


def report(found: dict[str, dict[str, Any]], arithmetic: Any, peaks: Any, frames: int) -> None:
    """Print the table."""
    speed = {k: statistics.median(p[k]["cpu"] for p in peaks) for k in peaks[0]}
    print(f"a slice: {', '.join(f'{k} {v:.1f} GFLOP' for k, v in arithmetic.items())}")
    print(f"matrix product, GFLOP/s a core: {', '.join(f'{k} {v:.0f}' for k, v in speed.items())}")
    print(f"\n{frames} frames of {SLICES} slices, in turn; medians for a slice")
    heads = ("ms", "× eager", "CPU ms", "× eager", "of peak")
    print(f"{'engine':24} {' '.join(f'{h:>8}' for h in heads)} {'GiB':>6} first cold, warm (s)")
    for name, r in found.items():
        print(
            f"{name:24} {r['wall_ms']:8.0f} {r['wall_ratio']:8.2f} {r['cpu_ms']:8.0f} {r['cpu_ratio']:8.2f} "
            f"{100 * r['cpu_share']:7.0f}% {r['gib']:6.2f} {r['first_cold_s']:10.1f} {r['first_warm_s']:6.2f}"
        )


def installed(package: str) -> str:
    """Version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
