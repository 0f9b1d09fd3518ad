from dataclasses import replace
from pathlib import Path

import pytest
from servers.cohort import manifest

from mousecmr_data.download.cache import (
    get_cache_root,
    get_dataset_folder,
    get_file_path,
    get_weights_folder,
    make_weights_entry,
)
from mousecmr_data.schema.manifest import load_manifest


def test_argument_then_variable_then_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "variable"))
    assert get_cache_root(tmp_path / "argument") == tmp_path / "argument"
    assert get_cache_root() == tmp_path / "variable"
    monkeypatch.setenv("MOUSECMR_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "system"))
    assert get_cache_root().name == "mousecmr"
    assert get_cache_root() != tmp_path / "variable"


def test_home_and_relative_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert get_cache_root("~/mice") == tmp_path / "mice"
    assert get_cache_root("mice") == tmp_path / "mice"


def test_one_folder_per_version(tmp_path: Path) -> None:
    tiny = manifest({"Data/Mouse1.h5": b""})
    folder = get_dataset_folder(tiny, tmp_path)
    assert folder == tmp_path / "tiny" / tiny.version[:12]
    assert get_dataset_folder(replace(tiny, version="f06f72a"), tmp_path) == tmp_path / "tiny" / "f06f72a"
    assert get_file_path(tiny, tiny.files["Mouse1"], tmp_path) == folder / "Data" / "Mouse1.h5"


def test_weights_are_kept_by_content(tmp_path: Path) -> None:
    weights = next(iter(load_manifest().weights.values()))
    entry = make_weights_entry(weights)
    folder = get_weights_folder(weights, tmp_path)
    assert folder == tmp_path / "weights" / weights.name / weights.sha256[:12]
    assert (entry.path, entry.sha256, entry.size) == ("SEG459.h5", weights.sha256, weights.size)
