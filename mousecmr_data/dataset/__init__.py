"""Labelled arrays from files: the cine model, cohorts, stores and caches."""
