"""Retry requests: back-off, ``Retry-After``, and limits per host that all transfers share."""

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

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Limits and waiting times of retries. All times are in seconds."""

    max_attempts: int = 6
    """Attempts of one URL without progress before the next source is tried."""
    base_seconds: float = 0.5
    """First back-off; doubles with each failure."""
    max_seconds: float = 30.0
    """Longest back-off, unless the host asks for a longer one."""
    max_retry_after: float = 300.0
    """Longest ``Retry-After`` that is accepted; a host that asks for more is not tried again."""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """Longest time without a byte in the middle of an answer."""
    redirects: int = 5

    def compute_wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row: exponential, with jitter to spread clients."""
        return random.uniform(0.5, 1.0) * min(self.max_seconds, self.base_seconds * 2.0 ** (failures - 1))


DEFAULT_RETRY_POLICY = RetryPolicy()


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header (a number or an HTTP date) asks for, or None."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        time_of_retry = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if time_of_retry.tzinfo is None:
        time_of_retry = time_of_retry.replace(tzinfo=UTC)
    return max(0.0, (time_of_retry - datetime.now(UTC)).total_seconds())


class HostLimiter:
    """Delays and bans of hosts, shared by the transfers of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._ban_reasons: dict[str, str] = {}

    def delay(self, host: str, seconds: float) -> None:
        """Delay all requests to ``host`` by ``seconds`` from now: an answer 429 applies to all transfers."""
        with self._lock:
            self._not_before[host] = max(self._not_before.get(host, 0.0), time.monotonic() + seconds)

    def get_delay(self, host: str) -> float:
        """Return the seconds until a request to ``host`` is allowed."""
        with self._lock:
            return max(0.0, self._not_before.get(host, 0.0) - time.monotonic())

    def ban(self, host: str, reason: str) -> None:
        """Stop requests to ``host`` for this run: it is unreachable, or asks for too long a wait."""
        with self._lock:
            self._ban_reasons[host] = reason

    def get_ban_reason(self, host: str) -> str | None:
        """Return why ``host`` is banned, or None."""
        with self._lock:
            return self._ban_reasons.get(host)


def raise_if_stopped(stop: threading.Event, seconds: float = 0.0) -> None:
    """Wait ``seconds``; raise Cancelled as soon as ``stop`` is set."""
    if stop.wait(seconds):
        raise Cancelled


def retry(
    attempt: Callable[[], Result],
    url: str,
    retry_policy: RetryPolicy,
    hosts: HostLimiter,
    stop: threading.Event,
    on_wait: Callable[[str], None] = lambda _: None,
    has_progressed: Callable[[], bool] = lambda: False,
) -> Result:
    """Return the result of ``attempt``, which requests ``url``, and retry it after transient errors.

    ``on_wait`` is called before each wait with its reason and length. ``has_progressed`` returns whether the last
    attempt got further than all before it; if so, its failure counts as the first. Raises PermanentError after
    the last attempt.
    """
    host = urlsplit(url).netloc
    failures = 0
    while True:
        while (delay := hosts.get_delay(host)) > 0:
            raise_if_stopped(stop, delay)
        if reason := hosts.get_ban_reason(host):
            raise PermanentError(reason)
        try:
            return attempt()
        except PermanentError as e:
            if e.concerns_host:
                hosts.ban(host, str(e))
            raise
        except TransientError as e:
            failures = 1 if has_progressed() else failures + 1
            if e.wait is not None and e.wait > retry_policy.max_retry_after:
                reason = f"{e}; it asks to wait {e.wait:.0f} s"
                hosts.ban(host, reason)
                raise PermanentError(reason) from e
            if failures >= retry_policy.max_attempts:
                if not e.reached:
                    hosts.ban(host, str(e))
                raise PermanentError(f"{e} ({failures} tries)") from e
            wait = retry_policy.compute_wait(failures)
            if e.wait is not None:
                hosts.delay(host, e.wait)
                wait = max(wait, e.wait)
            on_wait(f"{e}; trying again in {wait:.1f} s")
            raise_if_stopped(stop, wait)
