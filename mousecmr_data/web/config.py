"""What the page is told when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mousecmr_data.pipeline.config import PUBLISHED_WEIGHTS

HOST, PORT = "127.0.0.1", 7860
SMALL_WEIGHTS = "phantom-small"
MB = 1024**2


@dataclass(frozen=True)
class ServerConfig:
    """How the page behaves."""

    host: str = HOST
    weights: str = PUBLISHED_WEIGHTS
    """The choice that is set when the page opens; both are offered."""
    upload_mb: int = 2000
    """The most that one visitor's files may have in all."""
    max_queue: int = 10
    """Jobs that may wait; further ones are asked to come later."""
    kept_hours: float = 12.0
    """Files of a page that nobody used for so long are deleted, should its end have been missed."""
    cache: Path | None = None
    """The cache of the weights; None is the default place."""
    example_mouse: str = "Mouse6"
    """Of the phantom's test split: weights trained on the phantom have not seen it."""

    @property
    def local(self) -> bool:
        """Whether only this computer can reach the page."""
        return is_loopback(self.host)

    @property
    def upload_bytes(self) -> int:
        """The limit of a visitor's files."""
        return self.upload_mb * MB


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this computer's own address, which no other can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
