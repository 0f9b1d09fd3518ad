"""The version of this package: its only owner, so that no module needs the package's root for it."""

__version__ = "0.1.0"
