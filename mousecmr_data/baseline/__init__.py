"""Floor 4: the reference network, its weights, training and inference."""
