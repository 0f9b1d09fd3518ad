"""Segmentation networks of any origin: built from the name of their class, and called in one way.

A weights file names the class of its network and the arguments to make it again. Code is imported for that only if it
belongs to this package, to MONAI or to an installed entry point; every other network has to be named by the caller.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from mousecmr_data._utils.environment import require_extra
from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.models.structure import UNET3PLUS as UNET3PLUS
from mousecmr_data.schema.labels import Label

require_extra("torch")
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

ENTRY_POINTS = "mousecmr_data.networks"
"""The group of entry points by which a package offers networks: ``name = "package.module:Class"``."""
TRUSTED_MODULES = ("mousecmr_data.models", "monai.networks.nets")
"""Modules that may be imported because a weights file says so."""
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Multiples that image sizes may have to be, in the order in which they are tried."""
LARGEST_SIZE = 256
"""Tried last: a network for images of one size (a transformer, say) then has that of the training grid."""

NetworkLike = str | nn.Module | Callable[..., nn.Module]
"""An import path "package.module:Class", the name of an entry point, a module, or a class or function that makes it."""


class SegmentationNetwork(nn.Module):
    """A network from slices (N, inputs, Y, X) in [0, 1] to a list of logits (N, classes, Y, X) float.

    The **last** output is the prediction; the others serve the loss. Subclasses are networks that accept ``context``
    and ``scaling`` as arguments; all others are wrapped (:class:`AdaptedNetwork`).
    """

    classes = len(Label)
    low_resolution = True
    """Whether the network may compute at lower resolution what is equal up to rounding; the reference does not."""

    def __init__(self, source: str, arguments: Mapping[str, Any] | None, context: int, scaling: str, step: int) -> None:
        super().__init__()
        self.source, self.arguments = source, arguments
        """Import path of the class, and the arguments (JSON values) that make it again; None if they are not known."""
        self.context, self.n_inputs, self.scaling = context, 1 + 2 * context, scaling
        """Neighbouring slices on each side that are further channels, the channels, and how grey values are scaled."""
        self.step = step
        """Y and X are padded to multiples of this, or must be."""
        self.deep_supervision = True
        """Whether the outputs for the loss are returned, too; it can be switched at any time."""

    @property
    def module(self) -> nn.Module:
        """The network itself, whose tensors a weights file holds."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return what a weights file says about its network."""
        table = {"network": self.source, "network_args": self.arguments, "classes": self.classes}
        return table | {"context": self.context, "scaling": self.scaling, "step": self.step}

    def predict_probabilities(self, x: Tensor) -> Tensor:
        """Return the softmax of the prediction: (N, classes, Y, X)."""
        return cast(Tensor, self(x)[-1]).softmax(1)


