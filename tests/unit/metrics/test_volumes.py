from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from layout_files import arrays, write

import mousecmr_data as md
from mousecmr_data.errors import FileLayoutError, LabelError, UnitsError, UnlabelledError


@pytest.fixture
def ds(tmp_path: Path) -> xr.Dataset:
    return md.open_mouse(write(tmp_path / "m.h5"), spacing=(1.0, 0.1, 0.1))


def test_definitions(ds: xr.Dataset) -> None:
    m = md.measure(ds)
    _, masks = arrays()
    edv, esv = (np.count_nonzero(masks[..., f] == 2) * 0.01 for f in (0, 2))
    mass = np.count_nonzero(masks[..., 0] == 1) * 0.01 * 1.05
    assert m.edv_ul == pytest.approx(edv)
    assert m.esv_ul == pytest.approx(esv)
    assert m.sv_ul == pytest.approx(edv - esv)
    assert m.ef_percent == pytest.approx(100 * (edv - esv) / edv)
    assert m.mass_ed_mg == pytest.approx(mass)
    assert m.frames["phase"].tolist() == ["ED", "ES"]
    assert m.frames["time_ms"].tolist() == [0.0, 10.0]


def test_volumes_scale_with_the_voxel(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5")
    small = md.measure(md.open_mouse(path, spacing=(1.0, 0.1, 0.1)))
    large = md.measure(md.open_mouse(path, spacing=(0.5, 0.2, 0.3)))
    assert large.edv_ul == pytest.approx(3 * small.edv_ul)
    assert large.ef_percent == pytest.approx(small.ef_percent)


def test_missing_is_not_zero(tmp_path: Path) -> None:
    m = md.measure(md.open_mouse(write(tmp_path / "m.h5", labelled=(2,))))
    assert np.isnan([m.edv_ul, m.esv_ul, m.sv_ul, m.ef_percent, m.mass_ed_mg, m.mass_es_mg]).all()
    assert m.to_dict()["ef_percent"] is None
    assert m.frames["phase"].tolist() == ["unknown"]
    assert m.frames["blood_pool_ul"].item() > 0


def test_no_labelled_frame_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnlabelledError, match="not an empty ventricle"):
        md.measure(md.open_mouse(write(tmp_path / "m.h5", labelled=())))


def test_the_voxel_size_is_read_from_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", attrs={"voxel_size_mm": [0.8, 0.1, 0.12], "frame_time_ms": 4.0, "synthetic": True})
    ds = md.open_mouse(path)
    assert md.measure(ds).voxel_size_mm == pytest.approx((0.8, 0.1, 0.12))
    assert ds.time.values[1] == 4.0
    assert md.measure(ds).synthetic is True


def test_crops_and_flips_do_not_change_the_volume(ds: xr.Dataset) -> None:
    whole = md.measure(ds).edv_ul
    assert md.measure(ds.isel(y=slice(2, 22), x=slice(None, None, -1))).edv_ul == pytest.approx(whole)
    assert md.measure(ds.isel(slice=slice(None, None, -1))).edv_ul == pytest.approx(whole)
    one = sum(md.measure(ds.isel(slice=[i])).edv_ul for i in range(3))
    assert one == pytest.approx(whole)


def test_voxel_sizes_are_never_assumed(ds: xr.Dataset) -> None:
    with pytest.raises(UnitsError, match="slices are missing"):
        md.measure(ds.isel(slice=[0, 2]))
    with pytest.raises(UnitsError, match="no coordinate 'y'"):
        md.measure(ds.drop_vars("y"))
    metres = ds.copy()
    metres["x"].attrs["units"] = "m"
    with pytest.raises(UnitsError, match="units 'm'"):
        md.measure(metres)
    with pytest.raises(UnitsError, match="not evenly spaced"):
        md.measure(ds.isel(x=[0, 1, 3]))
    bare = ds.copy()
    del bare["z"].attrs["slice_thickness"]
    with pytest.raises(UnitsError, match="slice thickness"):
        md.measure(bare)


def test_what_is_no_dataset_of_the_cine_model_is_named(ds: xr.Dataset) -> None:
    with pytest.raises(UnlabelledError, match="no variable 'predicted'"):
        md.measure(ds, mask="predicted")
    with pytest.raises(FileLayoutError, match="has the dimensions"):
        md.measure(ds.assign(flat=ds["mask"].isel(slice=0)), mask="flat")
    with pytest.raises(UnlabelledError, match="no coordinate 'phase'"):
        md.measure(ds.drop_vars("phase"))


@pytest.mark.parametrize("size", [(1.0, 0.1), (1.0, 0.1, 0.0), (1, "a", 1), (np.nan, 0.1, 0.1), 3])
def test_invalid_voxel_sizes_are_rejected(tmp_path: Path, size: object) -> None:
    with pytest.raises(UnitsError, match="voxel size"):
        md.open_mouse(write(tmp_path / "m.h5"), spacing=size)  # type: ignore[arg-type]


def test_unknown_labels_in_memory_are_rejected(ds: xr.Dataset) -> None:
    for value in (3.0, np.nan, -1.0, 0.5):
        bad = ds.load().assign(mask=ds.mask.astype("float32"))
        bad["mask"][0, 0, 0, 0] = value
        with pytest.raises(LabelError):
            md.measure(bad)


def test_real_stack(real_mouse: Path) -> None:
    ds = md.open_mouse(real_mouse)
    assert dict(ds.sizes) == {"frame": 1, "slice": 10, "y": 256, "x": 256}
    m = md.measure(ds)
    assert m.frames["blood_pool_ul"].item() == pytest.approx(29.5, rel=0.005)
    assert m.frames["mass_mg"].item() == pytest.approx(120, rel=0.005)
    assert m.to_dict()["ef_percent"] is None
    assert "not in the file" in m.voxel_size_source
