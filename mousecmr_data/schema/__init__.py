"""Facts about the dataset: labels, phases, variable names and manifests. Reads only manifests from disk."""
