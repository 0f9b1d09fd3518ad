"""Compare downloads over loopback, with checksums, with curl: same files, same host, same parallelism.

    python benchmarks/download.py [--files 16] [--megabytes 40] [--workers 4] [--rounds 5] [--folder DIR] [--json FILE]

Both sides run in turn, in one run; medians are given. The host is a separate process (plain
files over HTTP/1.1, sendfile). curl checks nothing and leaves its files in memory for the system to write; this
library computes two checksums and flushes each file before it gets its name, so curl is also timed with a flush.
With ``--folder`` on a RAM disk, the speed of the disk does not matter.
"""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from record import make_parser, write_record

from mousecmr_data._utils.checksums import compute_checksums
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.schema.manifest import FileEntry, Manifest, load_manifest


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends a file by sendfile, so that the host takes as little time as possible."""

    protocol_version = "HTTP/1.1"
    folder = Path()

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        with path.open("rb") as f:
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            self.wfile.flush()
            self.connection.sendfile(f)

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: object) -> None:
        pass


def serve(folder: str) -> None:
    """Run the host in this process; print its port."""
    Handler.folder = Path(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def make(folder: Path, count: int, size: int) -> list[FileEntry]:
    """Write random files and return their entries, with the git blob SHA-1 alone, as upstream publishes it."""
    entries = []
    for n in range(1, count + 1):
        path = folder / "Data" / f"Mouse{n}.h5"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size + n))
        sums = compute_checksums(path)
        entries.append(FileEntry(f"Mouse{n}", f"Data/{path.name}", sums.git_blob_sha1))
    return entries


def with_curl(curl: str, url: str, entries: list[FileEntry], folder: Path, workers: int) -> tuple[float, float]:
    """Return the seconds of curl alone, and with its files flushed to disk, as this library does."""
    folder.mkdir()
    arguments = [a for e in entries for a in ("-o", str(folder / Path(e.path).name), f"{url}/{e.path}")]
    start = time.perf_counter()
    subprocess.run(
        [curl, "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", str(workers), *arguments], check=True
    )
    arrived = time.perf_counter() - start
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(flush, folder.iterdir()))
    return arrived, time.perf_counter() - start


def flush(path: Path) -> None:
    with path.open("rb+") as f:
        os.fsync(f.fileno())


def with_library(manifest: Manifest, folder: Path, workers: int) -> float:
    start = time.perf_counter()
    fetch_files(manifest, cache=folder, workers=workers, progress=False)
    return time.perf_counter() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to put source and targets (e.g. a RAM disk)")
    options = parser.parse_args()
    curl = shutil.which("curl")
    if curl is None:
        print("Skipped: curl is not installed, so there is nothing to compare with.")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        (root / "host").mkdir()
        entries = make(root / "host", options.files, options.megabytes * 1_000_000)
        command = [sys.executable, __file__, "--serve", str(root / "host")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
            try:
                url = f"http://127.0.0.1:{host.stdout.readline().strip()}" if host.stdout else ""
                manifest = replace(
                    load_manifest(),
                    name="bench",
                    url=url + "/{path}",
                    files={e.mouse: e for e in entries},
                    weights={},
                )
                theirs, ours = [], []
                for n in range(options.rounds + 1):  # the first round is a warm-up and is not counted
                    theirs.append(with_curl(curl, url, entries, root / f"curl{n}", options.workers))
                    ours.append(with_library(manifest, root / f"ours{n}", options.workers))
                    shutil.rmtree(root / f"curl{n}")
                    shutil.rmtree(root / f"ours{n}")
            finally:
                host.terminate()
    total = options.files * options.megabytes
    raw, flushed = (statistics.median(t[i] for t in theirs[1:]) for i in (0, 1))
    own = statistics.median(ours[1:])
    version = subprocess.run([curl, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    rates = {name: total / seconds for name, seconds in (("curl", raw), ("curl, flushed", flushed), ("mousecmr", own))}
    numbers = {name: getattr(options, name) for name in ("files", "megabytes", "workers")}
    write_record(options, {**numbers, "curl": version, "MB/s": rates})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main()
