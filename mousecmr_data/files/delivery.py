"""From a URL to the final name, through pooch's machinery with our downloader."""

from __future__ import annotations

import logging
import threading

import pooch

from mousecmr_data.files.download import Download


def deliver(download: Download, url: str) -> None:
    """Let pooch fetch the file with our downloader, and put it in its place."""
    partial = download.partial
    name = partial.target.name
    partial.recover()
    # No registry hash: pooch would read the file again, and does not know git's. Ours cannot be switched off.
    pup = pooch.Pooch(path=partial.folder, base_url="", registry={name: None}, urls={name: url})
    pooch.get_logger().addFilter(_QUIET)
    _QUIET.here.on = True
    try:
        pup.fetch(name, downloader=download)
    finally:
        _QUIET.here.on = False
    partial.finish()


class _Quiet(logging.Filter):
    """Keeps pooch from announcing our transfers on stderr; other users of pooch in this process are heard."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not (getattr(self.here, "on", False) and record.levelno <= logging.INFO)


_QUIET = _Quiet()
