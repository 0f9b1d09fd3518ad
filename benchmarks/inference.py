"""Compare engines, which compute the same network in different ways, with plain PyTorch. All sides in one run.

    python benchmarks/inference.py [--weights PATH] [--frames 22] [--engines eager,exact,...] [--json FILE]

A cine of 9 slices and 22 frames (phantom Mouse6, its frames repeated as needed), one frame per batch. Each engine runs
in its own process, with all cores. They take turns, frame by frame, so that other work of the machine affects all of
them. The base, "eager", is plain PyTorch float32 in inference mode, in the faster of its two memory formats. Ratios
are those of medians, of the wall clock and of processor time; on a busy machine the second one is more reliable.

Without --weights, a network of the published width with random weights is used: good for times, not for the accuracy
check (gate). The gate uses phantom stacks at end-diastole and end-systole, and a real one if --stack names its file.
Engines whose package is missing are reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import make_parser, write_record

ENGINES = "eager (contiguous),eager (channels last),exact,compiled,onnx,openvino,openvino-int8"
ON_GPU = ",eager on cuda,cuda"
PRECISION = {"openvino": "bfloat16", "openvino-int8": "int8"}
SLICES = 9


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights")
    parser.add_argument("--frames", type=int, default=22)
    parser.add_argument("--engines", default=ENGINES)
    parser.add_argument("--stack", type=Path, help="a real mouse, for the gate")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        Worker(args.worker, args.weights, args.scratch, args.stack).serve()
        return
    with tempfile.TemporaryDirectory() as scratch:
        benchmark(args, Path(scratch))


class EngineProcess:
    """An engine in its own process, which answers requests line by line."""

    def __init__(self, name: str, args: argparse.Namespace, scratch: Path) -> None:
        command = [sys.executable, __file__, "--worker", name, "--scratch", str(scratch)]
        command += ["--weights", args.weights] if args.weights else []
        command += ["--stack", str(args.stack)] if args.stack else []
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(self, request: str) -> dict[str, Any]:
        """Return the answer to a request. Raises RuntimeError with the last line of the process's errors."""
        requests, answers, errors = (self.process.stdin, self.process.stdout, self.process.stderr)
        if requests is None or answers is None or errors is None:
            raise RuntimeError("the process has no pipes")
        try:
            requests.write(f"{request}\n")
            requests.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            lines = errors.read().strip().splitlines()
            raise RuntimeError(lines[-1][:150] if lines else "the process ended")
        return dict(json.loads(answer))

    def end(self) -> None:
        """End the process."""
        self.process.communicate("end\n")


class Worker:
    """The code that runs in the process of an engine."""

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
        """Measure the seconds from requesting the engine to the labels of the first frame."""
        frames = self._frames()
        start = time.perf_counter()
        self.engine = self._make_engine()
        self._label(frames[0])
        return {"seconds": time.perf_counter() - start}

    def frame(self) -> dict[str, Any]:
        """Measure one frame: seconds of the wall clock and of the processor."""
        frames = self._frames()
        self.index = (getattr(self, "index", -1) + 1) % len(frames)
        start, used = time.perf_counter(), time.process_time()
        self._label(frames[self.index])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {"wall": time.perf_counter() - start, "cpu": time.process_time() - used, "gib": peak}

    def gate(self) -> dict[str, Any]:
        """Write the logits of the gate's stacks, for the main process to compare."""
        import torch

        from mousecmr_data.inference.engines.auto import run_engine

        stacks = [
            torch.load(self.scratch / "stacks.pt"),
            *([real_stack(self.stack, self.network)] if self.stack else []),
        ]
        torch.save([torch.from_numpy(run_engine(self.engine, s)) for s in stacks], self.scratch / f"{self.name}.pt")
        return {}

    def peak(self) -> dict[str, Any]:
        """Measure GFLOP/s of a matrix product of 2048 × 2048, in three precisions."""
        torch = self.torch
        a, b = torch.randn(2, 2048, 2048)
        i, k = torch.randint(-127, 127, (2, 2048, 2048), dtype=torch.int8)
        low = (a.bfloat16(), b.bfloat16())
        products = {"float32": lambda: a @ b, "bfloat16": lambda: low[0] @ low[1], "int8": lambda: torch._int_mm(i, k)}
        rates = {}
        for name, product in products.items():
            start, used = time.perf_counter(), time.process_time()
            product()
            spent = {"wall": time.perf_counter() - start, "cpu": time.process_time() - used}
            rates[name] = {clock: 2 * 2048**3 / s / 1e9 for clock, s in spent.items()}
        return rates

    def arithmetic(self) -> dict[str, Any]:
        """Count the GFLOP of a slice: as published, and restructured."""
        from torch.utils.flop_counter import FlopCounterMode

        from mousecmr_data.inference.engines.pytorch import FusedNetwork

        x = self.torch.zeros(1, self.network.n_inputs, 256, 256)
        counts = {}
        self.network.deep_supervision = self.network.low_resolution = False
        for name, module in (("published", self.network), ("restructured", FusedNetwork(self.network, (256, 256)))):
            with self.torch.no_grad(), FlopCounterMode(display=False) as counter:
                module(x)
            counts[name] = counter.get_total_flops() / 1e9
        return counts

    def _label(self, images: Any) -> None:
        from mousecmr_data.inference.grid import argmax_labels, to_numpy

        to_numpy(argmax_labels(self.engine(images)))

    def _frames(self) -> Any:
        return self.torch.load(self.scratch / "frames.pt")

    def _make_engine(self) -> Any:
        from mousecmr_data.inference.engines import make_engine

        if not self.name.startswith("eager"):
            return make_engine(self.name, self.network, "cpu", self.cache)
        engine = make_engine("eager", self.network, "cuda" if "cuda" in self.name else "cpu")
        if "contiguous" in self.name:
            self.network.to(memory_format=self.torch.contiguous_format)
            return self.torch.inference_mode()(lambda x: self.network(x.to(self.network_device()))[-1])
        return engine

    def network_device(self) -> Any:
        """Return the device of the network."""
        return next(self.network.parameters()).device


