"""Shared mechanisms, one owner each: atomic writing, checksums, locks, worker pools, progress."""
