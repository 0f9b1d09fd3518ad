"""The memory of the page's server does not grow with the number of jobs, and no job leaves files behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_mouse import write_small_mouse

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
httpx = pytest.importorskip("httpx")
pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, of Linux"),
]
JOBS = 200 if os.environ.get("MOUSECMR_STRESS") else 4
READ_EVERY = JOBS // 4
MOST_GROWTH = 1.1
"""Limit of the last reading, as a multiple of the first."""
FIELDS = ["phantom-small", "", "", "", "", ""]


class Visitor:
    """One visit: a new browser that opens the page, and calls its functions by name as the page's script does."""

    def __init__(self, client: Any, session: str) -> None:
        self.client, self.session = client, session
        client.get("/").raise_for_status()
        functions = client.get("/config").json()["dependencies"]
        self.numbers = {f["api_name"]: f["id"] for f in functions}

    def call(self, name: str, values: list[str]) -> list[Any]:
        body = {"data": values, "fn_index": self.numbers[name], "session_hash": self.session}
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        output: list[Any] = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.iter_lines():
                event = json.loads(line.removeprefix("data:") or "{}")
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    output = event["output"]["data"]
        return output


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of `mousecmr serve`, with its files below ``tmp_path``, and the address of the page."""
    log = tmp_path / "log.txt"
    words = ["serve", "--no-browser", "--port", "0", "--weights", "phantom-small"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "from mousecmr_data.cli.main import main; main()", *words],
            stderr=out,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    while " is at " not in log.read_text(encoding="utf-8"):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.1)
    yield process, log.read_text(encoding="utf-8").partition(" is at ")[2].partition(" ")[0]
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert list(tmp_path.glob("mousecmr-page-*")) == []


def read_memory(process: subprocess.Popen[bytes]) -> int:
    """Return the resident memory in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 // 10**6


def test_memory_over_many_jobs(
    served: tuple[subprocess.Popen[bytes], str], phantom_cache: Path, tmp_path: Path
) -> None:
    process, address = served
    mouse = write_small_mouse(phantom_cache, tmp_path / "mouse.nii.gz").read_bytes()
    readings: dict[int, int] = {}
    for job in range(1, JOBS + 1):
        with httpx.Client(base_url=address, timeout=600) as client:
            visitor = Visitor(client, f"page{job}")
            with client.stream("GET", f"/gradio_api/heartbeat/{visitor.session}"):
                token = visitor.call("on_load", FIELDS[:1])[0]["token"]
                upload = {"drop": 0, "path": "mouse.nii.gz"}
                client.post(f"/mice/{token}/upload", params=upload, content=mouse).raise_for_status()
                assert "12 slices" in visitor.call("on_upload", FIELDS)[0]
                status, _, _, viewer, *_ = visitor.call("on_segment", FIELDS)
                assert viewer["views"], status
                assert client.get(f"/mice/{token}/review/results.zip").status_code == 200
        if job % READ_EVERY == 0:
            readings[job] = read_memory(process)
    print(f"\nmemory of the server in MB, by the number of jobs: {readings}")
    first, *_, last = readings.values()
    assert last <= MOST_GROWTH * first, readings
    (folder,) = tmp_path.glob("mousecmr-page-*")
    for _ in range(600):
        left = {p.name for p in folder.iterdir()} - {"alive", "gradio"}
        if not left:
            break
        time.sleep(0.1)
    assert left == set()
