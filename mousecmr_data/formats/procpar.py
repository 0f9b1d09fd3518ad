"""Agilent (Varian) ``procpar``: the parameters of an acquisition, as a table of names.

A parameter takes three lines or more: its name and ten numbers about it (the third is its basic type: 1 real,
2 string); the number of values and the values (strings in quotes, one a line from the second on); the number of
values that are allowed and these. Source: VnmrJ User Programming, "Format of a stored parameter".
"""

from __future__ import annotations

from pathlib import Path

from mousecmr_data.errors import FileLayoutError, MissingDataError

MAX_BYTES = 16 * 1024**2
"""A procpar has some 100 kB."""
FIELDS = 11
REAL = 1
Values = tuple[float, ...] | tuple[str, ...]


def read(path: Path) -> dict[str, Values]:
    """Parameters by name: real ones as numbers, others as text.

    Raises :class:`MissingDataError`, and :class:`FileLayoutError` where the file does not follow the format.
    """
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}.", "procpar beside the .fdf files")
    if path.stat().st_size > MAX_BYTES:
        raise FileLayoutError(f"{path.name} has {path.stat().st_size:,} bytes.", f"at most {MAX_BYTES:,}")
    lines = iter(path.read_text(encoding="latin-1").splitlines())
    found: dict[str, Values] = {}
    for line in lines:
        head = line.split()
        if not head:
            continue
        try:
            if len(head) < FIELDS:
                raise ValueError(f"{len(head)} fields instead of {FIELDS}")
            kind = int(head[2])
            number, *rest = next(lines).split(maxsplit=1)
            if kind == REAL:
                found[head[0]] = tuple(float(v) for v in "".join(rest).split())
                if len(found[head[0]]) != int(number):
                    raise ValueError(f"{len(found[head[0]])} values instead of {number}")
            else:
                more = [next(lines) for _ in range(int(number) - 1)]
                found[head[0]] = tuple(v.strip().strip('"') for v in ("".join(rest), *more))
            next(lines)  # what is allowed
        except (ValueError, StopIteration) as e:
            raise FileLayoutError(
                f"{path.name} is damaged or no procpar, at {head[0][:40]!r}: {e or 'it ends too early'}",
                "Agilent's parameter file",
            ) from e
    return found
