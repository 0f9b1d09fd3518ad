"""Run work on many items in processes or threads, and read files of others in a process with limits.

A child process that crashes, hangs or takes too much memory ends alone: see :class:`ChildProcess`. It is neither a
:class:`multiprocessing.Process` nor one of :class:`concurrent.futures.ProcessPoolExecutor`: these import the caller's
main module again, do not say which item broke a pool, and outlive a parent that was killed.

The threads are not a :class:`concurrent.futures.ThreadPoolExecutor`: the interpreter waits for its threads
at exit, so a thread that waits for a silent host would block the terminal for half a minute.
"""

from __future__ import annotations

import atexit
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import chdir, contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar
from uuid import uuid4

from mousecmr_data._utils.network import enforce_offline
from mousecmr_data._utils.reading import (
    COPIES,
    GB_VARIABLE,
    SECONDS_VARIABLE,
    get_max_bytes,
    get_max_memory,
    get_max_seconds,
    list_causes,
)
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.errors import MouseCMRError, ProcessError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

ProgressCallback: TypeAlias = Callable[[int], None]
"""Called with the number of items done since the last call."""

GRACE_SECONDS = 0.6
"""Seconds after Ctrl-C in which transfers and processes may end in order. A command has 2 s in all."""
EXIT_SECONDS = 2.0
"""Seconds in which a process that closed its pipe is expected to end."""
SERVE = """import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from mousecmr_data._utils.parallel import serve_calls
serve_calls(sys.argv[1:])"""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A reader needs no threads, and OpenBLAS takes memory for each."""
MAX_IDLE = 2
"""Readers that wait for the next file."""


class ChildProcess:
    """A process that calls functions of this library, one at a time, and ends with the process that started it."""

    def __init__(self, environment: Mapping[str, str] | None = None, modules: Sequence[str] = ()) -> None:
        """Start the process, which imports ``modules`` before its first call."""
        with _block_ctrl_c():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE, *modules],  # -P: no modules from the working folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
            )
        self.surroundings = _describe_surroundings()
        with suppress(OSError):  # it ended: the first call says so
            self._send(sys.path)

    def call(self, work: Callable[[], Result], name: str, *, memory: int = 0, seconds: float = 0.0) -> Result:
        """Call ``work``, which must pickle, within ``memory`` bytes and ``seconds`` (0: no limit; Linux enforces both).

        Raises what ``work`` raises, and :class:`ProcessError` about ``name`` if the process ended.
        """
        try:
            self._send((pickle.dumps(work), memory, seconds))
            answer: Result | Exception
            is_error, answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, pickle.UnpicklingError) as e:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_SECONDS)
            self.end()
            raise _make_process_error(name, self._process.returncode, seconds) from e
        except BaseException:  # such as Ctrl-C: an answer may be on its way
            self.end()
            raise
        if not is_error:
            return answer  # type: ignore[return-value]
        error: Any = answer
        if isinstance(error, MemoryError):
            raise _make_memory_error(name, memory) from error
        raise error

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Ask the process to stop its work and to remove unfinished files."""
        self._process.terminate()

    def end(self, grace: float = 0.0) -> None:
        """End the process; after :meth:`interrupt`, ``grace`` seconds later."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # bytes that were not sent
                pipe.close()  # type: ignore[union-attr]

    def _send(self, value: object) -> None:
        pickle.dump(value, self._process.stdin, pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
        self._process.stdin.flush()  # type: ignore[union-attr]


@contextmanager
def _block_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C in the terminal from processes that are started here, from their first moment: the parent decides."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


READER_MODULES = ("mousecmr_data.formats.discover", "mousecmr_data.formats.read")
"""What a process needs to read scans."""


def serve_calls(modules: Sequence[str] = ()) -> None:
    """Answer the calls of :meth:`ChildProcess.call` until there are no more; runs in the child process.

    ``modules`` are imported before.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for Windows, where it cannot be blocked
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.unraisablehook = partial(_report_unraisable, sys.unraisablehook)
    answers = os.fdopen(os.dup(1), "wb")
    calls: queue.SimpleQueue[tuple[bytes, int, float] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive_calls, args=[calls], daemon=True).start()
    enforce_offline()
    os.dup2(2, 1)  # whatever prints must not do so between the answers
    try:
        for module in modules:
            import_module(module)
        with suppress(BrokenPipeError):  # the parent ended
            while call := calls.get():
                work, memory, seconds = call
                with _limit_time(seconds):  # the answer included: also an error may never end
                    try:
                        with _limit_memory(memory):
                            answer = (False, pickle.loads(work)())
                    except Exception as e:
                        answer = (True, _prepare_error(e))
                    pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
                    answers.flush()
                del answer
    except SystemExit:  # as asked for; Python's own way fails while the thread waits for a call
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        atexit._run_exitfuncs()
        os._exit(1)
    os._exit(0)


