"""Floor 0: what is true of the dataset. Reads manifests, and nothing else, from disk."""
