import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mousecmr_data._utils import parallel
from mousecmr_data._utils.parallel import (
    ChildProcess,
    iterate_in_threads,
    map_in_processes,
    read_in_child,
    run_in_threads,
    start_reader,
)
from mousecmr_data.errors import MouseCMRError, ProcessError

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces both limits")


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


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(iterate_in_threads(work, range(20), workers)) == [n * n for n in range(20)]
    assert list(iterate_in_threads(work, [], workers)) == []


def test_an_error_is_raised_at_its_item() -> None:
    results = iterate_in_threads(lambda n: 6 // (3 - n), range(6), 2)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_threads_end_with_a_loop_that_ends_early() -> None:
    """As on Ctrl-C: the first thing that the main thread learns of is KeyboardInterrupt."""
    begun: list[int] = []
    before = threading.active_count()

    def run() -> None:
        with closing(iterate_in_threads(begun.append, range(1000), 2)) as results:
            for _ in results:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert threading.active_count() == before
    assert len(begun) <= 6, "not far ahead"


def test_results_and_errors_of_a_child_come_back() -> None:
    array = read_in_child(np.arange, "a", 10, dtype="u2")
    array[0] = 5  # writable
    assert array.dtype == np.uint16
    process = read_in_child(os.getpid, "a")
    assert process == read_in_child(os.getpid, "a") != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        read_in_child(int, "a", "x")
    with pytest.raises(Exception, match="lambda"):
        read_in_child(lambda: 1, "a")  # does not pickle
    assert read_in_child(abs, "a", -1) == 1


def test_a_reader_imports_modules_before_it_is_needed() -> None:
    while parallel._idle:
        parallel._idle.pop().end()
    start_reader(["colorsys"])
    (child,) = parallel._idle
    start_reader(["colorsys"])
    assert parallel._idle == [child]
    assert read_in_child(eval, "a", "'colorsys' in __import__('sys').modules")


def test_a_child_follows_the_working_folder_and_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUSECMR_TRIAL", "yes")
    assert read_in_child(os.getcwd, "a") == str(Path.cwd())
    assert read_in_child(os.getenv, "a", "MOUSECMR_TRIAL") == "yes"


def test_an_end_that_python_cannot_raise_is_asked_for_again(capfd: pytest.CaptureFixture[str]) -> None:
    while parallel._idle:
        parallel._idle.pop().end()
    code = """
import os, signal, time
class A:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
A()
time.sleep(5)
"""
    with pytest.raises(ProcessError, match="exit code 1"):
        read_in_child(exec, "a", code)
    assert "Traceback" not in capfd.readouterr().err


def test_a_crash_ends_the_child_only() -> None:
    with pytest.raises(ProcessError, match=r"m\.h5: the process that read it ended \(SIG(SEGV|BUS)\)"):
        read_in_child(ctypes.string_at, "m.h5", 0)
    with pytest.raises(ProcessError, match="exit code 3"):
        read_in_child(os._exit, "m.h5", 3)
    assert read_in_child(abs, "m.h5", -1) == 1


@linux
def test_memory_and_time_of_a_child_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MAX_GB", "0.2")
    with pytest.raises(ProcessError, match=r"m\.h5 takes more than 800\.0 MB") as e:
        read_in_child(bytearray, "m.h5", 10**9)
    variable, _, value = str(e.value.next_step).partition("export ")[2].partition("=")
    monkeypatch.setenv(variable, value)
    assert len(read_in_child(bytearray, "m.h5", 10**9)) == 10**9  # the advice works
    monkeypatch.setenv("MOUSECMR_MAX_SECONDS", "0.3")
    with pytest.raises(ProcessError, match=r"m\.h5 takes more than 0\.3 s") as e:
        read_in_child(time.sleep, "m.h5", 1)
    variable, _, value = str(e.value.next_step).partition("export ")[2].partition("=")
    monkeypatch.setenv(variable, value)
    read_in_child(time.sleep, "m.h5", 1)


class SlowAnswer:
    """A result that takes seconds to send."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        time.sleep(5)
        return (int, ())


@linux
def test_sending_the_answer_is_within_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MAX_SECONDS", "0.3")
    with pytest.raises(ProcessError, match="MOUSECMR_MAX_SECONDS"):
        read_in_child(SlowAnswer, "m.h5")


@linux
@pytest.mark.parametrize("work", ["pass", "time.sleep(600)", "while True: pass"], ids=["idle", "asleep", "at work"])
def test_a_child_ends_with_a_parent_that_is_killed(work: str) -> None:
    code = f"""
import os, threading, time
from functools import partial
from mousecmr_data._utils.parallel import ChildProcess
child = ChildProcess()
print(child.call(os.getpid, "a"), flush=True)
threading.Thread(target=child.call, args=(partial(exec, "import time\\n{work}"), "a"), daemon=True).start()
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


@linux
def test_ctrl_c_in_the_terminal_reaches_no_child() -> None:
    """Not even while Python starts in it, which would print a traceback."""
    child = ChildProcess()
    child._process.send_signal(signal.SIGINT)
    assert child.call(partial(abs, -1), "a") == 1
    child.end()


def test_items_are_done_in_processes_without_a_guarded_main_module(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom mousecmr_data._utils.parallel import map_in_processes\n"
        "print(map_in_processes(os.path.basename, ['/a/b', '/c/d', '/e/f'], 2))\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, text=True)
    assert eval(run.stdout) == {"/a/b": "b", "/c/d": "d", "/e/f": "f"}


def test_an_item_whose_process_ends_fails_alone() -> None:
    seen: list[str] = []

    def make_failed(item: str, error: MouseCMRError) -> None:
        assert item == items[1]
        assert "exit code 3" in str(error)

    items = ["1", "import os; os._exit(3)", "2", "3"]
    results = map_in_processes(exec, items, 2, lambda item, _: seen.append(item), make_failed)
    assert results == {"1": None, "2": None, "3": None, items[1]: None}
    assert sorted(seen) == sorted(items)
    with pytest.raises(ProcessError):
        map_in_processes(exec, items, 2)
    with pytest.raises(ZeroDivisionError):
        map_in_processes(exec, ["1 / 0", "1"], 2)


def test_a_child_that_is_interrupted_removes_unfinished_files(tmp_path: Path) -> None:
    code = f"import tempfile, time\nwith tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):\n    time.sleep(60)"
    child, errors = ChildProcess(), []

    def call() -> None:
        try:
            child.call(partial(exec, code), "a")
        except ProcessError as e:
            errors.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    deadline = time.monotonic() + 20
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir())
    child.interrupt()
    thread.join(20)
    child.end()
    assert errors
    assert not list(tmp_path.iterdir())


def test_work_is_sent_once_to_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold what belongs to thousands of items, whose number would then count twice."""
    sent, send = [], ChildProcess._send

    def spy(child: ChildProcess, value: object) -> None:
        sent.append(len(pickle.dumps(value)))
        send(child, value)

    monkeypatch.setattr(ChildProcess, "_send", spy)
    items = [f"{k}" for k in range(20)]
    assert map_in_processes(("0" * 1_000_000).count, items, 2) == {i: 1_000_000 if i == "0" else 0 for i in items}
    assert sum(sent) < 3_000_000