def _report_unraisable(report: Callable[[Any], object], error: Any) -> None:
    """Report an error that Python can only print; if it is the end of this process, ask for the end again, soon."""
    if issubclass(error.exc_type, SystemExit):
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        report(error)


def _receive_calls(calls: queue.SimpleQueue[tuple[bytes, int, float] | None]) -> None:
    """Receive calls until the parent ends, and then end this process, whatever it is doing."""
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            calls.put(pickle.load(sys.stdin.buffer))
    calls.put(None)
    os.kill(os.getpid(), signal.SIGTERM)  # remove unfinished files
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def read_in_child(
    work: Callable[Parameters, Result], name: str, *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call ``work`` for a file of others in a child process with the limits of :mod:`mousecmr_data._utils.reading`.

    ``work``, its arguments and its result must pickle. The process is kept for the next call. Raises what ``work``
    raises, and :class:`ProcessError` about ``name`` if it crashes, needs too much memory or takes too long.
    """
    child = _take_child()
    try:
        return child.call(partial(work, *args, **kwargs), name, memory=get_max_memory(), seconds=get_max_seconds())
    finally:
        if child.is_alive and len(_idle) < MAX_IDLE:
            _idle.append(child)
        else:
            child.end()


_idle: list[ChildProcess] = []


def start_reader(modules: Sequence[str] = READER_MODULES) -> None:
    """Start the process of the next :func:`read_in_child`; it imports ``modules`` while this one does other work."""
    if not _idle:
        _idle.append(ChildProcess(ONE_THREAD, modules))


def _take_child() -> ChildProcess:
    surroundings = _describe_surroundings()
    while _idle:
        with suppress(IndexError):  # another thread took it
            child = _idle.pop()
            if child.is_alive and child.surroundings == surroundings:
                return child
            child.end()
    return ChildProcess(ONE_THREAD)


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


def _describe_surroundings() -> object:
    """Return what a running process does not follow: working folder, import path and this library's variables."""
    return Path.cwd(), tuple(sys.path), {k: v for k, v in os.environ.items() if k.startswith("MOUSECMR_")}


@contextmanager
def _limit_time(seconds: float) -> Iterator[None]:
    """Limit the time of this process; the system ends it when the time is over."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _limit_memory(memory: int) -> Iterator[None]:
    """Limit the memory of this process: what takes more raises MemoryError."""
    if sys.platform == "win32" or not memory:
        yield
        return
    import resource

    # RLIMIT_DATA counts what is allocated; RLIMIT_AS also counts what is only reserved, such as stacks of threads.
    before = resource.getrlimit(resource.RLIMIT_DATA)
    soft = memory if before[1] == resource.RLIM_INFINITY else min(memory, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _prepare_error(error: Exception) -> Exception:
    """Return ``error`` in a form that pickles: a MemoryError if that was the cause."""
    if any(isinstance(cause, MemoryError) for cause in list_causes(error)):
        return MemoryError()
    error.__cause__ = error.__context__ = error.__traceback__ = None  # tblib, where it is loaded, would pickle them
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _make_memory_error(name: str, memory: int) -> ProcessError:
    return ProcessError(
        f"{name} takes more than {format_bytes(memory)} of memory to read.",
        f"at most {COPIES} times the {format_bytes(get_max_bytes())} of the largest array",
        f"if the file is right: export {GB_VARIABLE}={2 * get_max_bytes() / 1e9:g}",
    )


def _make_process_error(name: str, code: int, seconds: float) -> ProcessError:
    if seconds and hasattr(signal, "SIGALRM") and code == -signal.SIGALRM:
        return ProcessError(
            f"{name} takes more than {seconds:g} s to read.",
            "a file that is not damaged, on a disk that answers",
            f"if the file is right: export {SECONDS_VARIABLE}={10 * seconds:g}",
        )
    reason = next((s.name for s in signal.Signals if s == -code), f"exit code {code}")
    doing = "read" if seconds else "worked on"
    return ProcessError(
        f"{name}: the process that {doing} it ended ({reason}).",
        "a file that is not damaged" if seconds else "enough memory",
        "write the file again from its source" if seconds else "try it with one worker",
    )


def map_in_processes(
    work: Callable[[str], Result],
    items: Sequence[str],
    workers: int,
    on_result: Callable[[str, Result], None] | None = None,
    on_crash: Callable[[str, MouseCMRError], Result] | None = None,
) -> dict[str, Result]:
    """Call ``work`` with each item in ``workers`` processes, and ``on_result`` with each item and its result.

    ``work`` must pickle. ``on_crash`` makes the result of an item whose process ended; None raises
    :class:`ProcessError`. On an error, running items are finished and waiting items are dropped; on Ctrl-C, all stop.
    """
    results: dict[str, Result] = {}
    if min(workers, len(items)) <= 1:
        for item in items:
            results[item] = work(item)
            if on_result:
                on_result(item, results[item])
        return results
    children: list[ChildProcess] = []
    idle: list[ChildProcess] = []
    stop, lock = threading.Event(), threading.Lock()

    def run(item: str) -> None:
        with lock:
            is_new = not idle
            if is_new:
                idle.append(ChildProcess())
                children.append(idle[-1])
            child = idle.pop()
        try:
            if is_new:  # sent once: it may hold what belongs to thousands of items
                child.call(partial(_keep_work, work), item)
            result = child.call(partial(_do_kept_work, item), item)
        except ProcessError as e:
            if on_crash is None or stop.is_set():
                raise
            result = on_crash(item, e)
        with lock:
            if child.is_alive:
                idle.append(child)
            results[item] = result
            if on_result:
                on_result(item, result)

    def interrupt() -> None:
        for child in list(children):
            child.interrupt()

    try:
        run_in_threads(run, items, workers, stop, interrupt)
    finally:
        interrupt()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            child.end(max(0.0, deadline - time.monotonic()))
    return results


_kept: list[Callable[[str], Any]] = []
"""In a child process of :func:`map_in_processes`: its work."""


def _keep_work(work: Callable[[str], Any]) -> None:
    _kept[:] = [work]


def _do_kept_work(item: str) -> Any:
    return _kept[0](item)


def map_on_cluster(
    work: Callable[[str], Result],
    items: Sequence[str],
    client: Client,
    on_result: Callable[[str, Result], None] | None = None,
    on_crash: Callable[[str, MouseCMRError], Result] | None = None,
) -> dict[str, Result]:
    """Call ``work`` with each item on the workers of a dask cluster; the rest is as for :func:`map_in_processes`.

    Relative paths mean the same there as here, if the working folder exists there. dask repeats the items of a worker
    that ended. Those that it gives up, because workers ended several times while
    they had them, are tried again one after the other, so that one that ends its worker takes no others with it.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    results: dict[str, Result] = {}
    groups = [list(items)]
    while groups:
        group, token = groups.pop(), uuid4().hex[:8]
        shared = client.submit(partial, partial(_work_alone, work, Path.cwd()), pure=False)  # sent once to each worker
        futures = {client.submit(_call, shared, n, pure=False, key=f"mousecmr-{n}-{token}"): n for n in group}
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            item = futures.pop(future)  # finished: the scheduler need not keep it, or compute it again
            try:
                result = future.result()
            except Exception as e:
                has_crashed = isinstance(e, KilledWorker)
                if has_crashed and len(group) > 1:  # perhaps because of another item
                    groups.append([item])
                    continue
                if on_crash is None and not has_crashed:
                    raise
                text = f"{item}: the worker that worked on it ended: {e}"
                error = ProcessError(text, "enough memory", "use fewer workers")
                if on_crash is None:
                    raise error from e
                result = on_crash(item, error)
            results[item] = result
            if on_result:
                on_result(item, result)
    return results


_cluster_lock = threading.Lock()


def _work_alone(work: Callable[[str], Result], folder: Path, item: str) -> Result:
    """Do one item at a time: a worker of a cluster may have several threads, but predictors and the generator of
    random numbers support only one."""
    with _cluster_lock, chdir(folder) if folder.is_dir() else nullcontext():
        return work(item)


def _call(work: Callable[[str], Result], item: str) -> Result:
    return work(item)


def count_results(progress: Callable[[int], None] | None) -> Callable[[str, object], None] | None:
    """Return an ``on_result`` that calls ``progress`` with 1, or None without ``progress``."""
    return None if progress is None else lambda _item, _result: progress(1)


def run_in_threads(
    work: Callable[[Item], None],
    items: Iterable[Item],
    workers: int,
    stop: threading.Event,
    interrupt: Callable[[], None] = lambda: None,
) -> None:
    """Call ``work`` for each item in ``workers`` threads.

    The first exception stops the rest and is raised. KeyboardInterrupt does so too, after setting ``stop``, which
    ``work`` is expected to check, and calling ``interrupt``.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    if waiting.empty():
        return
    errors: list[BaseException] = []
    # Not Thread.join: interrupted by Ctrl-C, it takes a running thread for a finished one (Python < 3.13).
    running, all_done, lock = [min(max(workers, 1), waiting.qsize())], threading.Event(), threading.Lock()

    def loop() -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as e:  # raised again in the caller's thread below
            errors.append(e)
            stop.set()
        finally:
            with lock:
                running[0] -= 1
                if not running[0]:
                    all_done.set()

    for n in range(running[0]):
        threading.Thread(target=loop, name=f"mousecmr-{n}", daemon=True).start()
    try:
        while not all_done.wait(0.2):
            pass
    except BaseException:
        stop.set()
        interrupt()
        all_done.wait(GRACE_SECONDS)
        raise
    if errors:
        raise errors[0]


def iterate_in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` of each item, in their order; ``workers`` threads compute the next ones in the meantime.

    Up to twice ``workers`` results are made ahead. 0 computes each when it is asked for. An exception is raised at its
    item's place. Close the iterator (:func:`contextlib.closing`) where a loop may end early: the threads end then.
    """
    if not workers:
        yield from map(work, items)
        return
    calls: queue.SimpleQueue[tuple[Future[Result], Item] | None] = queue.SimpleQueue()
    ahead: deque[Future[Result]] = deque()

    def loop() -> None:
        while call := calls.get():
            future, item = call
            try:
                future.set_result(work(item))
            except BaseException as e:  # raised in the caller's thread
                future.set_exception(e)
            del call, future, item  # the result is the caller's

    def take() -> Result:
        future = ahead.popleft()
        while not future.done():
            wait([future], 0.2)  # without a limit, Ctrl-C is not seen on Windows
        return future.result()

    threads = [threading.Thread(target=loop, name=f"mousecmr-{n}", daemon=True) for n in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for item in items:
            ahead.append(Future())
            calls.put((ahead[-1], item))
            if len(ahead) > 2 * workers:
                yield take()
        while ahead:
            yield take()
    finally:
        with suppress(queue.Empty):
            while True:
                calls.get_nowait()
        for _ in threads:
            calls.put(None)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