class AdaptedNetwork(SegmentationNetwork):
    """A network of another origin: images are padded with zeros to the size it needs, outputs cut to the image.

    ``step`` None: found by forward passes of small images. Raises :class:`ArgumentError` if the network does not take
    images of 1 + 2 · ``context`` channels or does not return logits of the three classes.
    """

    def __init__(
        self,
        inner: nn.Module,
        source: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        context: int = 0,
        scaling: str = "min-max",
        step: int | None = None,
    ) -> None:
        super().__init__(source, arguments, context, scaling, step or 1)
        self.inner = inner
        if step is None:
            self.step = self._find_step()

    @property
    def module(self) -> nn.Module:
        """The network without its wrapper."""
        return self.inner

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the logits, all of the image's size; smaller outputs are enlarged bilinearly."""
        rows, columns = _get_size(x)
        if rows % self.step or columns % self.step:
            x = F.pad(x, (0, -columns % self.step, 0, -rows % self.step))
        padded = _get_size(x)
        outputs = self._list_outputs(self.inner(x))
        if not self.deep_supervision:
            outputs = outputs[-1:]
        enlarge = partial(F.interpolate, size=padded, mode="bilinear", align_corners=False)
        outputs = [y if _get_size(y) == padded else enlarge(y) for y in outputs]
        return [y[..., :rows, :columns] for y in outputs] if padded != (rows, columns) else outputs

    def _list_outputs(self, outputs: Any) -> list[Tensor]:
        """Return the outputs with the prediction last: of the largest ones, the last of a list, the first of a stack.

        A stack (N, heads, classes, Y, X) is how MONAI's DynUNet returns its heads.
        """
        if isinstance(outputs, Tensor):
            outputs = outputs.unbind(1)[::-1] if outputs.ndim == 5 else [outputs]
        if not isinstance(outputs, list | tuple) or not all(isinstance(y, Tensor) for y in outputs) or not outputs:
            text = f"{self.source} returns {type(outputs).__name__}."
            raise ArgumentError(text, "logits (N, 3, Y, X), or a list of them")
        return sorted(outputs, key=lambda y: math.prod(_get_size(y)))

    @torch.no_grad()
    def _find_step(self) -> int:
        """Return the smallest of :data:`STEPS` whose odd multiples the network takes as size of an image."""
        was_training, device = self.inner.training, next((p.device for p in self.inner.parameters()), None)
        self.inner.eval()
        problem: ArgumentError | None = None
        for step in (*STEPS, LARGEST_SIZE):
            multiple = max(3, 96 // step) | 1
            sizes = (step * multiple, step * (multiple + 2)) if step < LARGEST_SIZE else (step, step)
            try:
                outputs = self._list_outputs(self.inner(torch.zeros(2, self.n_inputs, *sizes, device=device)))
                problem = self._find_problem(outputs[-1], sizes)
            except ArgumentError:
                raise
            except Exception as e:  # the code of others may raise anything
                text = (
                    f"{self.source} does not take images (2, {self.n_inputs}, {sizes[0]}, {sizes[1]}): {_get_line(e)}"
                )
                expected = f"{self.n_inputs} channels of input: 1, and 2 more for each slice of context"
                problem = ArgumentError(
                    text, expected, _suggest_arguments(type(self.inner), self.arguments, self.n_inputs)
                )
            if problem is None:
                self.inner.train(was_training)
                return step
        assert problem is not None  # noqa: S101 (for the type checker)
        raise problem

    def _find_problem(self, logits: Tensor, sizes: tuple[int, int]) -> ArgumentError | None:
        shape, (rows, columns) = tuple(logits.shape), sizes
        images = f"images (2, {self.n_inputs}, {rows}, {columns})"
        fits = (
            logits.ndim == 4 and rows % shape[2] == columns % shape[3] == 0 and rows // shape[2] == columns // shape[3]
        )
        if not fits or shape[:2] != (2, self.classes):
            text = f"{self.source} returns {shape} for {images}."
            expected = f"(2, {self.classes}, {rows}, {columns}): logits of background, LV myocardium and LV blood pool"
            return ArgumentError(text, expected, _suggest_arguments(type(self.inner), self.arguments, self.n_inputs))
        if torch.allclose(logits.float().sum(1), torch.ones(1, device=logits.device)) and bool((logits >= 0).all()):
            return ArgumentError(f"{self.source} returns probabilities.", "logits: leave out the softmax at its end")
        return None


def build_network(
    network: NetworkLike,
    arguments: Mapping[str, Any] | None = None,
    *,
    context: int = 0,
    scaling: str = "min-max",
    step: int | None = None,
) -> SegmentationNetwork:
    """Return a network, made with ``arguments`` if it is not a module already.

    ``context`` and ``scaling`` are those of its input (:class:`SegmentationNetwork`); ``step`` None is found by trial.
    Raises :class:`UnknownNameError` for a name that cannot be imported, :class:`ArgumentError` for arguments that the
    class does not accept or a network that does not segment slices.
    """
    source = get_source(network)
    if isinstance(network, nn.Module):
        module = network
    else:
        make = find_network(network) if isinstance(network, str) else network
        values = dict(arguments or {})
        if isinstance(make, type) and issubclass(make, SegmentationNetwork):
            values |= {"context": context, "scaling": scaling}
        try:
            module = make(**values)
        except ArgumentError:
            raise
        except Exception as e:  # the code of others may raise anything
            text = (
                f"{source} cannot be made with the arguments {json.dumps(arguments or {}, default=str)}: {_get_line(e)}"
            )
            expected = f"the arguments {inspect.signature(make)}"
            raise ArgumentError(text, expected, _suggest_arguments(make, arguments, 1 + 2 * context)) from e
        arguments = arguments or {}
    if isinstance(module, SegmentationNetwork):
        return module
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"{source} makes {type(module).__name__}.", "a torch.nn.Module")
    return AdaptedNetwork(module, source, arguments, context=context, scaling=scaling, step=step)