def network(weights: str | None) -> Any:
    """Return the network of a weights file or name; for None, one of the published width with random weights."""
    import torch

    from mousecmr_data.inference.predictor import load_model
    from mousecmr_data.models.unet3plus import UNet3Plus

    if weights:
        return load_model(weights, device="cpu", engine="eager").network
    torch.manual_seed(0)
    return UNet3Plus().eval()


def real_stack(path: Path, network: Any) -> Any:
    """Return the first frame of a mouse in the shape of the gate's stacks: (1, slice, inputs, Y, X)."""
    import numpy as np
    import torch

    import mousecmr_data
    from mousecmr_data.inference.grid import list_neighbours, normalize

    image = mousecmr_data.open_mouse(str(path))["image"].transpose("frame", "slice", "y", "x").values[:1]
    stack = normalize(torch.from_numpy(image.astype(np.float32)), network.scaling)
    return stack[:, list_neighbours(stack.shape[1], network.context)]


def prepare(scratch: Path, frames: int, network: Any) -> None:
    """Write the cine and the gate's stacks as files."""
    import torch

    from mousecmr_data.inference.engines.auto import GATE_MOUSE, make_gate_stacks
    from mousecmr_data.inference.grid import list_neighbours, normalize
    from mousecmr_data.phantom import make_plans, render

    image = torch.from_numpy(render(make_plans("phantom")[GATE_MOUSE]).image.astype("float32"))
    cine = normalize(image[[k % len(image) for k in range(frames)], :SLICES], network.scaling)
    torch.save(cine[:, list_neighbours(cine.shape[1], network.context)], scratch / "frames.pt")
    torch.save(torch.from_numpy(make_gate_stacks(network)), scratch / "stacks.pt")


def benchmark(args: argparse.Namespace, scratch: Path) -> None:
    """Measure all engines and write the results."""
    import torch

    from mousecmr_data.inference.engines.auto import GATE_LIMITS, compare_logits

    names = args.engines.split(",")
    if torch.cuda.is_available() and args.engines == ENGINES:
        names += ON_GPU.strip(",").split(",")
    prepare(scratch, args.frames, network(args.weights))
    sides, first = start(names, args, scratch)
    reference_process = EngineProcess("peak", args, scratch)
    arithmetic = reference_process.ask("arithmetic")
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    peaks = []
    for _ in range(args.frames):
        peaks.append(reference_process.ask("peak"))
        for name, side in sides.items():
            times[name].append(side.ask("frame"))
    for side in sides.values():
        side.ask("gate")
    for side in [*sides.values(), reference_process]:
        side.end()
    results = summarize(times, peaks, arithmetic, first)
    reference = torch.load(scratch / f"{next(n for n in sides if n.startswith('eager'))}.pt")
    for name in sides:
        if name.startswith("eager") and "cuda" not in name:
            continue
        logits, limits = torch.load(scratch / f"{name}.pt"), GATE_LIMITS[name.split()[0]]
        for ours, theirs in zip(logits, reference, strict=True):
            a = compare_logits(ours, theirs)  # phantom stacks, then the real one
            results[name].setdefault("gate", []).append({**vars(a), "within": a.passes(limits)})
    speeds = {k: statistics.median(p[k]["cpu"] for p in peaks) for k in peaks[0]}
    numbers: dict[str, Any] = {"weights": args.weights or "random"}
    if args.weights:
        from mousecmr_data.inference.predictor import load_model

        numbers["sha256"] = load_model(args.weights, device="cpu", engine="eager").origin.sha256
    numbers |= {"engines": results, "GFLOP": arithmetic, "GFLOP/s": speeds}
    write_record(args, numbers, "torch", "onnxruntime", "openvino")


def start(
    names: list[str], args: argparse.Namespace, scratch: Path
) -> tuple[dict[str, EngineProcess], dict[str, list[float]]]:
    """Start a process per engine; measure the seconds to its first result, with an empty and with a warm cache."""
    sides, first = {}, {}
    for name in names:
        try:
            seconds = []
            for _ in range(2):
                side = EngineProcess(name, args, scratch)
                seconds.append(side.ask("first")["seconds"])
                if len(seconds) == 1:
                    side.end()
            sides[name], first[name] = side, seconds
        except RuntimeError as e:
            print(f"{name} not measured: {e}", file=sys.stderr)
    return sides, first


def summarize(times: Any, peaks: Any, arithmetic: Any, first: Any) -> dict[str, dict[str, Any]]:
    """Return medians, ratios to the faster eager on the processor, and shares of the matrix product's speed."""

    def median(name: str, clock: str) -> float:
        return statistics.median(t[clock] for t in times[name]) / SLICES

    bases = [n for n in times if n.startswith("eager") and "cuda" not in n]
    results = {}
    for name in times:
        precision = PRECISION.get(name, "float32")
        gflop = arithmetic["published" if name.startswith("eager") else "restructured"]
        row = {"first_cold_s": first[name][0], "first_warm_s": first[name][1], "gib": times[name][-1]["gib"]}
        for clock in ("wall", "cpu"):
            seconds = median(name, clock)
            row[f"{clock}_ms"] = 1000 * seconds
            row[f"{clock}_ratio"] = min(median(b, clock) for b in bases) / seconds if bases else float("nan")
            row[f"{clock}_share"] = gflop / seconds / statistics.median(p[precision][clock] for p in peaks)
        results[name] = row
    return results


if __name__ == "__main__":
    main()
