"""What an error message says to type next is typed here, and works."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import layout_files
import pytest
from click.testing import CliRunner
from servers import faults
from servers.cohort import write_manifest
from servers.host import Host

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.download.bundle import create_bundle
from mousecmr_data.download.cache import get_weights_folder
from mousecmr_data.download.fetch import fetch_weights
from mousecmr_data.schema.manifest import read_manifest

NETWORK = b"\x89HDF weights" * 500


def follow(error: object, *more: str) -> str:
    """Type the commands after "Next:", up to an explanation or an alternative; return the output."""
    advice = re.split(r"  |; or|, with a FILE|, then the name|\)$", str(error).partition("Next: ")[2].strip())[0]
    output = ""
    for command in map(shlex.split, advice.split(";")):
        if command[0] == "unset":
            os.environ.pop(command[1])
        elif command[0] == "rm":
            Path(command[1]).unlink()
        else:
            start = command.index("mousecmr")  # after words such as "check the path, or make a store:"
            result = CliRunner().invoke(main, [*command[start + 1 :], *more])
            assert result.exit_code == 0, f"{command}: {result.output}"
            output += result.output
    return output


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Serve three small mice and weights."""
    files = {
        f"Data/{m}.h5": layout_files.write(tmp_path / "files" / f"{m}.h5").read_bytes() for m in ("M1", "M2", "M3")
    }
    with Host(files | {"net.h5": NETWORK}) as host:
        yield host


@pytest.fixture
def source(host: Host, tmp_path: Path) -> Path:
    """A manifest of these files, in a folder whose name has a space."""
    mice = {path: body for path, body in host.files.items() if path.startswith("Data")}
    folder = write_manifest(tmp_path / "my manifest", mice, host.template)
    sha256 = hashlib.sha256(NETWORK).hexdigest()
    (folder / "weights.toml").write_text(
        f'[[weights]]\nname = "net"\npath = "net.h5"\nurl = "{host.template}"\nsha256 = "{sha256}"\n'
        f'size = {len(NETWORK)}\nlicence = ""\nchannels = [1]\nclasses = ["a"]\ntrained_on = ""\nlimits = ""\n'
    )
    return folder


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*.h5")}


def test_files_that_a_host_did_not_deliver(source: Path, cache: Path, host: Host) -> None:
    host.fail("Data/M2.h5", faults.status(404))
    with pytest.raises(md.errors.DownloadError) as e:
        md.fetch(["M1", "M2"], source=source, cache=cache, progress=False)
    follow(e.value)
    assert names(cache) == {"M1.h5", "M2.h5"}


