"""Load networks with their weights by name, apply them to whole mice, and score the results.

``phantom-small`` ships with the package. The entries of a manifest (the authors' network) are fetched,
verified, read from Keras HDF5 and kept in the cache as safetensors. Weights that ``mousecmr tune`` made are in the
cache under a name of the user's own. A path to a file works too. Weights that are not available are an error; they are
never substituted by others.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.checksums import compute_sha256, report_damage
from mousecmr_data._utils.environment import require_extra
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.download.cache import get_own_weights_folder, get_weights_folder
from mousecmr_data.download.fetch import fetch_weights
from mousecmr_data.errors import (
    ArgumentError,
    ChecksumError,
    DownloadError,
    FileLayoutError,
    MissingDataError,
    MouseCMRError,
    UnknownNameError,
)
from mousecmr_data.inference.engines import PYTORCH_ENGINES, Engine, Network, make_engine
from mousecmr_data.inference.engines.auto import GATE_LIMITS, find_gate_failure
from mousecmr_data.inference.engines.base import get_arrays
from mousecmr_data.inference.grid import (
    SCALINGS,
    AnyArray,
    argmax_labels,
    compute_softmax,
    estimate_dice,
    list_neighbours,
    make_training_grid,
    normalize,
    to_numpy,
)
from mousecmr_data.inference.roi import RegionMode, RoiPredictor
from mousecmr_data.metrics.overlap import SCORE_COLUMNS, score_frames
from mousecmr_data.metrics.postprocessing import PostprocessingRule, StackRule, postprocess, postprocess_cine
from mousecmr_data.models.keras import read_keras_arrays
from mousecmr_data.models.safetensors import hash_tensors, read_arrays, read_header, read_weights, write_weights
from mousecmr_data.models.structure import UNET3PLUS, UNet3PlusArrays
from mousecmr_data.schema import SMALL_WEIGHTS
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.manifest import Manifest, Weights, load_manifest
from mousecmr_data.schema.variables import DIMS, EXPECTED_DICE, HDF5_SUFFIXES, IMAGE, PREDICTED, UNPROCESSED

if TYPE_CHECKING:
    from mousecmr_data.models.network import NetworkLike, SegmentationNetwork

SHIPPED_FOLDER = Path(__file__).parent / "weights"
KERAS_SUFFIXES = (*HDF5_SUFFIXES, ".keras")


@dataclass(frozen=True)
class WeightsInfo:
    """Where a predictor's weights come from; stored with every result."""

    name: str
    trained_on: str
    limits: str
    synthetic_training: bool
    """Trained on synthetic mice only."""
    sha256: str = ""
    """Of the weights file."""
    synthetic_ancestry: bool = False
    """Training began with weights that were trained on synthetic mice, or whose own training began so; or such weights
    were the teacher."""
    licence: str = "not stated"
    """Of the weights; of those that learned from a teacher, the teacher's."""


