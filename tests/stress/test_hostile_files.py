"""Damaged files and bombs: each is read or refused with words; this process never crashes, memory stays small."""

import os
import random
import shutil
from pathlib import Path

import hostile_files as hostile
import pytest

pytest.importorskip("pydicom", reason="the extra formats is not installed")

from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data.errors import MouseCMRError, ProcessError
from mousecmr_data.formats.discover import collect_inputs
from mousecmr_data.formats.read import read_scan

COUNT = 100 if os.environ.get("MOUSECMR_STRESS") else 10
MAX_PEAK = 600e6
"""Bytes that all processes together may take more than at the start: a child with its imports takes 200 MB."""


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["HDF5", "NIfTI", "DICOM"])
def test_hostile_files(kind: str, tmp_path: Path) -> None:
    outcomes: dict[str, int] = {}
    with hostile.measure_peak() as start:
        pass
    with hostile.measure_peak() as peak:
        for seed in range(COUNT):
            path = hostile.write_hostile(kind, tmp_path / str(seed), random.Random(seed))
            with collect_inputs([path], tmp_path) as (scans, refused):
                assert scans or refused, seed
                for scan in scans:
                    try:
                        ds = read_in_child(read_scan, scan.name, scan)
                        assert ds["image"].size, seed
                        outcome = "read"
                    except MouseCMRError as e:
                        assert e.found, seed
                        outcome = "ended" if isinstance(e, ProcessError) else "refused"
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                outcomes["refused"] = outcomes.get("refused", 0) + len(refused)
            shutil.rmtree(path.parent)
    print(kind, outcomes, f"peak {(peak[0] - start[0]) / 1e6:.0f} MB")
    assert outcomes["refused"] >= COUNT / 10
    assert peak[0] - start[0] < MAX_PEAK
