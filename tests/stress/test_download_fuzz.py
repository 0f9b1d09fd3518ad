"""Random wrong answers: each file comes whole from the next source, and no answer gives another exception."""

import os
import random
from pathlib import Path

import pytest
from servers import faults
from servers.cohort import QUICK, bodies, leftovers, manifest
from servers.host import Exchange, Fault, Host

from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.errors import MouseCMRError

TRIALS = 1000 if os.environ.get("MOUSECMR_STRESS") == "1" else 40
SEED = int(os.environ.get("MOUSECMR_SEED", "1"))
FILES = bodies(1, 3000)
PATH, BODY = next(iter(FILES.items()))
pytestmark = pytest.mark.stress

HEADERS = (
    "Content-Length", "Content-Range", "Location", "Retry-After", "ETag", "Last-Modified", "Content-Encoding",
    "Transfer-Encoding", "Connection", "Content-Type", "Set-Cookie", "WWW-Authenticate", "Refresh",
)  # fmt: skip
WORDS = (
    "", " ", "0", "-1", "1²", "9" * 18, "9" * 5000, "1e9", "NaN", "3000", "bytes 1500-3000/3001", "bytes 0-/",
    "bytes */*", "bytes 9-1/5", "http://", "https://[::1", "http://a:b@c:99999/", "//", "?", "#", "\x1b[2J", "\t",
    "\x85", "é", "%00", "file:///etc/passwd", "javascript:0", "data:,x", "gzip", "gzip, br, zstd", "chunked",
    "close", '"', 'W/"x"', "Mon, 01 Jan 99999 00:00:00 GMT", "x" * 3000, "bytes=0-", "http://" + "a" * 70 + ".example/",
    "http://127.0.0.1:1/",
)  # fmt: skip
STATUSES = (200, 200, 206, 206, 204, 301, 302, 303, 307, 308, 304, 401, 404, 416, 429, 500, 503, 599, 999)


def make_fault(rng: random.Random) -> Fault:
    """Return an answer with a random status, random headers and a random part of the body."""
    status = rng.choice(STATUSES)
    headers = [
        (rng.choice(HEADERS), "".join(rng.choices(WORDS, k=rng.choice((1, 1, 1, 2))))) for _ in range(rng.randint(1, 4))
    ]
    body = rng.choice((BODY, BODY[: rng.randrange(len(BODY))], BODY + b"more", b"", rng.randbytes(200)))

    def fault(exchange: Exchange) -> None:
        exchange.send_response(status)
        for name, value in headers:
            exchange.send_header(name, value)
        exchange.end_headers()
        exchange.wfile.write(body)
        exchange.close_connection = True

    return fault


def test_random_answers_are_faults_of_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(SEED)
    monkeypatch.delenv("NETRC", raising=False)
    with Host(FILES) as bad, Host(FILES) as good:
        monkeypatch.setenv("MOUSECMR_MIRROR", bad.url)
        for trial in range(TRIALS):
            chosen = [make_fault(rng) for _ in range(rng.randint(1, 4))]
            if rng.random() < 0.5:
                chosen.insert(0, faults.truncated)  # so that the next request asks for a range
            bad.faults[PATH].clear()
            bad.fail(PATH, *chosen)
            cache = tmp_path / str(trial)
            alone = manifest(FILES)
            try:
                paths = fetch_files(alone, cache=cache, progress=False, retry_policy=QUICK).paths
            except MouseCMRError as e:
                assert "\x1b" not in str(e)
                assert not list(cache.rglob("Mouse1.h5"))
                bad.faults[PATH].clear()
                bad.fail(PATH, *chosen)
                upstream = manifest(FILES, good.template)
                paths = fetch_files(upstream, cache=cache, progress=False, retry_policy=QUICK).paths
            assert paths["Mouse1"].read_bytes() == BODY, f"trial {trial} of seed {SEED}"
            assert leftovers(cache) == []
