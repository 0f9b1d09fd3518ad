"""What can go wrong with one transfer, sorted by what to do next. Never seen outside this floor."""

from __future__ import annotations


class TransferError(Exception):
    """A transfer failed. ``str()`` is a reason for people, free of tokens and signed query strings."""


class TransientError(TransferError):
    """May be gone in a moment: try this URL again. ``wait``: the seconds the host asked for."""

    def __init__(self, reason: str, wait: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait = wait
        self.reached = reached
        """Whether the host answered at all."""


class PermanentError(TransferError):
    """This URL will not deliver: try the next source."""


class NotFoundError(PermanentError):
    """The host has no such file."""


class ChecksumMismatch(PermanentError):
    """The host delivered, but not the file that the manifest names."""


class Cancelled(Exception):
    """The user pressed Ctrl-C, or the run was given up; what has arrived stays for the next run."""
