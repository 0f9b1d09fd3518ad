"""Publish by command to a hub on this machine; read the result without this package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ragged
from click.testing import CliRunner
from servers.hub import Hub

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.cohort import Cohort

pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")

NAME = "lab/ragged"

PUBLISH = """
import json, sys
from click.testing import CliRunner
from mousecmr_data.cli.main import main
results = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, ["publish", *arguments])
    results.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(results))
"""

READ = """
import hashlib, json, sys
sys.modules["mousecmr_data"] = None  # the reader does not have this package
import datasets, numpy as np

NAME = "lab/ragged"

def digest(array):
    array = np.asarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()

def digest_row(row):
    out = {k: v for k, v in row.items() if k not in ("image", "mask")}
    for name in ("image", "mask"):
        value = row[name]
        nifti = hasattr(value, "dataobj")
        out[name] = None if value is None else digest(np.asarray(value.dataobj).T if nifti else value)
        if nifti:
            out[name + "_affine"] = np.round(value.affine, 6).tolist()
    return out

found = {"configs": datasets.get_dataset_config_names(NAME), "default": datasets.get_dataset_default_config_name(NAME)}
for config in found["configs"]:
    for streaming in (False, True):
        data = datasets.load_dataset(NAME, config, streaming=streaming)
        found[f"{config} {streaming}"] = {split: [digest_row(row) for row in rows] for split, rows in data.items()}
found["splits"] = datasets.get_dataset_split_names(NAME, "labelled")
first, last = json.loads(sys.argv[1])
found["pinned"] = {
    sha: sorted(set(datasets.load_dataset(NAME, "cines", split="train", revision=sha)["mouse"]))
    for sha in (first, last)
}
numpy = datasets.load_dataset(NAME, "labelled", split="train").with_format("numpy", dtype=None)[0]
found["numpy"] = [str(numpy["image"].dtype), str(numpy["mask"].dtype)]
print(json.dumps(found))
"""


@dataclass
class Published:
    hub: Hub
    cohort: Cohort
    folder: Path
    results: list[list[Any]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Publish four times: refused, complete, again without a change, and a part of the mice."""
    root = tmp_path_factory.mktemp("hub")
    home = root / "home"
    home.mkdir()
    cohort = ragged.cohort(root)
    refused: list[str] = []

    def once(method: str, path: str) -> int | None:
        if method == "POST" and "/commit/" in path and not refused:
            refused.append(path)
            return 403
        return None

    common = ["--repo-id", NAME, "--source", str(root / "manifest"), "-o", str(root / "out"), "--json"]
    part = ["Pair", "Late", *common]
    with Hub(token="hf_secret") as hub:
        hub.fault = once
        more = {"MOUSECMR_MIRROR": (root / "files").as_uri(), "MOUSECMR_CACHE": str(root / "cache")}
        runs = [common, common, common, part]
        results = hub.run(PUBLISH, home, arguments=[json.dumps(runs)], **more)
        yield Published(hub, cohort, root / "out", results)


def expected(cohort: Cohort, config: str, split: str) -> list[dict[str, Any]]:
    """Return the rows as they are in the source files."""

    def digest(array: np.ndarray) -> str:
        array = np.ascontiguousarray(array)
        return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()

    rows = []
    for name in ragged.SPLITS[split]:
        ds = cohort[name].load()
        labelled = list(ragged.LABELLED[name])
        about = {"mouse": name, "split": split, "phenotype": "not published", "synthetic": False}
        if config == "cines":
            mask = ds["mask"].values[labelled]
            squeezed = mask[0] if len(labelled) == 1 else mask
            affine = np.diag([0.1, 0.1, 1.0, 1.0]).tolist()
            rows.append(
                {
                    **about,
                    "image": digest(ds.image.values),
                    "image_affine": affine,
                    "mask": digest(squeezed) if labelled else None,
                    **({"mask_affine": affine} if labelled else {}),
                    "slices": ds.sizes["slice"],
                    "frames": ds.sizes["frame"],
                    "labelled_frames": labelled,
                    "phase": ds.phase.values.tolist(),
                    "spacing": [1.0, 0.1, 0.1],
                    "time": ds.time.values.tolist(),
                }
            )
            continue
        for frame in labelled if config == "labelled" else range(ds.sizes["frame"]):
            for position in range(ds.sizes["slice"]):
                one = ds.isel(frame=frame, slice=position)
                rows.append(
                    {
                        **about,
                        "image": digest(one.image.values),
                        "mask": digest(one["mask"].values) if frame in labelled else None,
                        "slice": position,
                        "frame": frame,
                        "phase": str(one.phase.values),
                        "labelled": frame in labelled,
                        "spacing": [0.1, 0.1],
                        "slice_thickness": 1.0,
                        "time": float(one.time),
                    }
                )
    return rows


