"""Masks of any program, here of a network, scored against the experts' masks."""

import mousecmr_data
from mousecmr_data.evaluation import tabulate_agreement, tabulate_mice, tabulate_overlap

cohort = mousecmr_data.load(mice=["Mouse6", "Mouse10"], source="phantom")
predictor = mousecmr_data.load_model("phantom-small", engine="eager")
labelled = {name: ds.isel(frame=ds.labelled.values) for name, ds in cohort.items()}
masks = {name: predictor.segment(ds)["predicted"].values for name, ds in labelled.items()}
result = mousecmr_data.evaluate(masks, cohort)
print(tabulate_overlap(result), tabulate_mice(result), sep="\n")
print(tabulate_agreement(result)[["truth_mean", "bias", "lower", "upper"]])
result.write("result.json")
