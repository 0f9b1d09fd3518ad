"""How a public name goes away: it works and warns first, and a test says when its time has come.

The policy is in docs/versions.md: the warning stands for two minor versions or six months, whichever is longer. The
category is FutureWarning, which Python shows to users by default. :data:`DEPRECATIONS` lists what is on its way out;
tests/house/test_promises.py fails once the version that removes it is reached.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from mousecmr_data.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Deprecation:
    """Something public that a later version removes."""

    what: str
    """What the caller typed: "mousecmr_data.old" or "the argument old of mousecmr_data.name"."""
    instead: str
    """What to type instead."""
    since: str
    """The version that began to warn."""
    removed_in: str
    """The version that removes it."""

    def warn(self, stacklevel: int = 2) -> None:
        """Warn the caller of the function that calls this method."""
        text = f"{self.what} is deprecated since {self.since}, and {self.removed_in} removes it. Next: {self.instead}"
        warnings.warn(text, FutureWarning, stacklevel=stacklevel + 1)


DEPRECATIONS: list[Deprecation] = []
"""What this process has imported that is on its way out."""


def deprecated(what: str, instead: str, *, since: str, removed_in: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator with which a function works as before, and warns at each call."""
    deprecation = Deprecation(what, instead, since, removed_in)
    DEPRECATIONS.append(deprecation)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            deprecation.warn()
            return function(*args, **options)

        return call

    return decorate


def renamed_argument(old: str, new: str, *, since: str, removed_in: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator with which a function also takes the keyword ``new`` by its ``old`` name, and then warns.

    Raises :class:`~mousecmr_data.errors.ArgumentError` at a call with both.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        what = f"the argument {old} of {function.__module__}.{function.__qualname__}"
        deprecation = Deprecation(what, f"write {new}=", since, removed_in)
        DEPRECATIONS.append(deprecation)

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            if old in options:
                if new in options:
                    raise ArgumentError(
                        f"{function.__qualname__} got {old} and {new}.", f"only {new}", f"leave out {old}="
                    )
                deprecation.warn()
                options[new] = options.pop(old)
            return function(*args, **options)

        return call

    return decorate