class Predictor:
    """A network, the engine that computes it, and the origin of its weights; made by :func:`load_model`."""

    def __init__(
        self, network: Network, origin: WeightsInfo, device: str = "auto", *, engine: str | Engine = "eager"
    ) -> None:
        self.source, self.origin = network, origin
        """The network as it was loaded: UNet3+ as arrays, or a module of PyTorch."""
        self.engine = make_engine(engine, network, device) if isinstance(engine, str) else engine
        """Images (N, inputs, Y, X) to logits (N, classes, Y, X): :class:`mousecmr_data.inference.engines.Engine`."""
        self._region: RoiPredictor | None = None

    @cached_property
    def network(self) -> SegmentationNetwork:
        """The network as PyTorch's module; engines that do not compute in PyTorch do not use it."""
        from mousecmr_data.inference.engines.pytorch import get_module

        return get_module(self.source)

    def segment(
        self,
        ds: xr.Dataset,
        *,
        postprocessing: PostprocessingRule = "paper",
        region: RegionMode = "full",
        batch_size: int = 16,
        progress: Callable[[int], None] | None = None,
        unprocessed: bool = False,
    ) -> xr.Dataset:
        """Return ``ds`` with the variable ``predicted`` (frame, slice, y, x) uint8: labels of every frame.

        ``ds`` is a dataset of the cine model; images are read a few frames at a time, resampled to 0.1 mm by
        the dataset's own spacing, scaled slice by slice as the weights' card says, and the probabilities resampled to
        the native pixels. ``region="auto"`` computes most frames only in a window around the heart, if that is
        safe (see docs/predicting.md); the attributes of ``predicted`` state what was done. ``progress`` is called
        with the number of 2D slices done. ``unprocessed`` adds the labels before post-processing, as
        ``predicted_unprocessed`` (with a window they are background outside it), and ``expected_dice`` (frame, slice),
        the network's own estimate of the Dice of each slice. Raises
        :class:`~mousecmr_data.errors.UnitsError` if the spacing is not known.
        """
        if IMAGE not in ds or set(ds[IMAGE].dims) != set(DIMS):
            raise FileLayoutError(f"There is no variable {IMAGE!r} of {DIMS}.", "a dataset of the cine model")
        if region not in get_args(RegionMode):
            raise ArgumentError(f"There is no region {region!r}.", " or ".join(map(repr, get_args(RegionMode))))
        images = ds[IMAGE].transpose(*DIMS)
        n_frames, n_slices, *_ = images.shape
        voxel = get_spacing(ds) if images.size else (1.0, 0.1, 0.1)
        spacing = voxel[1:]
        stack_rule: StackRule = "paper" if postprocessing == "slice-range" else postprocessing
        rule = partial(postprocess, rule=stack_rule)
        region_attrs: dict[str, Any] = {}
        expected = np.ones(images.shape[:2], np.float32)
        labels = None if images.size else np.zeros(images.shape, np.uint8)
        if region == "auto" and images.size:
            self._region = self._region or RoiPredictor(self.source, self.engine)
            stacks = np.asarray(images.values)
            labels, outcome = self._region.predict_labels(stacks, spacing, rule, progress, expected)
            region_attrs = outcome.to_attrs()
        if labels is None:
            labels = np.zeros(images.shape, np.uint8)
            step = max(1, batch_size // max(n_slices, 1))
            for start in range(0, n_frames, step):
                part = slice(start, start + step)
                stacks = np.asarray(images.isel(frame=part).values)
                labels[part], expected[part] = self.predict_labels(stacks, spacing, batch_size)
                if progress:
                    progress(len(stacks) * n_slices)
        processed = postprocess_cine(labels, postprocessing, voxel)
        segmented = ds.assign({PREDICTED: (DIMS, processed, self._make_attrs(postprocessing) | region_attrs)})
        extra = {UNPROCESSED: (DIMS, labels), EXPECTED_DICE: (DIMS[:2], expected)}
        return segmented.assign(extra) if unprocessed else segmented

    def predict_labels(
        self, images: NDArray[np.generic], spacing_yx: tuple[float, float], batch_size: int = 16
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return labels uint8 of stacks (..., slice, y, x) with pixels of ``spacing_yx`` mm, without post-processing,
        and the Dice that the network expects in each slice (..., slice).
        """
        flat = images.reshape(-1, *images.shape[-2:])
        out, expected = np.empty(flat.shape, np.uint8), np.empty(len(flat), np.float32)
        around = list_neighbours(images.shape[-3], self.source.context)
        first = np.arange(0, len(flat), images.shape[-3])
        around = (first[:, None, None] + around).reshape(len(flat), -1)
        for start in range(0, len(flat), batch_size):
            part = slice(start, start + batch_size)
            needed, position = np.unique(around[part], return_inverse=True)
            x = flat[needed].astype(np.float32)
            maps = self.predict_probabilities(x, spacing_yx, position.reshape(-1, around.shape[1]))
            labels = argmax_labels(maps)
            out[part], expected[part] = to_numpy(labels), to_numpy(estimate_dice(maps, labels))
        return out.reshape(images.shape), expected.reshape(images.shape[:-2])

    def predict_probabilities(
        self, images: AnyArray, spacing_yx: tuple[float, float], around: NDArray[np.intp] | None = None
    ) -> AnyArray:
        """Return class probabilities (n, classes, y, x) of the slices of a stack (n, y, x), at their own pixels.

        If ``images``, float32, are not one stack in its order, ``around`` (n, inputs) says which of them the network
        sees for each slice to compute.
        """
        native = (int(images.shape[-2]), int(images.shape[-1]))
        grid = make_training_grid(native, spacing_yx)
        x = normalize(grid.from_native(images[:, None], spacing_yx), self.source.scaling)[:, 0]
        x = x[list_neighbours(len(x), self.source.context) if around is None else around]
        maps: Any = compute_softmax(self.engine(x))
        return grid.to_native(maps, native, spacing_yx)  # type: ignore[no-any-return]

    def _make_attrs(self, rule: str) -> dict[str, object]:
        return {
            "long_name": f"segmentation by {self.origin.name}",
            "flag_values": [int(label) for label in MEANINGS],
            "flag_meanings": " ".join(m.replace(" ", "_") for m in MEANINGS.values()),
            "weights": self.origin.name,
            "weights_sha256": self.origin.sha256,
            "engine": self.engine.name,
            "trained_on": self.origin.trained_on,
            "synthetic_training": int(self.origin.synthetic_training),
            "synthetic_ancestry": int(self.origin.synthetic_ancestry),
            "limits": self.origin.limits,
            "postprocessing": rule,
        }


def score_model(
    predictor: Predictor,
    mice: Iterable[xr.Dataset] | Mapping[str, xr.Dataset],
    *,
    postprocessing: PostprocessingRule = "paper",
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Segment the labelled frames of ``mice`` (for example a cohort) and compare them with the experts' masks.

    Returns one row per frame. ``progress`` is called with 1 after each mouse.
    """
    tables = []
    for ds in mice.values() if isinstance(mice, Mapping) else mice:
        labelled = ds.isel(frame=np.flatnonzero(ds["labelled"].values))
        tables.append(score_frames(predictor.segment(labelled, postprocessing=postprocessing, region="full")))
        if progress:
            progress(1)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(SCORE_COLUMNS))


@dataclass(frozen=True)
class ModelCard:
    """Description of weights: the entry, and the numbers measured with them (text by name)."""

    weights: Weights
    synthetic_training: bool = False
    synthetic_ancestry: bool = False
    measured: Mapping[str, str] = field(default_factory=dict)


def list_models(manifest: Manifest | None = None, cache: str | Path | None = None) -> dict[str, ModelCard]:
    """Return all weights by name: those that ship with the package, the manifest's, and the user's own in ``cache``."""
    return list_own_models(cache) | _list_known_models(manifest)


def list_own_models(cache: str | Path | None = None) -> dict[str, ModelCard]:
    """Return the weights that ``mousecmr tune`` made, by the names that the user gave them."""
    return _read_cards(get_own_weights_folder(cache))


def _list_known_models(manifest: Manifest | None = None) -> dict[str, ModelCard]:
    manifest = manifest or load_manifest()
    numbers = {}
    if published := manifest.published:
        for d in published.dice:
            numbers[f"published Dice, {d.structure}, {d.phase}"] = f"{d.mean} ± {d.sd} ({published.source})"
    return _read_shipped_cards() | {name: ModelCard(w, measured=numbers) for name, w in manifest.weights.items()}


def is_reserved_name(name: str) -> bool:
    """Return whether weights of the user's own may not have this name, because others have it or seem to."""
    return name in (*_list_known_models(), "published")


def load_model(
    name: str | Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    force: bool = False,
    manifest: Manifest | None = None,
    cache: str | Path | None = None,
    offline: bool | None = None,
    network: NetworkLike | None = None,
) -> Predictor:
    """Load a predictor by the name of its weights (:func:`list_models` lists them) or the path of a weights file.

    ``device``: "auto", "cpu", "cuda" or "mps". ``engine``: how the network is computed, "auto" or one of
    :data:`mousecmr_data.inference.engines.ENGINE_NAMES`. ``cache`` and ``offline`` are those of the download.
    ``network``: the class, its import path ("package.module:Class") or a module, for a weights file of a network that
    is neither of this package or MONAI nor an installed entry point: no other code is imported because a file says so.

    An engine that is asked for by name has to pass its gate, as one that "auto" takes: its results are compared with
    those of "eager" on this machine, once for these weights. ``force`` uses it although it failed; the name of the
    weights then says so in every output.

    Raises :class:`~mousecmr_data.errors.MissingDataError` if weights are neither in the cache nor
    reachable: other weights are used only when requested by name; and :class:`~mousecmr_data.errors.MouseCMRError` if
    the engine failed its gate.
    """
    cards, own = list_models(manifest, cache), list_own_models(cache)
    path = Path(name)
    if card := cards.get(str(name)):
        if network is not None:
            text = f"The weights {str(name)!r} have their own network."
            raise ArgumentError(text, "a network only for a weights file of your own", "leave out --network")
        if str(name) in _read_shipped_cards():
            loaded = _load_local(card, SHIPPED_FOLDER, "pip install --force-reinstall mousecmr-data")
        elif str(name) in own:
            cure = "--weights FILE: the one in mousecmr tune's folder"
            loaded = _load_local(card, get_own_weights_folder(cache), cure)
        else:
            loaded = _load_fetched(card, manifest, cache, offline)
        entry = card.weights
        if (loaded.scaling, loaded.context) != (entry.scaling, entry.context):
            found = f"The weights {entry.name} are for the scaling {loaded.scaling!r} and context {loaded.context}."
            raise FileLayoutError(found, f"{entry.scaling!r} and {entry.context}, as their card says")
        origin = WeightsInfo(
            entry.name, entry.trained_on, entry.limits, card.synthetic_training, entry.sha256, card.synthetic_ancestry,
            entry.licence,
        )  # fmt: skip
    elif path.suffix or path.exists():
        loaded, origin = _load_file(path, network)
    else:
        raise UnknownNameError.from_name("network with weights", str(name), cards, "or the path of a weights file")
    if engine in PYTORCH_ENGINES:
        from mousecmr_data.inference.engines.pytorch import get_module

        loaded = get_module(loaded)
    made = make_engine(engine, loaded, device, cache)
    if engine not in ("auto", "eager") and (failure := find_gate_failure(made, loaded, device, cache)):
        if not force:
            raise MouseCMRError(
                f"The engine {engine!r} failed its accuracy check with the weights {origin.name} on this computer, "
                f"compared with 'eager': {failure}.",
                str(GATE_LIMITS[engine]),
                "--engine auto takes the fastest engine that passes; --force takes this one, and every output says so "
                "(Python: force=True)",
            )
        origin = replace(origin, name=f"{origin.name} ({engine} FAILED its accuracy check)")
    return Predictor(loaded, origin, device, engine=made)


def has_weights(name: str, cache: str | Path | None = None) -> bool:
    """Return whether the weights ``name`` of :func:`list_models` are on this computer."""
    card = list_models()[name]
    folder = SHIPPED_FOLDER if name in _read_shipped_cards() else get_weights_folder(card.weights, cache)
    files = (Path(card.weights.path).name, f"{name}.safetensors")
    return any((folder / file).is_file() for file in files)


def find_weights_departure(predictor: Any, cache: str | Path | None = None) -> str:
    """Return why ``predictor`` does not have the published weights; empty if it has them.

    The published file in the cache is hashed again, and its numbers are compared with those of the network, because
    networks are loaded from a converted copy.
    """
    sha256 = getattr(getattr(predictor, "origin", None), "sha256", "")
    entries = {w.sha256: w for w in load_manifest().weights.values()}
    network = getattr(predictor, "source", None)
    arrays = get_arrays(network) if network is not None else None
    if sha256 not in entries or arrays is None:
        return f"the weights are not the published ones (SHA-256 {sha256 or 'not known'})"
    path = get_weights_folder(entries[sha256], cache) / Path(entries[sha256].path).name
    if not path.is_file():
        return f"the published file of the weights is not in the cache to compare with: {path}"
    same = compute_sha256(path) == sha256
    if not same or hash_tensors(read_keras_arrays(path).arrays) != hash_tensors(arrays.arrays):
        return f"the weights have other numbers than the published ones in {path}"
    return ""


def _load_file(path: Path, network: NetworkLike | None) -> tuple[Network, WeightsInfo]:
    """Load your own file: of a training run, or Keras HDF5."""
    if path.suffix in KERAS_SUFFIXES:
        limits = "A file of the caller's own: its checksum is not known here."
        arrays, sha256 = read_keras_arrays(path), compute_sha256(path)
        licences = {w.sha256: w.licence for w in load_manifest().weights.values()}
        licence = licences.get(sha256, WeightsInfo.licence)
        return arrays, WeightsInfo(path.name, "not stated", limits, False, sha256, licence=licence)
    loaded, about = _load_network(path, network)
    name = str(about.get("name", path.stem))
    return loaded, WeightsInfo(
        f"{name} (own)" if is_reserved_name(name) else name,
        str(about.get("trained_on", "not stated")),
        str(about.get("limits", "A training run of the caller's own.")),
        bool(about.get("synthetic_training", False)),
        compute_sha256(path),
        bool(about.get("synthetic_ancestry", False)),
        str(about.get("licence", WeightsInfo.licence)),
    )


def _load_network(path: Path, network: NetworkLike | None = None) -> tuple[Network, dict[str, Any]]:
    """Return the network that the header of a weights file names, or ``network``, with the tensors of the file.

    UNet3+ is returned as arrays; other networks need PyTorch.
    """
    about = read_header(path)
    if {"channels", "classes", "reduce"} <= about.keys():  # of a version that knew one network
        about |= {"network": UNET3PLUS, "network_args": {k: about[k] for k in ("channels", "classes", "reduce")}}
    source, arguments = about.get("network"), about.get("network_args")
    about = {"context": 0, "scaling": "min-max", **about}
    valid = isinstance(source, str) and isinstance(arguments, dict | None)
    if not valid or not isinstance(about["context"], int) or about["scaling"] not in SCALINGS:
        raise FileLayoutError(f"{path} does not state which network it is for.", "a file that training wrote")
    if network is not None or source != UNET3PLUS:
        return _load_module(path, network, about), about
    arrays = read_arrays(path)
    try:
        loaded = UNet3PlusArrays.from_header(arrays, about)
    except (KeyError, TypeError, ValueError) as e:
        text = f"{path} states arguments that UNet3+ does not take: {arguments}."
        raise FileLayoutError(text, "channels (5 numbers), classes, reduce") from e
    _check_shapes(path, loaded.list_shapes(), arrays, f"the tensors of UNet3+ with the arguments {arguments}")
    return loaded, about


def _load_module(path: Path, network: NetworkLike | None, about: Mapping[str, Any]) -> SegmentationNetwork:
    """Build the module of PyTorch that a header names, or ``network``, and load the tensors into it."""
    require_extra("torch")
    from mousecmr_data.models.network import LARGEST_SIZE, STEPS, build_network, check_trusted

    source, arguments, step = about["network"], about["network_args"], about.get("step")
    if network is None:
        check_trusted(source, arguments, path)
    step = step if step in (*STEPS, LARGEST_SIZE) else None
    named = source if network is None else network
    built = build_network(named, arguments, context=about["context"], scaling=about["scaling"], step=step)
    made = "the network that was trained, as module" if arguments is None else f"the arguments {arguments}"
    state, _ = read_weights(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in built.module.state_dict().items()}
    _check_shapes(path, shapes, state, f"the tensors of {source} with {made}", source, built.source)
    built.module.load_state_dict(state)
    return built.eval()


def _check_shapes(
    path: Path,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Any],
    right: str,
    source: str = "",
    built: str = "",
) -> None:
    actual = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(k for k in {*expected, *actual} if expected.get(k) != actual.get(k)):
        text = f"{path} does not fit its own header: {wrong[0]}."
        if source != built:
            text = f"{path} is for {source}; {built} has other tensors: {wrong[0]}."
        raise FileLayoutError(text, right)


