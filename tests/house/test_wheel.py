import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(kind: str, source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module", params=["checkout", "sdist", "clone without symbolic links"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from this checkout, from its sdist, and from a clone as on Windows."""
    out = tmp_path_factory.mktemp("wheel")
    if request.param == "sdist":
        with tarfile.open(build("sdist", ROOT, out)) as archive:
            archive.extractall(out, filter="data")
        return build("wheel", next(p for p in out.iterdir() if p.is_dir()), out)
    if request.param == "checkout":
        return build("wheel", ROOT, out)
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout: there is nothing to clone")
    clone = ["git", "clone", "--quiet", "--depth=1", "-c", "core.symlinks=false", ROOT.as_uri(), str(out / "clone")]
    subprocess.run(clone, check=True, capture_output=True)
    return build("wheel", out / "clone", out)


def test_wheel_holds_every_module_and_manifest(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "mousecmr_data").rglob("*.py*") if p.suffix != ".pyc"}
    manifests = {f"mousecmr_data/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "manifests").rglob("*.*")}
    assert len(modules) > 30
    assert len(manifests) >= 6
    assert modules | manifests | {"mousecmr_data/py.typed"} <= names
    assert not [n for n in names if n.startswith(("tests", "manifests", "docs"))]


def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Use the wheel in a new environment. Its dependencies come through PYTHONPATH, which does not follow .pth files,
    so that the editable install of the checkout is not used."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    site = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    zipfile.ZipFile(wheel).extractall(site)
    env = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib"), "MOUSECMR_CACHE": str(tmp_path / "cache")}

    def run(*command: str) -> str:
        done = subprocess.run([str(python), *command], env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import mousecmr_data as m; print(m.__file__)").startswith(str(venv))
    mousecmr = ("-c", "from mousecmr_data.cli.main import main; main()")
    assert "verify" in run(*mousecmr, "--help")
    assert "130" in run(*mousecmr, "info")
    assert "SYNTHETIC" not in run(*mousecmr, "info")
    assert "Mouse4" in run(*mousecmr, "measure", "Mouse4", "--source", "phantom", "--json")
