"""Write cohorts for others: Hugging Face hub, NIfTI, nnU-Net; with dataset card, datasheet, Croissant, citation."""

from mousecmr_data._utils.network import disable_telemetry

disable_telemetry()  # before huggingface_hub and datasets are imported
