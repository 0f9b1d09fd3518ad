"""Downloads in separate processes, for tests of races and kills."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from mousecmr_data.schema.manifest import read_manifest
from mousecmr_data.download.fetch import fetch_files
fetch_files(read_manifest(sys.argv[1]), cache=sys.argv[2], progress=False)
"""

TIMEOUT = 120.0


def start(manifest: Path, cache: Path, **options: object) -> subprocess.Popen[str]:
    """Start a process that fetches every file of the manifest folder into the cache."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOUSECMR_")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(manifest), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the process; return its errors if it failed, else an empty string."""
    try:
        _, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        return f"took over {TIMEOUT} s\n{errors}"
    return errors if process.returncode else ""
