"""Batches of labelled slices for PyTorch, and of whole stacks."""

import torch

import mousecmr_data
from mousecmr_data.adapters import torch as mouse_torch

cohort = mousecmr_data.load(mice=["Mouse5", "Mouse19"], source="phantom", size="small")
for kind in ("slices", "stacks"):
    data = mouse_torch.dataset(cohort, kind)
    loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True, collate_fn=mouse_torch.collate)
    batch = next(iter(loader))
    print(kind, len(data), [tuple(image.shape) for image in batch["image"]], batch["mouse"])
