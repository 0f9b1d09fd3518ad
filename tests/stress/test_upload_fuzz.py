"""Damaged uploads give an error of the library or a result, never another exception, and leave no files."""

import io
import os
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import scanner_files as scanner
from layout_files import write as write_hdf5

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.discover import collect_inputs
from mousecmr_data.formats.read import read_scan

UPLOADS = 4000 if os.environ.get("MOUSECMR_STRESS") else 200
SEED = int(os.environ.get("MOUSECMR_SEED", "1"))
pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """A valid upload of each format, as a file or an archive."""
    folder = tmp_path_factory.mktemp("seeds")
    images = np.random.default_rng(0).integers(0, 4000, (2, 3, 24, 20)).astype(np.uint16)
    array, affine = images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / "a.nii")  # type: ignore[no-untyped-call,attr-defined]
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / "a.nii.gz")  # type: ignore[no-untyped-call,attr-defined]
    write_hdf5(folder / "a.h5")
    scanner.dicom_enhanced(images, folder / "e.dcm")
    scanner.dicom_classic(images, folder / "classic")
    scanner.fdf(images, folder / "x.img")
    scanner.bruker(images, folder / "5" / "pdata" / "1")
    uploads = [(p.name, p.read_bytes()) for p in sorted(folder.iterdir()) if p.is_file()]
    for subfolder in (p for p in sorted(folder.iterdir()) if p.is_dir()):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as z:
            for path in sorted(p for p in subfolder.rglob("*") if p.is_file()):
                z.write(path, path.relative_to(folder))
        uploads.append((f"{subfolder.name}.zip", content.getvalue()))
    return uploads


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the content with bytes changed, cut off, doubled, set to zero, or unchanged."""
    data = bytearray(content)
    match rng.integers(6):
        case 0:
            for at in rng.integers(0, len(data), rng.integers(1, 30)):
                data[at] = rng.integers(256)
        case 1:
            del data[rng.integers(len(data)) :]
        case 2:
            for at in rng.integers(0, min(len(data), 600), rng.integers(1, 12)):  # headers
                data[at] = rng.integers(256)
        case 3:
            start, n = rng.integers(len(data)), int(rng.integers(1, 200))
            data[start:start] = data[start : start + n]
        case 4:
            start, n = int(rng.integers(len(data))), int(rng.integers(1, 400))
            data[start : start + n] = bytes(n)
        case _:
            pass
    return bytes(data)


def damage_archive(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a valid archive with some damaged or missing files."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if rng.random() < 0.1:
                continue
            data = old.read(name)
            new.writestr(name, damage(data, rng) if rng.random() < 0.3 else data)
    return out.getvalue()


def test_damaged_uploads(seeds: list[tuple[str, bytes]], tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    read = refused = 0
    for k in range(UPLOADS):
        name, content = seeds[k % len(seeds)]
        data = damage_archive(content, rng) if name.endswith(".zip") and rng.random() < 0.6 else damage(content, rng)
        upload, scratch = tmp_path / f"up{k}" / name, tmp_path / "scratch"
        upload.parent.mkdir()
        scratch.mkdir(exist_ok=True)
        upload.write_bytes(data)
        with collect_inputs([upload], scratch) as (scans, refused_inputs):
            refused += len(refused_inputs)
            for scan in scans:
                try:
                    read_scan(scan)
                    read += 1
                except MouseCMRError as e:
                    assert e.found
                    refused += 1
        assert list(scratch.iterdir()) == []
        assert [p.name for p in upload.parent.iterdir()] == [name]
    assert read > UPLOADS / 20
    assert refused > UPLOADS / 20