@cache
def _read_shipped_cards() -> dict[str, ModelCard]:
    return _read_cards(SHIPPED_FOLDER)


def _read_cards(folder: Path) -> dict[str, ModelCard]:
    """Read the cards of the weights in ``folder``, by name."""
    cards = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            entry = table.pop("weights")
            weights = Weights(**{**entry, "channels": tuple(entry["channels"]), "classes": tuple(entry["classes"])})
            cards[weights.name] = ModelCard(weights, **table)
        except (ValueError, KeyError, TypeError) as e:
            raise FileLayoutError(f"{path} is not a card of weights: {e}", "an unedited file", f"rm {path}") from e
    return cards


def _load_local(card: ModelCard, folder: Path, cure: str) -> Network:
    path = folder / card.weights.path
    checksum = compute_sha256(path) if path.is_file() else "no file"
    if checksum != card.weights.sha256:
        raise ChecksumError(f"{path} has the SHA-256 {checksum}.", card.weights.sha256, cure)
    return _load_network(path)[0]


def _load_fetched(
    card: ModelCard, manifest: Manifest | None, cache: str | Path | None, offline: bool | None
) -> Network:
    """Load the manifest's weights: from the converted file in the cache, else fetched, verified and converted."""
    entry = card.weights
    folder = get_weights_folder(entry, cache)
    converted = folder / f"{entry.name}.safetensors"
    if converted.is_file():
        with suppress(FileLayoutError):
            kept, about = _load_network(converted)
            is_keras = isinstance(kept, UNet3PlusArrays) and (kept.reduce, kept.context) == (1, 0)
            content = hash_tensors(kept.arrays) if isinstance(kept, UNet3PlusArrays) else ""
            if is_keras and (about.get("source_sha256"), about.get("content")) == (entry.sha256, content):
                return kept  # Keras networks see one slice at full resolution
        report_damage(converted)
    try:
        source = fetch_weights(manifest or load_manifest(), entry.name, cache=cache, progress=None, offline=offline)
    except (MissingDataError, DownloadError) as e:
        raise MissingDataError(
            f"The weights {entry.name!r} are neither in the cache nor reachable: {e.found}",
            f"{Path(entry.path).name} ({entry.size:,} bytes), SHA-256 {entry.sha256}",
            f"{e.next_step}; or bring the file to {folder / Path(entry.path).name}; or choose other weights by name: "
            f"--weights {SMALL_WEIGHTS} (trained on synthetic mice only)",
        ) from e
    network = read_keras_arrays(source)
    if network.channels != entry.channels or network.classes != len(entry.classes):
        raise FileLayoutError(f"{source} has the channels {network.channels}.", f"{entry.channels}")
    about = {"name": entry.name, "source_sha256": entry.sha256, "content": hash_tensors(network.arrays)}
    write_weights(converted, network, about)
    return network
