"""Run commands, and record every attempt of theirs to reach another computer: through a proxy, past it, natively."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY")
FONTS = re.compile(r"\.(cache|config)/(matplotlib|fontconfig)(/.*)?")
"""The only files that may appear in the home folder: font lists of matplotlib."""
TIMEOUT = 600


@cache
def find_strace() -> list[str]:
    """Return the words before a command that let strace record its system calls; none where strace cannot be used.

    strace sees native code too. Only calls that name an address are recorded, so that it costs little time.
    """
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none"]
    if shutil.which("strace") is None:
        return []
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    output: str
    attempts: list[str]
    """Attempts to reach another computer, one line each."""
    kept: list[str]
    """Files in the home folder, which was empty before, except :data:`FONTS`."""


class Recorder:
    """A proxy that refuses everything, and the record of what came to it or went past it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        """First lines of the requests to the proxy."""

    def __enter__(self) -> Self:
        requests = self.requests

        class Refuse(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                requests.append(self.rfile.readline(2000).decode("latin-1").strip())
                self.wfile.write(b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def make_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a new user, whose programs use the proxy: no settings but ``more``."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        prefixes = ("HF_", "MOUSECMR_", "GRADIO_", "ORT_", "XDG_", "MPL", "DO_NOT_", "GITHUB_", "PYTEST")
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(prefixes) and not k.lower().endswith("_proxy") and k != "PYTHONPATH"
        }
        return {
            **kept,
            **dict.fromkeys(PROXIES, url),
            **{name.lower(): url for name in PROXIES},
            "HOME": str(home),
            "MOUSECMR_CACHE": str(self.folder / "cache"),
            "NETWORK_RECORD": str(self.folder / "python.txt"),
            "PYTHONPATH": str(Path(__file__).parent),
            **more,
        }

    def run(self, words: Sequence[str], **more: str) -> Run:
        """Run Python with ``words`` in :attr:`folder`."""
        environment = self.make_environment(**more)
        trace, record = self.folder / "strace.txt", self.folder / "python.txt"
        traced = [*find_strace(), "-o", str(trace)] if find_strace() else []
        process = subprocess.Popen(
            [*traced, sys.executable, *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        alarm = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        output, _ = process.communicate()
        alarm.cancel()
        attempts = [f"proxy: {line}" for line in self.requests]
        if record.exists():
            attempts += record.read_text().splitlines()
        if trace.exists():
            attempts += find_native_attempts(trace.read_text(errors="replace"))
        home = Path(environment["HOME"])
        files = [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()]
        return Run(process.returncode, output, attempts, [f for f in files if not FONTS.fullmatch(f)])


def find_native_attempts(trace: str) -> list[str]:
    """Return the lines of a trace that name the address of another computer."""
    lines = []
    for line in trace.splitlines():
        found = re.search(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line)
        address = found and (found[1] or found[2])
        if address and not address.startswith("127.") and address not in ("::1", "::", "0.0.0.0", "::ffff:127.0.0.1"):
            lines.append(line[:200])
    return lines
