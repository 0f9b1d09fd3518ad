"""The routes of the review screen on a small result, without a browser."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
pytest.importorskip("nibabel")

from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mousecmr_data.cli.review import command
from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError
from mousecmr_data.pipeline import SegmentConfig, is_measured, measure_masks, open_result
from mousecmr_data.pipeline.review import assign_codes, reveal_codes
from mousecmr_data.pipeline.writers import write_result
from mousecmr_data.schema.variables import DIMS, PREDICTED
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.review import ReviewedFolder, create_app, launch, make_routes

SHAPE = (3, 4, 20, 24)
ADDRESS = "/mice/secret/review/"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of a mouse M1 whose blood pool shrinks from frame to frame."""
    masks = np.zeros(SHAPE, np.uint8)
    for frame in range(SHAPE[0]):
        masks[frame, :, 4:16, 4:20] = 1
        masks[frame, :, 6 + frame : 14 - frame, 8:16] = 2
    images = np.arange(masks.size, dtype=np.uint16).reshape(SHAPE)
    ds = build_dataset(images, None, (), PhysicalSizes((1.0, 0.2, 0.1), "test", 5.0, "test"), {"mouse": "M1"})
    network = {"weights": "none", "trained_on": "nothing", "synthetic_training": True}
    result = measure_masks(ds.assign({PREDICTED: (DIMS, masks, network)}))
    write_result(result, tmp_path / "results" / "M1", SegmentConfig(pictures=False))
    return tmp_path / "results"


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(folder, "secret", tmp_path / "results.zip", ServerConfig())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_a_mouse_is_described_and_its_pixels_are_exact(client: TestClient, folder: Path) -> None:
    assert [m["mouse"] for m in client.get(f"{ADDRESS}mice").json()] == ["M1"]
    meta = client.get(f"{ADDRESS}mice/M1/meta").json()
    result = open_result(folder / "M1")
    assert meta["shape"] == list(SHAPE)
    assert meta["voxel_mm"] == pytest.approx([1.0, 0.2, 0.1])
    assert meta["numbers"]["edv_ul"] == pytest.approx(meta["automatic"]["edv_ul"]) == 4 * 64 * 0.02
    masks = client.get(f"{ADDRESS}mice/M1/masks")
    assert masks.headers["content-encoding"] == "gzip"
    assert masks.content == result.masks.tobytes()
    grey = np.frombuffer(client.get(f"{ADDRESS}mice/M1/images/1").content, np.uint8)
    assert grey.size == np.prod(SHAPE[1:])
    assert (np.diff(grey.astype(int)) >= 0).all()  # in the order of the images
    assert client.get(f"{ADDRESS}mice/M1/automatic/0/1").content == result.automatic[0, 1].tobytes()


def test_changes_are_saved_measured_and_packed(client: TestClient, folder: Path) -> None:
    new = np.zeros(SHAPE[2:], np.uint8)
    new[2:5, 3:9] = 2
    by = {"reader": " Ann  B. ", "minutes": 0.5}
    path = f"{ADDRESS}mice/M1/slices/0/1"
    numbers = client.put(path, params={"status": "edited", **by}, content=new.tobytes()).json()
    assert numbers["edv_ul"] == pytest.approx((3 * 64 + 18) * 0.02)
    assert np.array_equal(open_result(folder / "M1").masks[0, 1], new)
    assert client.put(f"{ADDRESS}mice/M1/slices/0/0", params={"status": "excluded", **by}).status_code == 200
    assert client.put(f"{ADDRESS}mice/M1/phases", params={"ed": 0, "es": 1, **by}).json()["es_frame"] == 1
    proposed = np.frombuffer(client.post(f"{ADDRESS}mice/M1/propagate/1").content, np.uint8).reshape(3, 20, 24)
    assert np.array_equal(proposed[0], new)
    review = open_result(folder / "M1").review
    assert (review.readers, review.minutes["Ann B."]) == (("Ann B.",), 1.5)
    assert not is_measured(folder / "M1")
    assert client.post(f"{ADDRESS}tables").json() == {"measured": ["M1"]}
    assert is_measured(folder / "M1")
    assert client.get(f"{ADDRESS}results.zip").content[:2] == b"PK"
    back = client.put(path, params={"status": "auto", **by}).json()
    assert back["edv_ul"] == pytest.approx(3 * 64 * 0.02)
    assert client.get(f"{ADDRESS}mice/M1/numbers").json() == back