def get_source(network: NetworkLike) -> str:
    """Return the import path "package.module:Class" of a network."""
    if isinstance(network, str):
        return next((e.value for e in entry_points(group=ENTRY_POINTS, name=network)), network)
    named = type(network) if isinstance(network, nn.Module) else network
    return f"{named.__module__}:{getattr(named, '__qualname__', type(named).__qualname__)}"


def find_network(name: str) -> Callable[..., nn.Module]:
    """Import and return the class or function "package.module:Class", or that of an entry point."""
    path, colon, attribute = get_source(name).partition(":")
    if not colon:
        installed = sorted(e.name for e in entry_points(group=ENTRY_POINTS))
        expected = "package.module:Class, such as monai.networks.nets:DynUNet"
        expected += f"; or one of {', '.join(map(repr, installed))}" if installed else ""
        close = get_close_matches(name, installed, 1) or [":".join(name.rsplit(".", 1))] * ("." in name)
        raise UnknownNameError(f"There is no network {name!r}.", expected, f"--network {close[0]}" if close else None)
    try:
        module = import_module(path)
    except Exception as e:  # the code of others may raise anything
        is_here = Path(*path.split(".")).with_suffix(".py").is_file()
        folder = "PYTHONPATH=. before the command" if is_here else "PYTHONPATH to its folder, or pip install it"
        text = f"The module {path!r} cannot be imported: {_get_line(e)}"
        raise UnknownNameError(text, "a module that this Python can import", f"set {folder}") from e
    found: Any = module
    for part in attribute.split("."):
        names = [k for k, v in vars(found).items() if isinstance(v, type) and issubclass(v, nn.Module)]
        names += [k for k, v in vars(found).items() if inspect.isfunction(v) and v.__module__ == path]
        found = getattr(found, part, None)
        if found is None:
            close = get_close_matches(part, names, 1, 0.3)
            text = f"The module {path!r} has no {attribute!r}."
            raise UnknownNameError(
                text, f"one of {', '.join(names[:20])}", f"--network {path}:{close[0]}" if close else None
            )
    if not callable(found):
        raise ArgumentError(f"{name} is {type(found).__name__}.", "a class or a function that makes a torch.nn.Module")
    return cast(Callable[..., nn.Module], found)


def is_trusted(source: str, arguments: Mapping[str, Any] | None = None) -> bool:
    """Return whether a weights file may have ``source`` imported and called with ``arguments``.

    These are networks of this package, of ``monai.networks.nets`` (unless they are to fetch weights) and of installed
    entry points.
    """
    if source in {e.value for e in entry_points(group=ENTRY_POINTS)}:
        return True
    module, _, name = source.partition(":")
    fetches = any(str(key).startswith("pretrained") and value for key, value in (arguments or {}).items())
    if fetches or not name.isidentifier() or not any(f"{module}.".startswith(f"{m}.") for m in TRUSTED_MODULES):
        return False
    found: Any = find_network(source)
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(TRUSTED_MODULES)


def check_trusted(source: str, arguments: Mapping[str, Any] | None, path: Path) -> None:
    """Raise :class:`ArgumentError` if the weights file ``path`` may not have ``source`` imported."""
    if is_trusted(source, arguments):
        return
    python = f"mousecmr_data.load_model({str(path)!r}, network=...)"
    importable = not source.startswith("__main__") and "<" not in source
    raise ArgumentError(
        f"{path} is for the network {source}. Code is not imported because a file says so.",
        "the network's name from you, if you trust its code",
        f"--network {source}, or in Python {python}" if importable else f"{python}, with the class or the module",
    )


def _get_size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[-2]), int(x.shape[-1])


def _suggest_arguments(make: Callable[..., Any], arguments: Mapping[str, Any] | None, n_inputs: int) -> str | None:
    """Return the option with right values for the arguments that networks of MONAI share; None if there are none."""
    usual = {"spatial_dims": 2, "in_channels": n_inputs, "out_channels": len(Label)}
    parameters = inspect.signature(make).parameters
    if not usual.keys() & parameters.keys():
        return None
    needed = {name: "..." for name, p in parameters.items() if p.default is p.empty}
    right = {name: value for name, value in usual.items() if name in parameters}
    return f"--network-args '{json.dumps({**needed, **(arguments or {}), **right})}'"


def _get_line(error: Exception) -> str:
    """Return the first line of an error of other code."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".removesuffix(": ")
