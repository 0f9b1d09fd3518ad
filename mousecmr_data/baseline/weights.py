"""Weights by name: what there is, where it comes from, and how it becomes a network.

``phantom-small`` ships with the package. The entries of a manifest (the authors' network) are fetched,
verified, read from Keras HDF5 and kept in the cache as safetensors. A path to a file works too. Nothing
ever stands in for weights that cannot be had.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mousecmr_data.baseline.engines import make
from mousecmr_data.baseline.segmenter import Origin, Segmenter
from mousecmr_data.download.cache import get_weights_folder
from mousecmr_data.download.fetch import fetch_weights
from mousecmr_data.errors import ChecksumError, DownloadError, FileLayoutError, MissingDataError, UnknownNameError
from mousecmr_data.models.keras import read_keras_weights
from mousecmr_data.models.safetensors import read_weights, write_weights
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.schema.manifest import Manifest, Weights, load_manifest

SHIPPED = Path(__file__).parent / "weights"
HDF5 = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True)
class Card:
    """What is known of weights: the entry, and the numbers measured with them (text by name)."""

    weights: Weights
    synthetic_training: bool = False
    measured: Mapping[str, str] = field(default_factory=dict)


def cards(manifest: Manifest | None = None) -> dict[str, Card]:
    """All weights by name: those that ship with the package, and the manifest's."""
    found = dict(_shipped())
    known = manifest or load_manifest()
    numbers = {}
    if known.published:
        for d in known.published.dice:
            numbers[f"published Dice, {d.structure}, {d.phase}"] = f"{d.mean} ± {d.sd} ({known.published.source})"
    found |= {name: Card(w, measured=numbers) for name, w in known.weights.items()}
    return found


def load(
    name: str | Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    manifest: Manifest | None = None,
    cache: str | Path | None = None,
    offline: bool | None = None,
) -> Segmenter:
    """A segmenter by the name of its weights (``cards()`` lists them) or the path of a weights file.

    ``device``: "auto", "cpu", "cuda" or "mps". ``engine``: how the network is computed, "auto" or one of
    :data:`mousecmr_data.baseline.engines.NAMES`. ``cache`` and ``offline`` are those of the download.

    Raises :class:`~mousecmr_data.errors.MissingDataError` where weights are neither in the cache nor
    reachable: other weights are used only when asked for by name.
    """
    known = cards(manifest)
    if str(name) in known:
        card = known[str(name)]
        network = _shipped_network(card) if str(name) in _shipped() else _fetched(card, manifest, cache, offline)
        entry = card.weights
        origin = Origin(entry.name, entry.trained_on, entry.limits, card.synthetic_training)
        return Segmenter(network, origin, device, engine=make(engine, network, device, cache))
    path = Path(name)
    if not (path.suffix or path.exists()):
        raise UnknownNameError(
            f"There are no weights {str(name)!r}.", f"one of {', '.join(map(repr, known))}, or a weights file's path"
        )
    network, origin = _from_file(path)
    return Segmenter(network, origin, device, engine=make(engine, network, device, cache))


def _from_file(path: Path) -> tuple[UNet3Plus, Origin]:
    """A file of one's own: of a training run, or Keras HDF5."""
    if path.suffix in HDF5:
        limits = "A file of the caller's own: its checksum is not known here."
        return read_keras_weights(path), Origin(path.name, "not stated", limits, False)
    network, about = _network(path)
    origin = Origin(
        str(about.get("name", path.stem)),
        str(about.get("trained_on", "not stated")),
        str(about.get("limits", "A training run of the caller's own.")),
        bool(about.get("synthetic_training", False)),
    )
    return network, origin


def _network(path: Path) -> tuple[UNet3Plus, dict[str, Any]]:
    state, about = read_weights(path)
    if not {"channels", "classes", "reduce"} <= about.keys():
        raise FileLayoutError(f"{path} does not say which network it is for.", "a file that training wrote")
    network = UNet3Plus(about["channels"], about["classes"], reduce=about["reduce"])
    expected = network.state_dict()
    if wrong := sorted(
        {*expected} ^ {*state} | {k for k in {*expected} & {*state} if expected[k].shape != state[k].shape}
    ):
        raise FileLayoutError(f"{path} does not fit its own header: {wrong[0]}.", f"channels {network.channels}")
    network.load_state_dict(state)
    return network.eval(), about


@cache
def _shipped() -> dict[str, Card]:
    """The cards beside the weights in this package."""
    found = {}
    for path in sorted(SHIPPED.glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        entry = table["weights"]
        weights = Weights(**{**entry, "channels": tuple(entry["channels"]), "classes": tuple(entry["classes"])})
        found[weights.name] = Card(weights, bool(table["synthetic_training"]), table.get("measured", {}))
    return found


def _shipped_network(card: Card) -> UNet3Plus:
    path = SHIPPED / card.weights.path
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != card.weights.sha256:
        raise ChecksumError(
            f"{path} has the SHA-256 {found}.", card.weights.sha256, "pip install --force-reinstall mousecmr-data"
        )
    return _network(path)[0]


def _fetched(card: Card, manifest: Manifest | None, cache: str | Path | None, offline: bool | None) -> UNet3Plus:
    """The manifest's weights: from the converted file in the cache, else fetched, verified and converted."""
    entry = card.weights
    folder = get_weights_folder(entry, cache)
    converted = folder / f"{entry.name}.safetensors"
    if converted.is_file():
        network = _converted(converted, entry)
        if network is not None:
            return network
    try:
        source = fetch_weights(manifest or load_manifest(), entry.name, cache=cache, progress=None, offline=offline)
    except (MissingDataError, DownloadError) as e:
        raise MissingDataError(
            f"The weights {entry.name!r} are neither in the cache nor reachable: {getattr(e, 'found', e)}",
            f"{Path(entry.path).name} ({entry.size:,} bytes), SHA-256 {entry.sha256}",
            f"bring the file to {folder / Path(entry.path).name}, or ask for other weights by name: "
            "--weights phantom-small (trained on synthetic mice only)",
        ) from e
    network = read_keras_weights(source)
    if network.channels != entry.channels or network.classes != len(entry.classes):
        raise FileLayoutError(f"{source} has the channels {network.channels}.", f"{entry.channels}")
    about = {"name": entry.name, "source_sha256": entry.sha256, "content": _content(network.state_dict())}
    write_weights(converted, network, about)
    return network


def _converted(path: Path, entry: Weights) -> UNet3Plus | None:
    """The network in a converted file, if it is whole and from the very file the entry names; else None."""
    try:
        network, about = _network(path)
    except FileLayoutError:
        return None
    sound = about.get("source_sha256") == entry.sha256 and about.get("content") == _content(network.state_dict())
    return network if sound else None


def _content(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()
