"""A network of MONAI, trained, and a mouse segmented with it."""

from dataclasses import replace

import mousecmr_data
from mousecmr_data.training import get_recipe, train

train_mice = mousecmr_data.load(mice=["Mouse4", "Mouse8"], source="phantom", size="small")
validation = mousecmr_data.load(mice=["Mouse5"], source="phantom", size="small")
unet = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
config = replace(get_recipe("published"), epochs=1, network="monai.networks.nets:UNet", network_args=unet)
predictor = train(train_mice, validation, "run", config)
print(predictor.segment(validation["Mouse5"])["predicted"].shape)
