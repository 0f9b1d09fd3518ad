"""Shared helpers: atomic writing, checksums, JSON, locks, notices, worker pools and progress."""
