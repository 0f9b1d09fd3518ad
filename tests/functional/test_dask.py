"""dask arrays, and a cohort-wide computation on a cluster of two local workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import lab

import mousecmr_data as md

dask = pytest.importorskip("dask", reason="the extra 'dask' is not installed")
distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3), "C": (1, 2)})


def summarise(cohort: Any) -> dict[str, tuple[float, list[float]]]:
    """Return the mean intensity and the volume of the blood pool over the labelled frames."""
    lazy = {
        ds.attrs["mouse"]: (ds.image.mean(), (ds["mask"] == 2).sum(["slice", "y", "x"])[ds.labelled.values])
        for ds in cohort.values()
    }
    (computed,) = dask.compute(lazy)
    return {m: (float(mean), volume.values.tolist()) for m, (mean, volume) in computed.items()}


@pytest.mark.parametrize("stored", [False, True])
def test_chunks(source: Path, tmp_path: Path, stored: bool) -> None:
    if stored:
        md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    ds = md.load(source=tmp_path / "lab.zarr" if stored else source, chunks={})["B"]
    assert ds.image.chunks == ((1,) * 5, (4,), (24,), (20,))
    assert md.load(source=source, chunks={"frame": 5, "slice": 2})["B"].image.chunks[1] == (2, 2)
    np.testing.assert_array_equal(ds.image, md.load(source=source)["B"].image)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.enable_socket
def test_a_cluster_gives_the_results_of_one_process(source: Path) -> None:
    serial = summarise(md.load(source=source, chunks={}))
    plain = {ds.attrs["mouse"]: float(ds.image.mean()) for ds in md.load(source=source).values()}
    assert {m: mean for m, (mean, _) in serial.items()} == pytest.approx(plain)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", processes=True
        ) as cluster,
        distributed.Client(cluster),
    ):
        assert summarise(md.load(source=source, chunks={})) == serial
