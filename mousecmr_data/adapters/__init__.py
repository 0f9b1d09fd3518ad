"""Cohorts as datasets of other libraries: PyTorch and Hugging Face. Adapters do not import each other."""
