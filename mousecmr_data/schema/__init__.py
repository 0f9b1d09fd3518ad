"""Facts about the dataset: labels, variables and phases, manifests, and the names of defaults.

The defaults are defined here, in a module that imports nothing, so that the command line's help is fast.

Where a fact names its source: "the authors' repository" is that of the dataset, at the version in its manifest
("repo" in manifests); "the authors' code", the functions in it ("code"); "the paper", the draft of the article
("paper"); "the abstract", the published one ("abstract").
"""

DEFAULT_DATASET = "mousecmr-130"
"""The real dataset."""
PHANTOM = "phantom"
"""The synthetic cohort that imitates the dataset."""
EXTERNAL_PHANTOMS = ("phantom-7T", "phantom-11.7T")
"""Those that stand in for the article's external test sets."""
SMALL_PHANTOM = "phantom-64"
"""The mice of :data:`PHANTOM` in 64 × 64 pixels and few frames: for teaching and tests."""
PHANTOMS = (PHANTOM, *EXTERNAL_PHANTOMS, SMALL_PHANTOM)
"""All synthetic cohorts."""
SPLIT_SCHEME = "upstream-notebook"
"""The default split scheme; custom manifests without it fall back to their first scheme."""
PUBLISHED_WEIGHTS = "mousecmr-9.4T-unet3plus"
"""The authors' published weights, the default. They are never replaced by other weights."""
SMALL_WEIGHTS = "phantom-small"
"""Weights that ship with the package, trained on synthetic mice only."""
HOST, PORT = "127.0.0.1", 7860
"""Address of the web page."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which spreadsheet programs take a cell for a formula. No name or path in a manifest has them."""
