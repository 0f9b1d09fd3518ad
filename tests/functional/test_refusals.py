"""What the system refuses (permission, a failing disk, too many open files, no locks) is not called damage."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hostile_files as hostile
import layout_files
import nibabel
import numpy as np
import pytest
import scanner_files

from mousecmr_data._utils import checksums, locks, outputs
from mousecmr_data._utils.hdf5 import open_hdf5
from mousecmr_data._utils.locks import hold_lock, keep_alive, remove_abandoned, try_lock
from mousecmr_data._utils.reading import check_access
from mousecmr_data.api import open_mouse
from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.dataset.layout_cache import LayoutCache
from mousecmr_data.dataset.zarr_store import SHARD_PATH, ZarrArray, create_store, write_mouse
from mousecmr_data.errors import FileLayoutError, LockError, MissingDataError, MouseCMRError, ReadError
from mousecmr_data.evaluation.result import read_result
from mousecmr_data.formats.archive import unpack_archive
from mousecmr_data.formats.dicom import load_dicom
from mousecmr_data.formats.discover import collect_inputs, find_scans
from mousecmr_data.formats.fdf import read_fdf_header, read_procpar
from mousecmr_data.formats.nifti import read_nifti
from mousecmr_data.pipeline.batch import read_prediction_attrs
from mousecmr_data.pipeline.writers import read_record

FAILING = Path("/proc/self/mem")
"""A file that can be opened, and whose first byte gives EIO, like one on a failing disk."""
needs_proc = pytest.mark.skipif(not FAILING.exists(), reason="no /proc/self/mem on this system")
NO_LOCKS = [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EROFS]


def read_keras(path: Path) -> object:
    pytest.importorskip("torch")
    from mousecmr_data.models.keras import read_keras_weights

    return read_keras_weights(path)


def read_tensors(path: Path) -> object:
    pytest.importorskip("torch")
    from mousecmr_data.models import safetensors

    return safetensors.read_tensors(path)


def read_pair(path: Path) -> object:
    path.with_suffix(".hdr").write_bytes(bytes(nibabel.AnalyzeHeader().binaryblock))  # type: ignore[attr-defined]
    return read_nifti(path)


READERS: dict[str, Callable[[Path], object]] = {
    "m.h5": open_mouse_file,
    "masks.h5": lambda path: read_prediction_attrs(path),
    "weights.h5": read_keras,
    "weights.safetensors": read_tensors,
    "m.nii": read_nifti,
    "m.nii.gz": read_nifti,
    "m.nrrd": read_nifti,
    "m.mha": read_nifti,
    "m.img": lambda path: read_pair(path),
    "m.dcm": load_dicom,
    "m.fdf": lambda path: open_found(path),
    "m.zip": lambda path: unpack_archive(path, path.with_name("into")),
    "scores.json": read_result,
    "read": checksums.read_intact,
    "record.json": outputs.read_listed_files,
    "result.json": lambda path: read_record(path.parent),
    "index.journal": lambda path: LayoutCache(path.parent).read_entries(),
    checksums.CHECKSUMS_FILE: lambda path: checksums.has_checksums(path.parent),
}


def open_found(path: Path) -> object:
    from mousecmr_data.formats.read import read_scan

    return read_scan(find_scans(path)[0])


@needs_proc
@pytest.mark.parametrize("name", READERS)
def test_a_disk_that_fails_is_not_called_damage(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.symlink_to(FAILING)
    with pytest.raises(ReadError, match=r"Input/output error") as error:
        READERS[name](path)
    assert str(tmp_path) in str(error.value)
    assert "damaged" not in str(error.value)


@contextmanager
def no_more_files() -> Iterator[None]:
    """No further file can be opened in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", ["m.h5", "m.nii", "m.nii.gz", "m.dcm", "m.zip"])
