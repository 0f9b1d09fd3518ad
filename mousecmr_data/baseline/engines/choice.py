"""``engine="auto"``: the fastest engine that is present here and gives the reference's answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousecmr_data.baseline.engines import gate, kept, samples
from mousecmr_data.baseline.engines.engine import Engine
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus

ON_CPU = ("openvino", "exact")
"""In the order of speed. "openvino-int8" is faster still, but its gate is wider: it is taken by name only."""
ON_GPU = ("cuda", "exact")


class Auto:
    """Chooses when it is first used. Each candidate has to pass its gate on this machine with these weights.

    The verdict is kept in the cache, for these weights, versions and processor.
    """

    def __init__(
        self, network: UNet3Plus, device: str, cache: str | Path | None, make: Callable[[str], Engine]
    ) -> None:
        self.network, self.device, self.cache, self.make = network, select_device(device), cache, make
        self.verdicts: dict[str, str] = {}
        """What was found of each candidate, in words; filled by the choice."""

    @property
    def name(self) -> str:
        """The name of the engine that was chosen."""
        return self.chosen.name

    @cached_property
    def chosen(self) -> Engine:
        """The engine; choosing takes a while the first time."""
        return self._choose()

    def __call__(self, images: Tensor) -> Tensor:
        """Logits, by the engine that was chosen."""
        return self.chosen(images)

    def _choose(self) -> Engine:
        candidates = {"cpu": ON_CPU, "cuda": ON_GPU}.get(self.device.type, ("exact",))
        versions = {"torch": torch.__version__, "openvino": _version("openvino"), "onnx": _version("onnxruntime")}
        of = {
            "content": kept.content(self.network.state_dict()),
            "device": str(self.device),
            "limits": {k: vars(gate.LIMITS[k]) for k in candidates},
            "samples": samples.VERSION,
        }
        place = kept.place({**of, **versions}, "json", self.cache)
        if (known := _read(place)) is not None:
            self.verdicts = known["verdicts"]
            return self.make(known["chosen"])
        chosen = self._first_to_pass(candidates)
        kept.keep(place, json.dumps({"chosen": chosen.name, "verdicts": self.verdicts}).encode())
        return chosen

    def _first_to_pass(self, candidates: tuple[str, ...]) -> Engine:
        reference, expected = self.make("eager"), None
        for name in candidates:
            try:
                engine = self.make(name)
                found = gate.answers(engine, samples.stacks())
            except (MouseCMRError, RuntimeError) as e:  # not installed; or its library cannot do it on this machine
                self.verdicts[name] = f"not here: {next(iter(str(e).splitlines()), type(e).__name__)}"
                continue
            expected = gate.answers(reference, samples.stacks()) if expected is None else expected
            agreement = gate.compared(found, expected)
            passed = agreement.within(gate.LIMITS[name])
            self.verdicts[name] = f"{'passed' if passed else 'failed'} its gate: {agreement}"
            if passed:
                return engine
        return reference


def _read(place: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
        return {"chosen": str(known["chosen"]), "verdicts": dict(known["verdicts"])}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: found out anew
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
