import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mousecmr_data.download.errors import Cancelled, PermanentError, TransientError
from mousecmr_data.download.retry import HostLimiter, RetryPolicy, parse_retry_after, retry

URL = "http://host.example.org/x"
FAST = RetryPolicy(max_attempts=4, base_seconds=0.001, max_retry_after=2.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("-1", None), ("soon", None), ("1.5", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    assert parse_retry_after(format_datetime(soon, usegmt=True)) == pytest.approx(60, abs=2)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_backoff_doubles_up_to_a_ceiling_with_jitter() -> None:
    retry_policy = RetryPolicy(base_seconds=1.0, max_seconds=8.0)
    for failures, longest in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (50, 8)):
        waits = {retry_policy.compute_wait(failures) for _ in range(50)}
        assert len(waits) > 1
        assert longest / 2 <= min(waits)
        assert max(waits) <= longest


def attempts(*outcomes: object) -> tuple[list[int], object]:
    """Return an attempt that has these outcomes in turn, and its count of calls."""
    left, calls = list(outcomes), [0]

    def attempt() -> object:
        calls[0] += 1
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return calls, attempt


def test_retries_end() -> None:
    calls, attempt = attempts(*[TransientError("no")] * 10)
    with pytest.raises(PermanentError, match=r"no \(4 tries\)"):
        retry(attempt, URL, FAST, HostLimiter(), threading.Event())  # type: ignore[arg-type]
    assert calls == [4]


def test_progress_resets_the_count_of_failures() -> None:
    calls, attempt = attempts(*[TransientError("cut")] * 10, "done")
    assert retry(attempt, URL, FAST, HostLimiter(), threading.Event(), has_progressed=lambda: True) == "done"  # type: ignore[arg-type]
    assert calls == [11]


def test_permanent_errors_are_not_retried() -> None:
    calls, attempt = attempts(PermanentError("gone"))
    with pytest.raises(PermanentError, match="gone"):
        retry(attempt, URL, FAST, HostLimiter(), threading.Event())  # type: ignore[arg-type]
    assert calls == [1]


def test_a_requested_wait_applies_to_the_host() -> None:
    hosts = HostLimiter()
    _, attempt = attempts(TransientError("429", wait=0.2), "done")
    delays: dict[str, float] = {}

    def on_wait(text: str) -> None:
        delays[text] = hosts.get_delay("host.example.org")

    assert retry(attempt, URL, FAST, hosts, threading.Event(), on_wait) == "done"  # type: ignore[arg-type]
    assert list(delays) == ["429; trying again in 0.2 s"]
    assert 0.1 < delays["429; trying again in 0.2 s"] <= 0.2, "all transfers from this host wait"
    hosts.delay("a.org", 5.0)
    hosts.delay("a.org", 1.0)
    assert 4.0 < hosts.get_delay("a.org") <= 5.0
    assert hosts.get_delay("b.org") == 0.0


def test_a_host_that_asks_for_too_long_a_wait_is_not_tried_again() -> None:
    hosts = HostLimiter()
    _, attempt = attempts(TransientError("429", wait=3600))
    with pytest.raises(PermanentError, match="asks to wait 3600 s"):
        retry(attempt, URL, FAST, hosts, threading.Event())  # type: ignore[arg-type]
    calls, attempt = attempts("never called")
    with pytest.raises(PermanentError, match="3600"):
        retry(attempt, URL, FAST, hosts, threading.Event())  # type: ignore[arg-type]
    assert calls == [0]


def test_waiting_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    _, attempt = attempts(TransientError("busy", wait=2.0))
    with pytest.raises(Cancelled):
        retry(attempt, URL, FAST, HostLimiter(), stop)  # type: ignore[arg-type]
