"""Floor 4: agreement with the ground truth and with the published numbers; figures."""