def test_a_refused_upload_changes_nothing_and_continues(published: Published) -> None:
    refused, whole, again, part = published.results
    assert refused[0] == 1
    assert "The hub did not accept lab/ragged" in refused[2]
    assert [whole[0], again[0], part[0]] == [0, 0, 0]
    first, second, third = (json.loads(r[1]) for r in (whole, again, part))
    assert first["commit"] == second["commit"], "nothing changed: no commit"
    assert third["commit"] != first["commit"]
    repository = published.hub.repositories[NAME]
    assert [sha for sha, _ in repository.commits][1:] == [first["commit"], third["commit"]], "one commit per upload"
    assert len(published.hub.asked("PUT /lfs")) == 9 + 3, "files on the hub are not sent again (Late is unchanged)"
    remote = {p for p in repository.commits[-1][1] if p.endswith(".parquet")}
    assert {p.split("/")[1].split("-")[0] for p in remote} == {"train", "validation"}, "files of other mice are deleted"


def test_the_dataset_is_read_bit_for_bit_without_this_package(published: Published, tmp_path: Path) -> None:
    commits = [sha for sha, _ in published.hub.repositories[NAME].commits]
    whole, part = commits[-2:]
    published.hub.repositories[NAME].commits.append(published.hub.repositories[NAME].at(whole))  # type: ignore[arg-type]
    found = published.hub.run(READ, tmp_path, arguments=[json.dumps([whole, part])])
    assert (found["configs"], found["default"]) == (["labelled", "slices", "cines"], "labelled")
    assert found["splits"] == list(ragged.SPLITS)
    for config in found["configs"]:
        for streaming in (False, True):
            for split in ragged.SPLITS:
                assert found[f"{config} {streaming}"][split] == expected(published.cohort, config, split)
    assert found["pinned"] == {whole: ["Inflow", "None", "Pair"], part: ["Pair"]}
    assert found["numpy"] == ["uint16", "uint8"]
    assert published.hub.asked("POST .*(telemetry|paths-info)") == []


def test_a_phantom_is_never_published_as_real(phantom_cache: Path, tmp_path: Path) -> None:
    arguments = ["publish", "Mouse5", "--source", "phantom", "--cache", str(phantom_cache), "--dry-run"]
    result = CliRunner().invoke(main, [*arguments, "--repo-id", "lab/mice", "-o", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert "'synthetic' or 'phantom' in the name" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_dry_run_sends_nothing(tmp_path: Path) -> None:
    ragged.cohort(tmp_path, synthetic=True)
    arguments = ["publish", "Pair", "--source", str(tmp_path / "manifest"), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(
        main, [*arguments, "--dry-run", "--repo-id", "lab/mice-phantom", "-o", str(tmp_path / "x")]
    )
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.stderr
    assert "Nothing was sent" in result.stdout
    assert (tmp_path / "x" / "README.md").read_text().count("SYNTHETIC DATA") == 1


def test_cite() -> None:
    result = CliRunner().invoke(main, ["cite"])
    assert result.exit_code == 0
    assert [line.split("{")[0] for line in result.stdout.splitlines() if line.startswith("@")] == [
        "@article", "@misc", "@misc",
    ]  # fmt: skip
    paper = json.loads(CliRunner().invoke(main, ["cite", "paper", "--json"]).stdout)
    assert list(paper) == ["paper"]
    assert "cff-version: 1.2.0" in CliRunner().invoke(main, ["cite", "--cff"]).stdout
    phantom = CliRunner().invoke(main, ["cite", "--source", "phantom", "paper", "data"])
    assert "SYNTHETIC" in phantom.stdout
    assert "has no paper to cite" in phantom.stderr


def test_convert_to_nnunet(tmp_path: Path) -> None:
    ragged.cohort(tmp_path)
    source = ["--source", str(tmp_path / "manifest"), "--cache", str(tmp_path / "cache")]
    wrong = CliRunner().invoke(main, ["convert", *source, "--to", "nnunet"])
    assert wrong.exit_code == 2
    assert "give -o FOLDER" in wrong.stderr
    target = tmp_path / "Dataset130_MouseCMR"
    result = CliRunner().invoke(main, ["convert", *source, "--to", "nnunet", "-o", str(target), "--json"])
    assert json.loads(result.stdout)["format"] == "nnunet"
    assert len(list((target / "imagesTr").iterdir())) == 8
    nii = CliRunner().invoke(main, ["convert", "Pair", *source, "--to", "nifti", "-o", str(tmp_path / "nii")])
    assert nii.exit_code == 0, nii.output
    ds = mousecmr_data.open_mouse("Pair", source=tmp_path / "manifest", cache=tmp_path / "cache")
    nib = pytest.importorskip("nibabel", reason="the extra 'formats' is not installed")
    cine = nib.load(tmp_path / "nii" / "Pair" / "Pair_cine.nii.gz")
    np.testing.assert_array_equal(np.asarray(cine.dataobj).T, ds.image)