def test_too_many_open_files_are_not_called_damage(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "m.h5":
        layout_files.write(path)
    elif name == "m.dcm":
        scanner_files.dicom_enhanced(np.ones((2, 2, 8, 8), np.uint16), path)
    elif name == "m.zip":
        hostile.write_zip(path, {"a.txt": b"a"})
    else:
        hostile.write_nifti(path)
    READERS[name](path)
    path.with_name("into").exists() and path.with_name("into").rename(path.with_name("before"))
    with no_more_files(), pytest.raises(MouseCMRError) as error:
        READERS[name](path)
    assert isinstance(error.value, ReadError), error.value
    assert "ulimit -n 4096" in str(error.value)


def test_a_store_of_a_failing_disk_is_kept_and_its_mouse_read_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = open_mouse_file(layout_files.write(tmp_path / "m.h5"))
    with create_store(tmp_path / "s.zarr") as (folder, entries):
        entries["m"] = write_mouse(folder, "m", ds)
    shape = entries["m"].shape
    shard = tmp_path / "s.zarr" / "m" / "image" / SHARD_PATH
    whole = ZarrArray(str(tmp_path / "s.zarr"), "m/image", shape, "uint16")
    assert np.array_equal(whole.read_all(), ds["image"])
    content = shard.read_bytes()

    def fail(*_: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        with pytest.raises(ReadError, match="Stale file handle"):
            whole.read_all()
    shard.write_bytes(content[:-1])
    with pytest.raises(FileLayoutError):
        whole.read_all()
    shard.unlink()
    with pytest.raises(FileLayoutError, match="are missing"):
        whole.read_all()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permissions(tmp_path: Path) -> None:
    path = layout_files.write(tmp_path / "m.h5")
    path.chmod(0)
    with pytest.raises(ReadError, match=r"Permission denied(.|\n)*chmod"):
        open_mouse(path)


def test_pointers_and_the_errors_of_hdf5_in_words(tmp_path: Path) -> None:
    lfs, annexed = tmp_path / "a.nii.gz", tmp_path / "b.h5"
    lfs.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    annexed.write_text("/annex/objects/MD5E-s3301614--0123.h5\n")
    with pytest.raises(MissingDataError, match="git lfs pull --include"):
        read_nifti(lfs)
    with pytest.raises(MissingDataError, match="datalad get"):
        open_mouse_file(annexed)
    sound = layout_files.write(tmp_path / "c.h5")
    with pytest.raises(ReadError, match="HDF5_USE_FILE_LOCKING=FALSE"):
        check_access(OSError("Unable to open file (unable to lock file, errno = 37, error message = 'x')"), sound)
    with pytest.raises(ReadError, match="more memory"):
        check_access(MemoryError(), sound)
    check_access(OSError(errno.EINVAL, "Invalid argument"), sound)  # such as a jump before the start: damage


def test_a_file_that_this_process_has_open_with_locks_can_be_read(tmp_path: Path) -> None:
    path = layout_files.write(tmp_path / "m.h5")
    for locking in (None, True, False, "best-effort"):
        with h5py.File(path, locking=locking), open_hdf5(path) as f:
            assert "Images" in f


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_locks_files_are_read_and_writing_says_what_to_do(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LockError, match=r"no locks(.|\n)*MOUSECMR_CACHE"), hold_lock(tmp_path, "m"):
        pass
    for _ in range(2):
        with try_lock(tmp_path, "m"):
            pass
    assert len([r for r in caplog.records if "one program at a time" in r.message]) == 1
    temporary = tmp_path / "mousecmr-in-use"
    temporary.mkdir()
    monkeypatch.setattr(locks, "MIN_AGE_SECONDS", -1)
    with keep_alive(temporary):
        remove_abandoned(tmp_path, "mousecmr-")
    assert temporary.exists(), "it may be in use"
    path = hostile.write_nifti(tmp_path / "study" / "m.nii")
    with collect_inputs([path]) as (scans, refused):
        assert [s.name for s in scans] == ["m"]
        assert refused == []


NO_FLOCK = """#include <errno.h>
#include <sys/file.h>
int flock(int fd, int op) { errno = %d; return -1; }
"""


@pytest.mark.parametrize("number", NO_LOCKS)
def test_hdf5_files_on_a_disk_without_locks(number: int, tmp_path: Path) -> None:
    source, library = tmp_path / "no_flock.c", tmp_path / "no_flock.so"
    source.write_text(NO_FLOCK % number)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f"no C compiler: {e}")
    path = layout_files.write(tmp_path / "m.h5")
    done = subprocess.run(
        [sys.executable, "-m", "mousecmr_data.cli.main", "measure", str(path), "--spacing", "1.0", "0.1", "0.1"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "EF %" in done.stdout


def test_the_fetch_of_a_cache_without_locks_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    from mousecmr_data.api import fetch

    folder = layout_files.lab(tmp_path / "lab", {"M1": (0, 2)})
    other: Any = OSError(errno.ENOLCK, "No locks available")

    def refuse(*_: object) -> None:
        raise other

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("MOUSECMR_MIRROR", str(folder / "files"))
    with pytest.raises(MouseCMRError, match=r"no locks(.|\n)*MOUSECMR_CACHE"):
        fetch(source=folder, cache=tmp_path / "cache")


def test_an_fdf_header_and_a_procpar(tmp_path: Path) -> None:
    for read, name in ((read_fdf_header, "x.fdf"), (read_procpar, "procpar")):
        with pytest.raises(MissingDataError, match="There is no file"):
            read(tmp_path / name)
        with pytest.raises(FileLayoutError, match="is not a file"):
            read(tmp_path)
