"""Two folds by mouse; each trains a network and scores its own mice."""

from dataclasses import replace

import mousecmr_data
from mousecmr_data.evaluation import merge_results, tabulate_mice
from mousecmr_data.training import get_recipe, train

cohort = mousecmr_data.load("validation", source="phantom", size="small")[:2]
config, results = replace(get_recipe("published"), initial="phantom-small", epochs=1), []
for k, (others, fold) in enumerate(cohort.folds(2, seed=0)):
    predictor = train(others, fold, f"fold-{k}", config)
    masks = {name: predictor.segment(ds.isel(frame=ds.labelled.values)) for name, ds in fold.items()}
    results.append(mousecmr_data.evaluate(masks, fold, strict=False))
print(tabulate_mice(merge_results(results))[["mouse", "mean_dice"]])
