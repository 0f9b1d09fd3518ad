"""Write cohorts for others: Hugging Face hub, NIfTI, nnU-Net; with dataset card, datasheet, Croissant, citation."""
