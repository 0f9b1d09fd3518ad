"""Ask again until it works or patience ends: back-off, ``Retry-After``, hosts shared by all transfers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

from mousecmr_data.download.errors import Cancelled, PermanentError, TransientError

# MERGED download.retry: How long to wait, how often to try again, and when to leave a host alone.


@dataclass(frozen=True)
class RetryPolicy:
    """Times in seconds."""

    max_attempts: int = 6
    """Tries of one URL without progress before the next source is asked."""
    base_seconds: float = 0.5
    """First back-off; doubles with each failure."""
    max_seconds: float = 30.0
    """Longest back-off of our own choosing."""
    max_retry_after: float = 300.0
    """Longest ``Retry-After`` that is waited for; a host that asks for more is left alone."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """Longest silence of a host in the middle of an answer."""
    redirects: int = 5

    def compute_wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row: exponential, with jitter so that many
        clients that failed together do not come back together."""
        return random.uniform(0.5, 1.0) * min(self.max_seconds, self.base_seconds * 2.0 ** (failures - 1))


DEFAULT_RETRY_POLICY = RetryPolicy()


def parse_retry_after(header: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (a number or an HTTP date), or None."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


class HostLimiter:
    """What the transfers of one run learned of the hosts they share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._given_up: dict[str, str] = {}

    def acquire(self, host: str, seconds: float) -> None:
        """Nobody asks this host for so many seconds: one answer 429 speaks to all transfers."""
        with self._lock:
            self._not_before[host] = max(self._not_before.get(host, 0.0), time.monotonic() + seconds)

    def pause(self, host: str) -> float:
        """Seconds until the host may be asked again."""
        with self._lock:
            return max(0.0, self._not_before.get(host, 0.0) - time.monotonic())

    def ban(self, host: str, reason: str) -> None:
        """The host cannot be reached, or asks for too long a wait: spare the other files the trial."""
        with self._lock:
            self._given_up[host] = reason

    def is_banned(self, host: str) -> str | None:
        """Why the host is not asked any more in this run, or None."""
        with self._lock:
            return self._given_up.get(host)


Result = TypeVar("Result")


def retry(
    attempt: Callable[[], Result],
    url: str,
    retry_policy: RetryPolicy,
    hosts: HostLimiter,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _: None,
    headway: Callable[[], bool] = lambda: False,
) -> Result:
    """The result of ``attempt``, which asks ``url``.

    ``on_wait`` is told why and how long before each wait. ``headway`` says whether the last attempt got
    further than any before it; then its failure counts as the first. Raises Lasting when patience ends.
    """
    host = urlsplit(url).netloc
    failures = 0
    while True:
        while (pause := hosts.pause(host)) > 0:
            _sleep(pause, stop)
        if reason := hosts.is_banned(host):
            raise PermanentError(reason)
        try:
            return attempt()
        except TransientError as e:
            failures = 1 if headway() else failures + 1
            if e.wait is not None and e.wait > retry_policy.max_retry_after:
                reason = f"{e}; it asks to come back in {e.wait:.0f} s"
                hosts.ban(host, reason)
                raise PermanentError(reason) from e
            if failures >= retry_policy.max_attempts:
                if not e.reached:
                    hosts.ban(host, str(e))
                raise PermanentError(f"{e} ({failures} tries)") from e
            wait = retry_policy.compute_wait(failures)
            if e.wait is not None:
                hosts.acquire(host, e.wait)
                wait = max(wait, e.wait)
            on_wait(f"{e}; trying again in {wait:.1f} s")
            _sleep(wait, stop)


def _sleep(seconds: float, stop: threading.Event) -> None:
    if stop.wait(seconds):
        raise Cancelled
