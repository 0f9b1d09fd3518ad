"""Volumes, overlap, surface distances, agreement statistics and post-processing of masks."""