def test_masks_that_another_program_wrote_meanwhile_are_not_overwritten(client: TestClient, folder: Path) -> None:
    path = f"{ADDRESS}mice/M1/slices/0/0"
    assert client.put(path, params={"status": "excluded"}).status_code == 200
    other = open_result(folder / "M1")
    other.apply_edit(2, 2, status="excluded")
    refused = client.put(path, params={"status": "auto"})
    assert (refused.status_code, "another program" in refused.text, str(folder) in refused.text) == (409, True, False)
    assert client.put(path, params={"status": "auto"}).status_code == 200  # it was opened again
    assert not open_result(folder / "M1").masks[2, 2].any()


def test_readers_at_the_same_time_lose_nothing(client: TestClient, folder: Path) -> None:
    def exclude(frame: int) -> None:
        for slice_ in range(SHAPE[1]):
            response = client.put(f"{ADDRESS}mice/M1/slices/{frame}/{slice_}", params={"status": "excluded"})
            assert response.status_code == 200, response.text

    threads = [threading.Thread(target=exclude, args=(frame,)) for frame in range(SHAPE[0])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not open_result(folder / "M1").masks.any()


def test_a_slice_without_a_mask_is_proposed(client: TestClient, folder: Path) -> None:
    result = open_result(folder / "M1")
    assert client.get(f"{ADDRESS}mice/M1/proposal/1/2").content == result.automatic[1, 2].tobytes()
    result.automatic[1, 2] = result.masks[:, 2] = 0
    proposed = result.propose_slice(1, 2)
    assert np.array_equal(proposed, result.masks[1, 1])  # the two slices beside it are equal
    assert not result.masks[1, 2].any()


def test_exclusions_at_ed_and_es_go_on_through_the_beat(client: TestClient, folder: Path) -> None:
    for frame, slice_ in ((0, 0), (0, 1), (2, 1), (2, 2)):  # at ED (frame 0), at both, at ES (frame 2)
        client.put(f"{ADDRESS}mice/M1/slices/{frame}/{slice_}", params={"status": "excluded"})
    path = f"{ADDRESS}mice/M1/exclusions"
    assert client.get(path).json() == [[1, 0], [1, 1]]  # frame 1 is as far from both: as ED
    masks = open_result(folder / "M1").masks
    masks[1, 3] = masks[2, 3]
    client.put(f"{ADDRESS}mice/M1/slices/1/3", params={"status": "edited"}, content=masks[1, 3].tobytes())
    assert client.get(path).json() == [[1, 1], [1, 2]]
    client.put(f"{ADDRESS}mice/M1/slices/1/2", params={"status": "confirmed"})
    assert client.get(path).json() == [[1, 1]]


def test_a_blind_review_hides_names_and_keeps_its_order(folder: Path, tmp_path: Path) -> None:
    for name in ("M2 infarct", "M3 sham"):
        shutil.copytree(folder / "M1", folder / name)
        record = folder / name / "result.json"
        note = {"level": "mouse", "flag": "input_note", "message": f"{name}.nii.gz", "frame": None, "slice": None}
        table = json.loads(record.read_text())
        record.write_text(json.dumps({**table, "flags": [note], "mouse": {**table["mouse"], "mouse": name}}))
    codes = assign_codes(folder, "AB")
    assert set(codes) == {"M1", "M2 infarct", "M3 sham"} and len(set(codes.values())) == 3
    assert list(assign_codes(folder, "AB").items()) == list(codes.items())
    assert not set(codes.values()) & set(assign_codes(folder, "CD").values())
    app = create_app(folder, "secret", tmp_path / "results.zip", ServerConfig(), reader="AB", codes=codes)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        mice = client.get(f"{ADDRESS}mice")
        assert [m["mouse"] for m in mice.json()] == list(codes.values())
        path = f"{ADDRESS}mice/{codes['M3 sham']}"
        meta = client.get(f"{path}/meta")
        assert (meta.json()["mouse"], meta.json()["blind"], meta.json()["reader"]) == (codes["M3 sham"], True, "AB")
        saved = client.put(f"{path}/slices/0/0", params={"status": "excluded", "reader": "somebody"})
        damaged = folder / "M3 sham" / "masks.nii.gz"
        damaged.touch()
        refused = client.put(f"{path}/slices/0/0", params={"status": "auto"})
        answers = [mice, meta, saved, refused, client.get(f"{path}/numbers"), client.get(f"{ADDRESS}results.zip")]
        assert [a.status_code for a in answers] == [200, 200, 200, 409, 200, 403]
        assert codes["M3 sham"] in refused.text
        written = client.post(f"{ADDRESS}tables")
        assert written.json() == {"measured": [codes["M3 sham"]]}
        assert not any(word in a.text for a in (*answers, written) for word in ("M1", "M2", "M3", "sham", "infarct"))
        assert client.get(f"{ADDRESS}mice/M1/meta").status_code == 404
    assert open_result(folder / "M3 sham").review.readers == ("AB",)


def test_codes_are_told_once_and_then_worth_nothing(folder: Path) -> None:
    with pytest.raises(MissingDataError, match="no codes of AB"):
        reveal_codes(folder, "AB")
    with pytest.raises(ArgumentError, match="has no reader"):
        launch(folder, blind=True)
    with pytest.raises(ArgumentError, match="one mouse"):
        assign_codes(folder / "M1", "AB")
    codes = assign_codes(folder, "AB")
    shutil.copytree(folder / "M1", folder / "M9")  # a mouse that came later
    later = assign_codes(folder, "AB")
    assert later["M1"] == codes["M1"] and list(later) == ["M1", "M9"]
    run = CliRunner().invoke(command, [str(folder), "--reader", "AB", "--unblind"])
    assert run.exit_code == 0 and all(word in run.output for pair in later.items() for word in pair)
    with pytest.raises(ArgumentError, match="were shown") as error:
        assign_codes(folder, "AB")
    assert "blinding.json" in str(error.value)
    assert assign_codes(folder, "CD")
    (folder / "blinding.json").write_text("{}")
    with pytest.raises(FileLayoutError, match="no valid key"):
        assign_codes(folder, "AB")


def test_refusals_and_the_policy_of_the_page(client: TestClient, tmp_path: Path) -> None:
    page = client.get(ADDRESS)
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in ("/mice/other/review/", f"{ADDRESS}static/page.css", f"{ADDRESS}mice/M2/meta", "/"):
        assert client.get(path).status_code == 404
    for status, content in (("edited", b"1"), ("edited", b"\x09" * 480), ("perfect", b""), ("excluded", b"")):
        minutes = -1 if status == "excluded" else 0
        params = {"status": status, "minutes": str(minutes)}
        response = client.put(f"{ADDRESS}mice/M1/slices/0/0", params=params, content=content)
        assert response.status_code == 400, response.text
    assert client.put(f"{ADDRESS}mice/M1/slices/9/0", params={"status": "excluded"}).status_code == 400
    assert client.get(ADDRESS, headers={"host": "evil.example"}).status_code == 400
    with pytest.raises(MissingDataError, match="no results"):
        launch(tmp_path / "nothing")


def test_a_network_is_tuned_on_the_reviewed_mice_where_that_is_allowed(
    client: TestClient, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = pytest.importorskip("mousecmr_data.training.tuning", reason="the extra training is not installed")
    go_on, calls = threading.Event(), []

    def tune(results: Path, output: Path, name: str, *, progress: Callable[[Any], None], **_: Any) -> Any:
        calls.append((results, name))
        progress(tuning.TuningEvent("without M1", 0.25, 120.0))
        assert go_on.wait(30)
        return SimpleNamespace(dice=(0.8, 0.9), weights=output)

    monkeypatch.setattr(tuning, "tune", tune)
    assert client.get(f"{ADDRESS}tuning").json() == {"running": False, "text": ""}
    refused = client.post(f"{ADDRESS}tuning", params={"name": "published"})
    assert refused.status_code == 400 and "published-tuned" in refused.text
    assert client.post(f"{ADDRESS}tuning", params={"name": "mine"}).json()["running"]
    wait_for(lambda: "25 %, at most 2 min left" in client.get(f"{ADDRESS}tuning").json()["text"])
    assert "one at a time" in client.post(f"{ADDRESS}tuning", params={"name": "other"}).text
    go_on.set()
    wait_for(lambda: not client.get(f"{ADDRESS}tuning").json()["running"])
    text = client.get(f"{ADDRESS}tuning").json()["text"]
    assert "mine is ready" in text and "0.800 before, 0.900 after" in text
    assert calls == [(folder, "mine")]
    for_others = make_routes(lambda _: ReviewedFolder(folder, tmp_path / "r.zip", threading.Lock))
    with TestClient(Starlette(routes=for_others), base_url="http://127.0.0.1") as others:
        assert others.get(f"{ADDRESS}tuning").json() is None
        assert others.post(f"{ADDRESS}tuning", params={"name": "mine"}).status_code == 404


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
