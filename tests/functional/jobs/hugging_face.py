"""A cohort as a Dataset of Hugging Face, and batches of it for PyTorch."""

import torch

import mousecmr_data
from mousecmr_data.adapters import huggingface

cohort = mousecmr_data.load(mice=["Mouse5", "Mouse19"], source="phantom", size="small")
data = huggingface.dataset(cohort, "labelled").filter(lambda row: row["phase"] == "ED")
samples = huggingface.torch_samples(data)
loader = torch.utils.data.DataLoader(samples, batch_size=4, collate_fn=huggingface.collate)
print(data.num_rows, next(iter(loader))["image"].shape)
