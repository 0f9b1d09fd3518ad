import threading
import time

import pytest

from mousecmr_data._utils.parallel import run_in_threads


def test_no_more_items_at_a_time_than_workers() -> None:
    running, peak, lock, done = [0], [0], threading.Lock(), []

    def work(item: int) -> None:
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
            done.append(item)

    run_in_threads(work, range(20), 3, threading.Event())
    assert sorted(done) == list(range(20))
    assert peak == [3]
    run_in_threads(work, [], 3, threading.Event())


def test_the_first_exception_is_raised_and_stops_the_rest() -> None:
    stop, done = threading.Event(), []

    def work(item: int) -> None:
        if item == 2:
            raise ZeroDivisionError("item 2")
        done.append(item)

    with pytest.raises(ZeroDivisionError, match="item 2"):
        run_in_threads(work, range(1000), 1, stop)
    assert stop.is_set()
    assert done == [0, 1]


def test_no_more_threads_than_items() -> None:
    names: set[str] = set()
    run_in_threads(lambda _: names.add(threading.current_thread().name), range(2), 50, threading.Event())
    assert len(names) <= 2
    assert all(n.startswith("mousecmr-") for n in names)
