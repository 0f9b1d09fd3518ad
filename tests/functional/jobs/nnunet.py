"""The mice as a dataset of nnU-Net, its planner, and masks that nnU-Net predicted, scored."""

import os
import shlex
import shutil
import subprocess

for name in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{name}"] = f"nnunet/{name}"
dataset = "nnunet/raw/Dataset064_Mice"
convert = f"mousecmr convert Mouse4 Mouse8 Mouse5 Mouse6 --source phantom-64 --to nnunet -o {dataset}"
for command in (convert, "nnUNetv2_plan_and_preprocess -d 64 --verify_dataset_integrity --no_pp -np 1"):
    subprocess.run(shlex.split(command), check=True)
shutil.copytree(f"{dataset}/labelsTs", "masks")  # instead of nnUNetv2_train, and nnUNetv2_predict -o masks
subprocess.run(shlex.split("mousecmr evaluate masks --source phantom-64 --mice Mouse6"), check=True)
