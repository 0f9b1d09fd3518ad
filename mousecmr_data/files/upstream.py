"""The upstream watch: do the pinned files still answer? Asks with HEAD, downloads nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from mousecmr_data.errors import MissingDataError
from mousecmr_data.files import pool, sources, state
from mousecmr_data.files.fault import Fault
from mousecmr_data.files.insist import insist
from mousecmr_data.files.patience import PATIENCE, Hosts, Patience
from mousecmr_data.files.web import Web
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights


@dataclass(frozen=True)
class Pinned:
    """What the host said of one pinned URL."""

    name: str
    url: str
    answers: bool
    size: int | None
    """Bytes, where the host told."""
    trouble: str = ""


def check(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    jobs: int = 4,
    offline: bool | None = None,
    patience: Patience = PATIENCE,
) -> tuple[Pinned, ...]:
    """Ask the pinned URL (never a mirror) of each mouse, and of the weights where all mice are asked."""
    if sources.offline(offline):
        raise MissingDataError("The upstream check needs a network.", None, "unset MOUSECMR_OFFLINE")
    items: list[FileEntry | Weights] = list(state.select(manifest, mice).values())
    if mice is None:
        items += manifest.weights.values()
    results: dict[int, Pinned] = {}
    here, hosts, stop = threading.local(), Hosts(), threading.Event()

    def one(number: int) -> None:
        if not hasattr(here, "web"):
            here.web = Web(patience)
        results[number] = _ask(manifest, items[number], here.web, patience, hosts, stop)

    pool.run(one, range(len(items)), jobs, stop)
    return tuple(results[n] for n in range(len(items)))


def _ask(
    manifest: Manifest,
    item: FileEntry | Weights,
    web: Web,
    patience: Patience,
    hosts: Hosts,
    stop: threading.Event,
) -> Pinned:
    name = item.mouse if isinstance(item, FileEntry) else item.name
    url = manifest.file_url(item)
    if not url:
        return Pinned(name, url, False, None, "the manifest names no URL")

    def attempt() -> int | None:
        with web.ask(url, method="HEAD") as answer:
            length = answer.headers.get("content-length", "")
            return int(length) if length.isdigit() else None

    try:
        size = insist(attempt, url, patience, hosts, stop)
    except Fault as e:
        return Pinned(name, sources.shown(url), False, None, str(e))
    trouble = f"{size:,} bytes instead of {item.size:,}" if size and item.size and size != item.size else ""
    return Pinned(name, sources.shown(url), not trouble, size, trouble)
