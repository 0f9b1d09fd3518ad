"""The first run on a machine that is not the developer's: containers, notebooks, other encodings."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import mousecmr_data
from mousecmr_data.cli.main import main

ENCODINGS = ["cp1252", "cp932", "gbk", "latin-1", "ascii"]


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mousecmr_data.cli.main", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_redirected_output_in_any_encoding(encoding: str, phantom_cache: Path) -> None:
    cache = {"MOUSECMR_CACHE": str(phantom_cache), "PYTHONIOENCODING": encoding}
    for words in (["--help"], ["info"], ["measure", "Mouse5", "--source", "phantom"], ["measure", "--help"]):
        out = run(*words, **cache)
        assert out.returncode == 0, out.stderr.decode(errors="replace")
        out.stdout.decode(encoding)


def test_json_keeps_names_in_any_encoding(phantom_cache: Path, tmp_path: Path) -> None:
    source = mousecmr_data.fetch(["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
    path = shutil.copy(source, tmp_path / "小鼠.h5")
    for encoding in ENCODINGS:
        out = run("show", path, "-o", tmp_path, "--json", PYTHONIOENCODING=encoding)
        assert out.returncode == 0, out.stderr.decode(errors="replace")
        assert all(Path(p).parent == tmp_path for p in json.loads(out.stdout.decode(encoding))["written"])


def test_evaluate_prints_its_table_in_any_encoding(phantom_cache: Path, tmp_path: Path) -> None:
    """Agreement statistics have the letter ρ, and intervals have dashes."""
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    for name, path in mousecmr_data.fetch(["Mouse1", "Mouse5"], source="phantom", cache=phantom_cache).items():
        shutil.copy(path, tmp_path / f"{name}.h5")
    out = run("evaluate", tmp_path, "--truth", tmp_path, PYTHONIOENCODING="cp1252")
    assert out.returncode == 0, out.stderr.decode(errors="replace")


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "TkAgg", "no such backend"])
def test_pictures_need_no_backend(backend: str, phantom_cache: Path, tmp_path: Path) -> None:
    """A notebook's backend need not be installed here, and a window system need not be there."""
    pytest.importorskip("matplotlib", reason="the extra evaluation is not installed")
    words = ("show", "Mouse5", "--source", "phantom", "-o", tmp_path)
    out = run(*words, MOUSECMR_CACHE=str(phantom_cache), MPLBACKEND=backend, DISPLAY="")
    assert out.returncode == 0, out.stderr.decode()
    assert len(list(tmp_path.glob("*.png"))) == 2
    code = "from mousecmr_data.metrics.agreement import icc; print(icc([[1, 2], [2, 3], [3, 5], [4, 4], [5, 6]]))"
    environment = {**os.environ, "MPLBACKEND": backend, "DISPLAY": ""}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can start a process with another user id (setpriv)",
)
class TestNamelessUser:
    """``docker run --user 12345``: no entry in the list of users, and no HOME or another's."""

    @pytest.fixture(params=[None, "/root", "/", "/nonexistent"])
    def home(self, request: pytest.FixtureRequest) -> str | None:
        home: str | None = request.param
        if home == "/root" and Path("/root").stat().st_mode & 0o005:
            pytest.skip("/root is open to all")
        return home

    def run(
        self, folder: Path, home: str | None, *words: str, prefix: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
        if home:
            variables["HOME"] = home
        # A program of root's own home cannot be started by others: the system's, of the same version, can.
        python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
        if python is None:
            pytest.skip("no interpreter that every user may start")
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--"]
        command = [*prefix, *user, python, "-B", "-m", "mousecmr_data.cli.main", *words]
        return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A folder that every user may enter: pytest's own are private."""
        folder = Path(tempfile.mkdtemp())
        folder.chmod(0o777)
        yield folder
        shutil.rmtree(folder)

    def test_segment_on_a_read_only_root_with_one_writable_folder(self, folder: Path, phantom_cache: Path) -> None:
        """The main job of the README, in a name space without network, as another user without HOME."""
        pytest.importorskip("nibabel", reason="the extra segment is not installed")
        pytest.importorskip("torch", reason="the extra segment is not installed")
        from mousecmr_data.formats.nifti import write_nifti_images

        lock = "mount --make-rprivate / && mount --bind $0 $0 && mount -o remount,ro,bind /"
        if subprocess.run(["unshare", "-m", "-n", "sh", "-c", lock, folder], capture_output=True).returncode:
            pytest.skip("no permission for name spaces")
        ds = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
        write_nifti_images(ds.isel(frame=[0, 7], slice=slice(3, 5)), folder / "scan.nii.gz")
        words = ("segment", str(folder / "scan.nii.gz"), "-o", str(folder / "results"), "--weights", "phantom-small")
        prefix = ("unshare", "-m", "-n", "sh", "-c", f'{lock} && exec "$@"', str(folder))
        out = self.run(Path("/"), None, *words, "--engine", "eager", prefix=prefix)
        assert out.returncode == 0, out.stderr
        assert {"masks.nii.gz", "movie.webp", "montage.png"} <= {p.name for p in (folder / "results/scan").iterdir()}
        assert "ef_percent" in (folder / "results" / "mice.csv").read_text(encoding="utf-8")

    def test_what_needs_no_cache_works_and_the_rest_names_the_variable(self, home: str | None, folder: Path) -> None:
        for words in (("info",), ("phantom", "--list"), ("cite",), ("lock", "export")):
            out = self.run(folder, home, *words)
            assert out.returncode == 0, out.stderr
        for words in (("measure", "Mouse5", "--source", "phantom"), ("fetch", "Mouse1")):
            out = self.run(folder, home, *words, MOUSECMR_MIRROR=str(folder), MOUSECMR_UPSTREAM="0")
            assert out.returncode == 1
            assert "export MOUSECMR_CACHE=" in out.stderr
            assert "Traceback" not in out.stderr
        out = self.run(folder, home, "measure", "Mouse5", "--source", "phantom", MOUSECMR_CACHE=str(folder / "cache"))
        assert out.returncode == 0, out.stderr


def test_doctor_reports_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    monkeypatch.setenv("MOUSECMR_TOKEN", "a-secret")
    monkeypatch.setenv("MOUSECMR_MIRROR", "https://anna:secret@mirror.example.org/mice")
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(main, ["doctor", "--cache", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    findings = {f["what"]: (f["found"], f["next_step"]) for f in json.loads(result.stdout)}
    assert "secret" not in result.output
    assert "mousecmr-data" in findings["versions"][0]
    assert findings["extra web"] == ("without gradio", "pip install 'mousecmr-data[web]'")
    assert str(tmp_path) in findings["cache"][0]
    assert findings["locks"] == ("work", "")
    assert findings["mice"][1] == "mousecmr fetch"
    assert "MOUSECMR_OFFLINE" in findings["network"][0]
    assert findings["network"][1] == "unset MOUSECMR_OFFLINE, to download"
    assert "MOUSECMR_TOKEN" in findings["variables set"][0]
    assert list(tmp_path.iterdir()) == [tmp_path / ".locks"], "the report leaves no files"


def test_doctor_names_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["doctor", "--cache", str(tmp_path / "file" / "cache")])
    assert result.exit_code == 0
    assert "export MOUSECMR_CACHE=" in result.output


def test_doctor_measures_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from mousecmr_data.inference.speed import CineTime

    cine = CineTime("phantom-small", "openvino", 3.21, "measured with 3 slices")
    monkeypatch.setattr("mousecmr_data.inference.speed.measure_cines", lambda *_: iter([cine]))
    words = ["doctor", "--cache", str(tmp_path), "--no-network"]
    assert "one core" not in CliRunner().invoke(main, words).output
    result = CliRunner().invoke(main, [*words, "--measure", "--json"])
    assert result.exit_code == 0, result.output
    findings = {f["what"]: f for f in json.loads(result.stdout)}
    assert findings["one core"]["values"]["float32_gflops"] > 0
    assert isinstance(findings["one core"]["values"]["int8"], bool)
    assert findings["time of a cine"]["values"]["slices"] == 198
    assert findings["  phantom-small, openvino"]["values"] == vars(cine)
    assert "3.2 s, measured with 3 slices" in CliRunner().invoke(main, [*words, "--measure"]).output
