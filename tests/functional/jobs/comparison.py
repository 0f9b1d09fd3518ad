"""Two results of the same mice: paired differences with intervals and p."""

import numpy as np

import mousecmr_data
from mousecmr_data.evaluation import compare_results, read_result

cohort = mousecmr_data.load("validation", source="phantom", size="small")
truth = {name: ds.mask.values for name, ds in cohort.items()}
for name, shift in (("a", 0), ("b", 1)):
    masks = {mouse: np.roll(mask, shift, axis=-1) for mouse, mask in truth.items()}
    mousecmr_data.evaluate(masks, cohort).write(f"{name}.json")
print(compare_results(read_result("a.json"), read_result("b.json")).table)
