"""Errors of a single transfer, sorted by the next step. They do not leave this package."""

from __future__ import annotations


class TransferError(Exception):
    """A transfer failed. ``str()`` is a readable reason without tokens and signed query strings."""


class TransientError(TransferError):
    """A failure that may pass: retry this URL. ``wait``: the seconds that the host asked to wait."""

    def __init__(self, reason: str, wait: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait = wait
        self.reached = reached
        """Whether the host answered at all."""


class PermanentError(TransferError):
    """This URL will not deliver the file: try the next source."""

    def __init__(self, reason: str, concerns_host: bool = False) -> None:
        super().__init__(reason)
        self.concerns_host = concerns_host
        """Whether no file can be requested from the host: a proxy refuses, a certificate is unknown."""


class NotFoundError(PermanentError):
    """The host does not have the file."""


class ChecksumMismatch(PermanentError):
    """The host delivered bytes that do not match the manifest."""


class Cancelled(Exception):
    """Ctrl-C was pressed or the run was stopped; received bytes stay on disk for the next run."""
