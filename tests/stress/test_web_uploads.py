"""Any upload gives a plain message or a result: no traceback, no files left, and the server keeps running."""

import io
import os
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from layout_files import write as write_hdf5
from page_app import page_app

from mousecmr_data.web.config import MB, ServerConfig
from mousecmr_data.web.middleware import COOKIE_NAME

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
testclient = pytest.importorskip("starlette.testclient")
pytestmark = [
    pytest.mark.stress,
    # warnings of the test client and gradio, and about numbers in damaged headers
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]
COUNT = 200 if os.environ.get("MOUSECMR_STRESS") else 12
FORBIDDEN = re.compile(r"Traceback|<p>(<b>[^<]*</b>: )?\S+: [A-Z]\w+(Error|Exception|Warning):|/tmp/|unexpected error")
"""A traceback, an unexpected error, or a path on this computer."""
SMALL = ("phantom-small", "", "", "")


def make_valid(rng: random.Random, folder: Path) -> tuple[str, bytes]:
    """Return the name and content of a small valid file."""
    kind = rng.choice(["nii", "nii.gz", "h5", "zip"])
    if kind == "h5":
        return "m.h5", write_hdf5(folder / "m.h5").read_bytes()
    pixels = np.random.default_rng(rng.randrange(99)).integers(0, 900, (16, 16, 2, rng.choice([1, 3]))).astype(np.int16)
    image = nib.Nifti1Image(pixels, np.diag([*rng.choice([(0.1, 0.1, 1.0), (100.0, 100.0, 1000.0), (1, 1, 1)]), 1.0]))
    name = "m.nii.gz" if kind == "nii.gz" else "m.nii"
    nib.save(image, folder / name)
    content = (folder / name).read_bytes()
    if kind != "zip":
        return name, content
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        for k in range(rng.randint(1, 2)):
            z.writestr(rng.choice(["", "a/", "../", "/", "x/y/"]) + f"{k}{name}", content)
    return "m.zip", packed.getvalue()


def make_fuzzed(rng: random.Random, folder: Path) -> tuple[str, bytes]:
    """Return a name and content: valid, damaged or random."""
    name, content = make_valid(rng, folder)
    damaged = bytearray(content)
    for _ in range(rng.choice([0, 1, 4, 40])):
        damaged[rng.randrange(min(len(damaged), rng.choice([400, 10**9])))] = rng.randrange(256)
    if rng.random() < 0.3:
        del damaged[rng.randrange(len(damaged)) :]
    if rng.random() < 0.15:
        damaged = bytearray(rng.randbytes(rng.randrange(3000)))
    if rng.random() < 0.25:
        name = rng.choice(
            ["m.nii", "m.nii.gz", "m.h5", "m.zip", "m.dcm", "m.fdf", "2dseq", "procpar", "ünï ©.nii", "m"]
        )
    return name, bytes(damaged)


@pytest.fixture
def client(phantom_cache: Path) -> Iterator[object]:
    options = ServerConfig(weights="phantom-small", upload_mb=1, cache=phantom_cache)
    with page_app(options) as app, testclient.TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_fuzzed_uploads(client: testclient.TestClient, tmp_path: Path) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    client.get("/")
    owner = client.cookies[COOKIE_NAME].rpartition(".")[0]
    results = 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        session = service.sessions.open("session", owner)
        for drop in range(rng.choice([1, 1, 2])):
            name, content = make_fuzzed(rng, tmp_path)
            path = rng.choice(["", "", "scan/", "../"]) + name
            url = f"/mice/{session.token}/upload"
            response = client.post(url, params={"drop": drop, "path": path}, content=content[: 2 * MB])
            assert response.status_code in (204, 400, 413), (seed, response.text)
            assert not FORBIDDEN.search(response.text), (seed, response.text)
        description = service.inspect(session, *SMALL)
        assert not FORBIDDEN.search(description), (seed, description)
        status, outcome = service.segment(session, lambda *_: None, *SMALL).result(60)
        assert not FORBIDDEN.search(status), (seed, status)
        results += bool(outcome and outcome.views)
        assert {p.name for p in session.folder.iterdir()} <= {".locks", "in1", "out", "view", "results.zip"}, seed
        service.sessions.close_session("session", owner)
        assert not session.folder.exists(), seed
    assert {p.name for p in service.sessions.folder.iterdir()} <= {"alive", "gradio"}
    assert client.get("/").status_code == 200
    assert COUNT < 100 or results > COUNT / 12  # some uploads must remain valid
