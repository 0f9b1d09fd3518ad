"""Settings of the web page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mousecmr_data._utils.network import is_local
from mousecmr_data.errors import ArgumentError
from mousecmr_data.schema import HOST, PUBLISHED_WEIGHTS

MB = 1024**2


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the server and its page."""

    host: str = HOST
    weights: str = PUBLISHED_WEIGHTS
    """The weights that are selected when the page opens; the page offers both."""
    token: str | None = None
    """Secret in the page's link, without which nothing is served; empty: none is needed. None: a random one if other
    computers can reach the page, else none."""
    own_weights: Path | None = None
    """A weights file of your own, which the page offers by its name and selects."""
    network: str | None = None
    """"package.module:Class" of the network of ``own_weights``, as for :func:`mousecmr_data.load_model`."""
    framed_by: str = ""
    """Address of a site that may show the page in a frame, e.g. https://huggingface.co; empty: none may."""
    root_path: str = ""
    """Path below which a reverse proxy shows the page, e.g. /proxy/7860, or "/" for one that shows it at its top. The
    proxy may remove the path from requests or leave it there. Empty: there is no proxy."""
    upload_mb: int = 2000
    """Limit of the total size of one visitor's files."""
    max_queue: int = 10
    """Limit of waiting jobs; more are refused."""
    kept_hours: float = 12.0
    """Files of a page that was not used for this time are deleted, in case its closing was missed."""
    keep: Path | None = None
    """Folder in which the results of each job stay; None: they are deleted with the page."""
    cache: Path | None = None
    """Cache folder of the weights; None is the default one."""
    example_mouse: str = "Mouse6"
    """A mouse of the phantom's test split: weights trained on the phantom were not trained on it."""

    def __post_init__(self) -> None:
        """Raise :class:`ArgumentError` for a root path that is not one."""
        if not re.fullmatch(r"(/[\w.~@:+%-]+)*/?", self.root_path):
            raise ArgumentError(f"The root path is {self.root_path!r}.", "a path", "--root-path /proxy/7860")

    @property
    def prefix(self) -> str:
        """Return the root path without a slash at its end."""
        return self.root_path.rstrip("/")

    @property
    def local(self) -> bool:
        """Return whether only this computer can reach the page, because the host is a loopback address."""
        return is_local(self.host)

    @property
    def upload_bytes(self) -> int:
        """Return the size limit of a visitor's files in bytes."""
        return self.upload_mb * MB
