"""A dataset hub on 127.0.0.1, which answers the calls of ``datasets`` and ``huggingface_hub`` to read and write.

    with Hub() as hub: hub.run(code, home)

Repositories are kept in memory, each commit whole. Large files travel as Git LFS objects, as on the real hub
without Xet. ``requests`` lists all calls; ``fault`` decides which calls are refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from servers.repository import LFS, Repository, oid

TIMEOUT = 30.0


class Hub:
    """The server. ``rate``: bytes per second of the whole hub; None: no limit."""

    def __init__(self, rate: float | None = None, token: str | None = None) -> None:
        self.rate, self.token = rate, token
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], int | None] = lambda *_: None
        """Return the status with which a call (method, path) is refused, or None."""
        self._lock, self._due = threading.Lock(), 0.0

    def __enter__(self) -> Self:
        handler = type("Handler", (_Exchange,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, folder: Path) -> str:
        """Commit the files of ``folder`` to a repository; return the commit."""
        repository = self.repositories.setdefault(name, Repository())
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        return repository.commit(files)

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of processes that use only this hub: no telemetry, no Xet, their own home folder."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MOUSECMR_"))}
        token = {"HF_TOKEN": self.token} if self.token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        return {
            **kept,
            **token,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, code: str, home: Path, arguments: Sequence[str] = (), **more: str) -> Any:
        """Run Python code in a process that uses only this hub; return its last line of output, read as JSON.

        ``more``: further variables of its environment.
        """
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            env={**self.environment(home), **more},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    def asked(self, pattern: str) -> list[str]:
        """Return the calls (method and path) that match."""
        return [f"{m} {p}" for m, p in self.requests if re.search(pattern, f"{m} {p}")]

    def throttle(self, size: int) -> None:
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now) + size / self.rate
            wait = self._due - now
        time.sleep(wait)


class _Exchange(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT

    def do_GET(self) -> None:
        self._answer(_READ)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(_POST)

    def do_PUT(self) -> None:
        self._answer({r"/lfs/(\w+)": _Exchange.put_object})

    def _answer(self, routes: dict[str, Callable[..., None]]) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.data = self._chunks()
        try:
            if refused := self.hub.fault(self.command, path):
                return self.send(refused, {"error": "refused"})
            authorization = self.headers["Authorization"] or ""
            if routes is _POST and self.hub.token and self.hub.token not in authorization:
                return self.send(401, {"error": "Invalid username or password."})
            for pattern, answer in routes.items():
                if match := re.fullmatch(pattern, path):
                    return answer(self, *match.groups())
            return self.missing("EntryNotFound")
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    # Reading.

    def information(self, name: str, revision: str = "main") -> None:
        commit = self._find_commit(name, revision)
        if commit:
            sha, files = commit
            self.send(200, {"id": name, "sha": sha, "siblings": [{"rfilename": p} for p in files], "tags": []})

    def tree(self, name: str, revision: str, below: str = "") -> None:
        commit = self._find_commit(name, revision)
        if not commit:
            return
        inside = {p: b for p, b in commit[1].items() if not below or p.startswith(below + "/")}
        rows: dict[str, dict[str, Any]] = {}
        for path, body in inside.items():
            rest = path[len(below) + 1 :] if below else path
            if "recursive=true" in self.path.lower() or "/" not in rest:
                rows[path] = {"type": "file", "path": path, "size": len(body), "oid": oid(path, body)}
                if path.endswith(LFS):
                    rows[path]["lfs"] = {"oid": oid(path, body), "size": len(body), "pointerSize": 134}
            if "/" in rest:
                folder = path[: len(path) - len(rest)] + rest.split("/")[0]
                rows[folder] = {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
        self.send(200, list(rows.values())) if rows or not below else self.missing("EntryNotFound")

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self._find_commit(name, revision)
        if not commit:
            return
        sha, files = commit
        if path not in files:
            self.missing("EntryNotFound", {"X-Repo-Commit": sha})
            return
        body = files[path]
        headers = {"ETag": f'"{oid(path, body)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        requested = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not requested:
            self.send(200, body, headers)
            return
        first, last = requested.groups()
        start = int(first) if first else max(0, len(body) - int(last))
        stop = min(int(last) + 1, len(body)) if first and last else len(body)
        if start >= len(body):
            self.send(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            return
        self.send(206, body[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})

    # Writing.

    def create(self) -> None:
        request = json.loads(self.data)
        name = f"{request['organization']}/{request['name']}"
        exists = name in self.hub.repositories
        if not exists:
            self.hub.repositories[name] = Repository(private=request.get("visibility") == "private")
        self.send(409 if exists else 200, {"url": f"{self.hub.url}/datasets/{name}", "error": "exists"})

    def validate(self) -> None:
        front = json.loads(self.data)["content"].split("---\n")
        self.send(200, {"errors": [] if len(front) > 2 else [{"message": "no YAML"}], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        commit = self._find_commit(name, revision)
        if not commit:
            return
        files = [
            {
                "path": f["path"],
                "uploadMode": "lfs" if f["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
                "oid": oid(f["path"], commit[1][f["path"]]) if f["path"] in commit[1] else None,
            }
            for f in json.loads(self.data)["files"]
        ]
        self.send(200, {"files": files})

    def batch(self, name: str) -> None:  # noqa: ARG002
        objects = []
        for o in json.loads(self.data)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{o['oid']}"}
            actions = {} if o["oid"] in self.hub.objects else {"actions": {"upload": upload}}
            objects.append({"oid": o["oid"], "size": o["size"], **actions})
        self.send(200, {"transfer": "basic", "objects": objects})

    def put_object(self, name: str) -> None:
        good = hashlib.sha256(self.data).hexdigest() == name
        if good:
            self.hub.objects[name] = self.data
        self.send(200 if good else 400, {})

    def commit(self, name: str, revision: str) -> None:
        commit = self._find_commit(name, revision)
        if not commit:
            return
        files = dict(commit[1])
        for line in self.data.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.hub.repositories[name].commit(files)
        self.send(200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{sha}", "commitOid": sha, "success": True})

    # Answers.

    def _find_commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(name)
        commit = repository.at(revision) if repository else None
        if commit is None:
            self.missing("RevisionNotFound" if repository else "RepoNotFound")
        return commit

    def missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(404, {"error": code}, {"X-Error-Code": code, **(headers or {})})

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/octet-stream" if data is body else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(data), 1 << 16):
            piece = data[start : start + (1 << 16)]
            self.hub.throttle(len(piece))
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:
        pass


_NAME = r"([\w.-]+/[\w.-]+)"
_READ: dict[str, Callable[..., None]] = {
    rf"/api/datasets/{_NAME}": _Exchange.information,
    rf"/api/datasets/{_NAME}/revision/([^/]+)": _Exchange.information,
    rf"/api/datasets/{_NAME}/tree/([^/]+)": _Exchange.tree,
    rf"/api/datasets/{_NAME}/tree/([^/]+)/(.+)": _Exchange.tree,
    rf"/datasets/{_NAME}/resolve/([^/]+)/(.+)": _Exchange.resolve,
}
_POST: dict[str, Callable[..., None]] = {
    "/api/repos/create": _Exchange.create,
    "/api/validate-yaml": _Exchange.validate,
    rf"/api/datasets/{_NAME}/preupload/([^/]+)": _Exchange.preupload,
    rf"/datasets/{_NAME}\.git/info/lfs/objects/batch": _Exchange.batch,
    rf"/api/datasets/{_NAME}/commit/([^/]+)": _Exchange.commit,
}
