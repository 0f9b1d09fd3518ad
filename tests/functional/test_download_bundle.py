"""Bundles: a round trip without a network, and members that must be rejected."""

import contextlib
import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.cohort import VERSION, bodies, everything, fetch_paths, leftovers, manifest
from servers.host import Host

from mousecmr_data.download.bundle import create_bundle, import_bundle
from mousecmr_data.download.cache import get_file_statuses
from mousecmr_data.download.fetch import fetch_weights
from mousecmr_data.errors import ChecksumError, ManifestError, MissingDataError, MouseCMRError, OutputError
from mousecmr_data.schema.manifest import Manifest, Weights

FILES = bodies(3, 30_000)
NETWORK = b"\x89HDF weights" * 500
WEIGHTS = Weights(
    "net", "ModelWeights/net.h5", "", hashlib.sha256(NETWORK).hexdigest(), len(NETWORK), "-", (1,), ("a",), "", ""
)


def tiny(url: str = "") -> Manifest:
    weights = replace(WEIGHTS, url=url.replace("{version}/", "w/")) if url else WEIGHTS
    return replace(manifest(FILES, url), weights={"net": weights})


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A bundle of all files, made from a downloaded cache."""
    with Host(FILES | {"ModelWeights/net.h5": NETWORK}) as host:
        fetch_paths(tiny(host.template), cache=tmp_path / "here", progress=False)
        fetch_weights(tiny(host.template), cache=tmp_path / "here", progress=False)
    return create_bundle(tiny(), None, tmp_path / "mice.zip", tmp_path / "here", weights=["net"])


def test_round_trip(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    done = import_bundle(packed, tmp_path / "there", manifest=tiny())
    assert done.new == ("Mouse1", "Mouse2", "Mouse3", "net")
    assert done.paths.pop("net").read_bytes() == NETWORK
    assert {f"Data/{p.name}": p.read_bytes() for p in done.paths.values()} == FILES
    assert {p.stat().st_mode & 0o777 for p in done.paths.values()} == {0o644}
    assert set(get_file_statuses(tiny(), cache=tmp_path / "there").values()) == {"verified"}
    assert fetch_paths(tiny(), cache=tmp_path / "there") == done.paths
    assert leftovers(tmp_path / "there") == []
    assert import_bundle(packed, tmp_path / "there", manifest=tiny()).new == (), "existing files are not changed"


def test_a_selection_and_the_same_bytes_each_time(packed: Path, tmp_path: Path) -> None:
    one = create_bundle(tiny(), ["Mouse2"], tmp_path / "one.zip", tmp_path / "here")
    two = create_bundle(tiny(), ["Mouse2"], tmp_path / "two.zip", tmp_path / "here")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert archive.namelist() == ["bundle.json", "files/Data/Mouse2.h5", "files.csv"]
        rows = archive.read("files.csv").decode().splitlines()
    body = FILES["Data/Mouse2.h5"]
    assert rows[1].startswith("Mouse2,Data/Mouse2.h5,")
    assert rows[1].endswith(f",{hashlib.sha256(body).hexdigest()},{len(body)}")
    assert packed.stat().st_size > one.stat().st_size


def test_files_that_cannot_be_packed(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"edited[\s\S]*--overwrite"):
        create_bundle(tiny(), None, packed, tmp_path / "here")
    path = next((tmp_path / "here").rglob("Mouse3.h5"))
    body = path.read_bytes()
    path.write_bytes(body[:-1] + b"?")
    with pytest.raises(ChecksumError, match=r"Mouse3.h5 is damaged .*no bundle was made"):
        create_bundle(tiny(), None, tmp_path / "new.zip", tmp_path / "here")
    path.unlink()
    with pytest.raises(MissingDataError, match="1 of 3 files are not in the cache: Mouse3"):
        create_bundle(tiny(), None, tmp_path / "new.zip", tmp_path / "here")
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["here", "mice.zip"]


Member = tuple[zipfile.ZipInfo, bytes]
GOOD = "files/Data/Mouse1.h5"


def _about(**changes: object) -> bytes:
    return json.dumps({"format": 1, "name": "tiny", "version": VERSION} | changes).encode()


def _named(name: str, body: bytes = b"evil", mode: int = stat.S_IFREG | 0o644) -> Member:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, body


def _compressed() -> Member:
    info, _ = _named(GOOD)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info, bytes(50_000_000)


HEAD = _named("bundle.json", _about())
ATTACKS: dict[str, tuple[list[Member], type[Exception], str]] = {
    "path traversal": ([HEAD, _named("files/../../../evil.h5")], ManifestError, "outside of the cache"),
    "absolute path": ([HEAD, _named("/tmp/evil.h5")], ManifestError, "outside of the cache"),
    "drive letter": ([HEAD, _named("C:evil.h5")], ManifestError, "outside of the cache"),
    "backslashes": ([HEAD, _named("files\\..\\evil.h5")], ManifestError, "forbidden characters"),
    "symbolic link": ([HEAD, _named(GOOD, b"/etc/passwd", stat.S_IFLNK | 0o777)], ManifestError, "not a plain file"),
    "device": ([HEAD, _named(GOOD, b"", stat.S_IFCHR | 0o666)], ManifestError, "not a plain file"),
    "folder": ([HEAD, _named("files/Data/", b"")], ManifestError, "not a plain file"),
    "unnamed file": ([HEAD, _named("files/Data/Mouse9.h5")], ManifestError, "not in the manifest"),
    "duplicate name": ([HEAD, _named(GOOD), _named(GOOD)], ManifestError, "appears twice"),
    "same name in capitals": ([HEAD, _named(GOOD), _named(GOOD.upper())], ManifestError, "appears twice"),
    "zip bomb": ([HEAD, _compressed()], ManifestError, "compressed"),
    "absurd size": ([HEAD, _named(GOOD, bytes(40_000))], ManifestError, "more than it can have"),
    "huge description": (
        [_named("bundle.json", _about() + b" " * (1 << 21))],
        ManifestError,
        "too large for a description",
    ),
    "no description": ([_named(GOOD)], ManifestError, "does not describe its content"),
    "description is a list": ([_named("bundle.json", b"[]")], ManifestError, "does not describe its content"),
    "another format": ([_named("bundle.json", _about(format=2))], ManifestError, "format 2"),
    "another version": ([_named("bundle.json", _about(version="f06f72a"))], ManifestError, "holds tiny f06f72a"),
    "wrong bytes": ([HEAD, _named(GOOD, bytes(30_001))], ChecksumError, "Mouse1: git blob SHA-1"),
    "empty file": ([HEAD, _named(GOOD, b"")], ChecksumError, "Mouse1: git blob SHA-1"),
}


def write(path: Path, members: list[Member]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, body in members:
            archive.writestr(info, body)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_rejected_and_leave_the_cache_unchanged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mousecmr_data.download.bundle.MAX_UNKNOWN_BYTES", 35_000)
    members, kind, message = ATTACKS[name]
    path = write(tmp_path / "evil.zip", members)
    cache = tmp_path / "a" / "b" / "cache"
    with pytest.raises(kind, match=message):
        import_bundle(path, cache, manifest=tiny())
    assert everything(cache) == {}
    assert leftovers(cache) == []
    assert {p.name for p in tmp_path.iterdir()} <= {"evil.zip", "a"}, "nothing was written outside of the cache"


def edit(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": edit(lambda b: b[: len(b) // 2]),
    "empty": edit(lambda _: b""),
    "no zip": edit(lambda _: b"hello" * 1000),
    "size forged upwards": edit(lambda b: b.replace((30_001).to_bytes(4, "little"), (34_001).to_bytes(4, "little"))),
    "offsets forged": edit(lambda b: b[:-8] + b"\xff\xff\xff\x00" + b[-4:]),
    "encrypted": edit(
        lambda b: b.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_bundles(name: str, packed: Path, tmp_path: Path) -> None:
    before = packed.read_bytes()
    DAMAGES[name](packed)
    assert packed.read_bytes() != before
    with pytest.raises(MouseCMRError, match=r"mice\.zip"):
        import_bundle(packed, tmp_path / "there", manifest=tiny())
    assert [p for p in (tmp_path / "there").rglob("*.h5") if p.read_bytes() != FILES[f"Data/{p.name}"]] == []
    assert leftovers(tmp_path / "there") == []


def test_a_flipped_byte_loses_one_file_and_not_the_others(packed: Path, tmp_path: Path) -> None:
    body = packed.read_bytes()
    at = body.index(FILES["Data/Mouse2.h5"]) + 1000
    packed.write_bytes(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
    with pytest.raises(ChecksumError, match="Mouse2"):
        import_bundle(packed, tmp_path / "there", manifest=tiny())
    assert sorted(p.name for p in (tmp_path / "there").rglob("Mouse*.h5")) == ["Mouse1.h5", "Mouse3.h5"]
    assert leftovers(tmp_path / "there") == []


def test_the_description_in_a_bundle_is_not_trusted(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        import_bundle(packed, tmp_path / "there")
    evil = write(tmp_path / "evil.zip", [_named("bundle.json", _about(name="../../etc"))])
    with pytest.raises(ManifestError, match="no manifest"):
        import_bundle(evil, tmp_path / "there")
    with pytest.raises(MissingDataError, match="no file"):
        import_bundle(tmp_path / "none.zip", tmp_path / "there")


def test_a_bundle_repairs_a_cache(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    path = next((tmp_path / "there").rglob("Mouse2.h5"))
    path.write_bytes(b"damaged")
    assert import_bundle(packed, tmp_path / "there", manifest=tiny()).new == ("Mouse2",)
    assert path.read_bytes() == FILES["Data/Mouse2.h5"]


@given(at=st.floats(0, 1), bit=st.integers(0, 7), tail=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_flipped_bit_is_harmless(at: float, bit: int, tail: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Especially in the zip's own structures (its tail): the result is an error of this library, or the right bytes."""
    root = tmp_path_factory.getbasetemp() / "flipped"
    if not (root / "good.zip").exists():
        for path, body in FILES.items():
            (root / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "mirror" / path).write_bytes(body)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOUSECMR_MIRROR", str(root / "mirror"))
            fetch_paths(tiny(), cache=root / "here", progress=False)
        create_bundle(tiny(), None, root / "good.zip", root / "here")
    body = bytearray((root / "good.zip").read_bytes())
    position = len(body) - 1 - int(at * 600) if tail else int(at * (len(body) - 1))
    body[position] ^= 1 << bit
    (root / "flipped.zip").write_bytes(body)
    cache = root / "there"
    shutil.rmtree(cache, ignore_errors=True)
    with contextlib.suppress(MouseCMRError):
        import_bundle(root / "flipped.zip", cache, manifest=tiny())
    assert [p for p in cache.rglob("*.h5") if p.read_bytes() != FILES[f"Data/{p.name}"]] == []
    assert leftovers(cache) == []
