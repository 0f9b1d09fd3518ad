"""Broken uploads: an error in words or a result, never another exception, and no file left behind."""

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
    """A sound upload of each kind, as a file or an archive."""
    box = tmp_path_factory.mktemp("seeds")
    images = np.random.default_rng(0).integers(0, 4000, (2, 3, 24, 20)).astype(np.uint16)
    array, affine = images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(array, affine), box / "a.nii")  # type: ignore[no-untyped-call,attr-defined]
    nibabel.save(nibabel.Nifti1Image(array, affine), box / "a.nii.gz")  # type: ignore[no-untyped-call,attr-defined]
    write_hdf5(box / "a.h5")
    scanner.dicom_enhanced(images, box / "e.dcm")
    scanner.dicom_classic(images, box / "classic")
    scanner.fdf(images, box / "x.img")
    scanner.bruker(images, box / "5" / "pdata" / "1")
    found = [(p.name, p.read_bytes()) for p in sorted(box.iterdir()) if p.is_file()]
    for folder in (p for p in sorted(box.iterdir()) if p.is_dir()):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as z:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                z.write(path, path.relative_to(box))
        found.append((f"{folder.name}.zip", content.getvalue()))
    return found


def broken(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut off, doubled, shuffled or left as they are."""
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


def broken_archive(content: bytes, rng: np.random.Generator) -> bytes:
    """An archive that is sound, with files in it that are not."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if rng.random() < 0.1:
                continue
            data = old.read(name)
            new.writestr(name, broken(data, rng) if rng.random() < 0.3 else data)
    return out.getvalue()


def test_broken_uploads(seeds: list[tuple[str, bytes]], tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    read = refused = 0
    for k in range(UPLOADS):
        name, content = seeds[k % len(seeds)]
        data = broken_archive(content, rng) if name.endswith(".zip") and rng.random() < 0.6 else broken(content, rng)
        upload, scratch = tmp_path / f"up{k}" / name, tmp_path / "scratch"
        upload.parent.mkdir()
        scratch.mkdir(exist_ok=True)
        upload.write_bytes(data)
        with collect_inputs([upload], scratch) as (found, none):
            refused += len(none)
            for one in found:
                try:
                    read_scan(one)
                    read += 1
                except MouseCMRError as e:
                    assert e.found
                    refused += 1
        assert list(scratch.iterdir()) == []
        assert [p.name for p in upload.parent.iterdir()] == [name]
    assert read > UPLOADS / 20
    assert refused > UPLOADS / 20
