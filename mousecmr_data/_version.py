"""The version of this package; in its own module, so that other modules need not import the package's root."""

__version__ = "0.1.0"
"""Version of this package, as text; docs/versions.md says what its numbers mean."""
