"""One mouse as arrays: image and mask at end-diastole, voxel size and ejection fraction."""

import mousecmr_data

mouse = mousecmr_data.load(split="validation", source="phantom", size="small")["Mouse5"]
ed = mouse.isel(frame=(mouse.phase == "ED").values)
image, mask = ed.image.values, ed.mask.values  # (1, slice, y, x)
print(image.shape, image.dtype, sorted(set(mask.ravel().tolist())), mousecmr_data.measure(mouse).ef_percent)
