"""Weights that ship with the package, trained further."""

from dataclasses import replace

import mousecmr_data
from mousecmr_data.training import get_recipe, train

train_mice = mousecmr_data.load(mice=["Mouse4"], source="phantom", size="small")
validation = mousecmr_data.load(mice=["Mouse5"], source="phantom", size="small")
config = replace(get_recipe("published"), initial="phantom-small", epochs=1)
predictor = train(train_mice, validation, "tuned", config)
again = mousecmr_data.load_model("tuned/best.safetensors", engine="eager")
print(again.segment(validation["Mouse5"].isel(frame=[0]))["predicted"].shape)