@pytest.mark.usefixtures("host")
def test_files_that_are_missing_offline(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    with pytest.raises(md.errors.MissingDataError, match="MOUSECMR_OFFLINE") as e:
        md.load(mice=["M3"], source=source, cache=cache)
    follow(e.value)
    assert names(cache) == {"M3.h5"}


@pytest.mark.usefixtures("host")
def test_files_that_load_may_not_download(source: Path, cache: Path) -> None:
    with pytest.raises(md.errors.MissingDataError) as e:
        md.load(source=source, cache=cache, download=False)
    follow(e.value)
    assert len(md.load(source=source, cache=cache, download=False)) == 3


@pytest.mark.usefixtures("host")
def test_weights_that_are_missing(source: Path, cache: Path) -> None:
    with pytest.raises(md.errors.MissingDataError) as e:
        fetch_weights(read_manifest(source), cache=cache, offline=True)
    assert "MOUSECMR_OFFLINE" not in str(e.value), "the variable is not set"
    follow(e.value)
    assert names(cache) == {"net.h5"}, "no mouse was downloaded"
    words = ["fetch", "M1", "--only-weights", "--source", str(source)]
    assert "leave out their names" in CliRunner().invoke(main, words).stderr


@pytest.mark.usefixtures("host")
def test_what_a_bundle_cannot_pack(source: Path, cache: Path, tmp_path: Path) -> None:
    manifest = read_manifest(source)

    def pack() -> Path:
        return create_bundle(manifest, ["M1", "M2"], tmp_path / "mice.zip", cache, weights=["net"])

    with pytest.raises(md.errors.MissingDataError) as missing:
        pack()
    follow(missing.value)
    assert names(cache) == {"M1.h5", "M2.h5", "net.h5"}
    mouse = next(cache.rglob("M2.h5"))
    weights = get_weights_folder(manifest.weights["net"], cache) / "net.h5"
    for path in (mouse, weights):
        stat, body = path.stat(), path.read_bytes()
        path.write_bytes(b"?" + body[1:])
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only hashing finds it
        with pytest.raises(md.errors.ChecksumError, match=f"{path.name} is damaged") as damaged:
            pack()
        follow(damaged.value)
        assert path.read_bytes() == body
    assert pack().is_file()


@pytest.mark.usefixtures("host")
def test_a_store_that_does_not_exist(
    source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for location, made in (("mice.zarr", "mice.zarr"), ("more mice.zip", "more mice.zarr")):
        with pytest.raises(md.errors.MissingDataError) as e:
            md.load(source=location)
        follow(e.value, "--source", str(source), "--cache", str(cache), "--workers", "1")
        assert md.load(source=made).mice == ("M1", "M2", "M3")


def test_a_mouse_that_does_not_exist() -> None:
    for command in ("phantom", "fetch", "measure"):
        result = CliRunner().invoke(main, [command, "X"])
        assert "There is no mouse 'X' here" in result.output
        assert "Mouse130,Data/Mouse130.h5" in follow(result.output)
    assert "did you mean 'Mouse4'?" in CliRunner().invoke(main, ["fetch", "mouse4"]).output


@pytest.mark.usefixtures("host")
def test_verify_names_the_source_and_the_cache(source: Path, cache: Path) -> None:
    words = ["--source", str(source), "--cache", str(cache)]
    result = CliRunner().invoke(main, ["verify", *words])
    assert result.exit_code == 1
    follow(result.output)
    assert CliRunner().invoke(main, ["verify", *words]).exit_code == 0


def test_a_voxel_size_for_a_mouse_that_has_its_own(phantom_cache: Path) -> None:
    with pytest.raises(md.errors.ArgumentError, match="leave them out for 'Mouse5'"):
        md.open_mouse("Mouse5", source="phantom", cache=phantom_cache, spacing=(1.0, 0.1, 0.1))
    words = ["predict", "Mouse5", "--source", "phantom", "--weights", "phantom-small", "--engine", "eager"]
    result = CliRunner().invoke(main, [*words, "--cache", str(phantom_cache), "--spacing", "1", "0.1", "0.1"])
    assert "leave out --spacing" in result.output


def test_a_voxel_size_that_is_missing_is_given_on_the_command_line_or_in_python(tmp_path: Path) -> None:
    path = layout_files.write(tmp_path / "m.h5", attrs={"voxel_size_mm": [0.0, 0.1, 0.1]})
    result = CliRunner().invoke(main, ["measure", str(path)])
    option = re.search(r"e\.g\. (--spacing [\d. ]+\d)", result.output)
    call = re.search(r"Python: spacing=\(([\d., ]+)\)", result.output)
    assert option and call, result.output
    assert CliRunner().invoke(main, ["measure", str(path), *option[1].split()]).exit_code == 0
    spacing = [float(v) for v in call[1].split(",")]
    assert md.open_mouse(path, spacing=spacing).attrs["voxel_size_source"] == "given by the caller"


def test_a_file_that_does_not_exist() -> None:
    result = CliRunner().invoke(main, ["measure", "nofile.h5"])
    assert "There is no file nofile.h5" in result.output
    assert "check the path" in result.output
    result = CliRunner().invoke(main, ["reproduce", "--source", "phantom", "--weights", "none.safetensors"])
    assert "There is no file none.safetensors" in result.output
    assert "fetch" not in result.output, "no download brings your own file"


def test_stores_at_urls_are_not_opened_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    for url in ("https://127.0.0.1:9/mice.zarr", "s3://bucket/mice.zarr", "simplecache::https://127.0.0.1:9/m.zarr"):
        with pytest.raises(md.errors.MissingDataError, match="MOUSECMR_OFFLINE"):
            md.load(source=url)
