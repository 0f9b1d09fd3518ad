"""Errors raised by this library.

Each message says what was found, what was expected and what to type next. Errors that correspond to a built-in type
also inherit from it, so ``except FileNotFoundError`` and ``except KeyError`` keep working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


def find_similar(name: object, names: Iterable[object]) -> str | None:
    """Return the one of ``names`` that a person who typed ``name`` probably meant, or None; capitals do not matter."""
    known = {str(n).lower(): str(n) for n in names}
    typed = str(name).strip().lower()
    longer = [n for n in known if typed and n.startswith(typed)]
    close = [typed] if typed in known else difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    best = longer[:1] if len(longer) == 1 else close
    return known[best[0]] if best else None


class MouseCMRError(Exception):
    """Base of all errors of this library.

    Parameters are plain sentences: ``found`` (what is wrong), ``expected`` (what should be) and ``next_step`` (what to
    type next). They are joined into the message and kept as attributes.
    """

    separator = "\n"
    """Between the parts of the message."""

    def __init__(self, found: str, expected: str | None = None, next_step: str | None = None) -> None:
        self.found, self.expected, self.next_step = found, expected, next_step
        parts = [found]
        if expected:
            parts.append(f"Expected: {expected}")
        if next_step:
            parts.append(f"Next: {next_step}")
        super().__init__(self.separator.join(parts))

    @classmethod
    def from_name(cls, kind: str, name: object, names: Iterable[object], next_step: str | None = None) -> Self:
        """Return the error for a ``kind`` called ``name`` that is none of ``names``; it suggests the most similar one,
        else ``next_step``."""
        known = [str(n) for n in names]
        similar = find_similar(name, known)
        expected = f"one of {', '.join(map(repr, known))}" if known else "there are none"
        return cls(f"There is no {kind} {name!r}.", expected, f"did you mean {similar!r}?" if similar else next_step)

    def __str__(self) -> str:  # KeyError would return the repr of its argument
        return str(self.args[0])

    def __reduce__(self) -> tuple[type, tuple[str, str | None, str | None]]:
        return type(self), (self.found, self.expected, self.next_step)


class ManifestError(MouseCMRError, ValueError):
    """A manifest folder is missing, incomplete or contradicts itself."""


class UnknownNameError(MouseCMRError, KeyError):
    """A mouse, split, split scheme, source or weights entry that does not exist."""


class ArgumentError(MouseCMRError, ValueError):
    """An argument has a value that is not valid here."""


class MissingDataError(MouseCMRError, FileNotFoundError):
    """Needed files are not on this disk and were not (or could not be) downloaded."""


class DownloadError(MouseCMRError, OSError):
    """No source delivered a file; the cache is unchanged."""


class ChecksumError(DownloadError):
    """The received bytes do not match the manifest."""


class UploadError(MouseCMRError, OSError):
    """A hub did not accept a dataset; its previous content is unchanged."""


class CacheError(MouseCMRError, OSError):
    """The cache folder cannot be used: not writable, full, or not a folder."""


class OutputError(CacheError):
    """An output may not be written: it exists, is or holds an input, was edited, or is not of this library."""


class LockError(CacheError):
    """The file system of a folder has no locks, so it cannot be written safely by several programs."""


class ReadError(MouseCMRError, OSError):
    """The system did not let a file be read; this says nothing about its content, which may be sound."""


class FileLayoutError(MouseCMRError, ValueError):
    """A file is not HDF5, is damaged, or does not have the dataset's layout."""


class ProcessError(MouseCMRError, RuntimeError):
    """The process that read or segmented a file crashed, took too long or needed too much memory."""


class LabelError(MouseCMRError, ValueError):
    """A mask has labels other than 0 (background), 1 (LV myocardium) and 2 (LV blood pool)."""


class UnitsError(MouseCMRError, ValueError):
    """A physical size is missing or contradicts itself, so no volume can be computed."""


class UnlabelledError(MouseCMRError, ValueError):
    """Ground truth is needed for frames that were not segmented."""


class PredictionError(MouseCMRError, ValueError):
    """Predictions are missing, or do not fit their mice."""


class MissingExtraError(MouseCMRError, ImportError):
    """An optional dependency is not installed; the message, one line, names the exact ``pip install``."""

    separator = " "

    @classmethod
    def from_module(cls, module: str, extra: str) -> MissingExtraError:
        """Return the error for a missing ``module`` that the extra ``extra`` installs."""
        return cls(
            f"The Python package {module!r} is not installed.", next_step=f"pip install 'mousecmr-data[{extra}]'"
        )
