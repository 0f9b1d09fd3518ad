"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from mousecmr_data.files import disk


@contextmanager
def whole(path: str | PathLike[str]) -> Iterator[Path]:
    """A temporary path with the same ending beside ``path``, renamed to it when the block ends well."""
    target = Path(path)
    partial = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as e:
        raise disk.trouble(e, target) from e
    finally:
        partial.unlink(missing_ok=True)
