"""Ask again until it works or patience ends: back-off, ``Retry-After``, hosts shared by all transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from mousecmr_data.files.fault import Lasting, Passing, Stopped
from mousecmr_data.files.patience import Hosts, Patience

Result = TypeVar("Result")


def insist(
    attempt: Callable[[], Result],
    url: str,
    patience: Patience,
    hosts: Hosts,
    stop: threading.Event,
    waiting: Callable[[str], None] = lambda _: None,
    headway: Callable[[], bool] = lambda: False,
) -> Result:
    """The result of ``attempt``, which asks ``url``.

    ``waiting`` is told why and how long before each wait. ``headway`` says whether the last attempt got
    further than any before it; then its failure counts as the first. Raises Lasting when patience ends.
    """
    host = urlsplit(url).netloc
    failures = 0
    while True:
        while (pause := hosts.pause(host)) > 0:
            _sleep(pause, stop)
        if reason := hosts.given_up(host):
            raise Lasting(reason)
        try:
            return attempt()
        except Passing as e:
            failures = 1 if headway() else failures + 1
            if e.wait is not None and e.wait > patience.asked:
                reason = f"{e}; it asks to come back in {e.wait:.0f} s"
                hosts.give_up(host, reason)
                raise Lasting(reason) from e
            if failures >= patience.attempts:
                if not e.reached:
                    hosts.give_up(host, str(e))
                raise Lasting(f"{e} ({failures} tries)") from e
            wait = patience.backoff(failures)
            if e.wait is not None:
                hosts.hold(host, e.wait)
                wait = max(wait, e.wait)
            waiting(f"{e}; trying again in {wait:.1f} s")
            _sleep(wait, stop)


def _sleep(seconds: float, stop: threading.Event) -> None:
    if stop.wait(seconds):
        raise Stopped
