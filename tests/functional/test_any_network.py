"""A stranger's network, and MONAI's, from the training command to masks, scores, ONNX and the page."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layout_files
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

import mousecmr_data  # noqa: E402
from mousecmr_data.cli.main import main  # noqa: E402
from mousecmr_data.errors import ArgumentError, FileLayoutError  # noqa: E402
from mousecmr_data.models.safetensors import read_weights  # noqa: E402
from mousecmr_data.training import TrainConfig, train  # noqa: E402

TESTS = Path(__file__).parents[1]
STRANGER = "strangers_network:Net"
SETTINGS = {
    "steps_per_epoch": 6,
    "batch_size": 2,
    "learning_rate": 0.02,
    "cross_entropy": 0.3,
    "augmentation": "none",
    "device": "cpu",
}
DYNUNET = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2], "filters": [4, 8, 8], "deep_supervision": True, "deep_supr_num": 1,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three small mice whose grey values tell the labels: M1 to train, M2 to validate, M3 to test."""
    folder = tmp_path_factory.mktemp("lab")
    splits = {"train": ["M1"], "validation": ["M2"], "test": ["M3"]}
    manifest = layout_files.lab(folder, dict.fromkeys(("M1", "M2", "M3"), (0, 2)), easy=True, splits=splits)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield manifest
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _mirror(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", str(lab.parent / "files"))


def run(*words: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def make_words(folder: Path, lab: Path, network: str, arguments: dict[str, Any], epochs: int = 3) -> list[str]:
    words = ["train", "-o", str(folder), "--source", str(lab), "--network", network, "--epochs", str(epochs)]
    words += ["--network-args", json.dumps(arguments)]
    return words + [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


def read_curve(folder: Path) -> list[list[float]]:
    rows = (folder / "curves.csv").read_text().split()[1:]
    return [[float(v) for v in row.split(",")[:3]] for row in rows]


@pytest.fixture(scope="module")
def trained(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a stranger's network: a run that was killed after its first epoch, and resumed."""
    folder = tmp_path_factory.mktemp("runs") / "stranger"
    words = make_words(folder, lab, STRANGER, {"width": 4})
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    environment["MOUSECMR_MIRROR"] = str(lab.parent / "files")
    process = subprocess.Popen([sys.executable, "-m", "mousecmr_data.cli.main", *words], env=environment)
    deadline = time.monotonic() + 240
    while not (folder / "curves.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", environment["MOUSECMR_MIRROR"])
        assert f"--network {STRANGER}" in run(*words)
    return folder / "best.safetensors"


def test_a_killed_run_ends_like_a_whole_one_that_its_configuration_repeats(
    trained: Path, lab: Path, tmp_path: Path
) -> None:
    words = ("train", "--config", trained.with_name("config.json"), "-o", tmp_path / "again")
    assert "Next: --source FOLDER" in run(*words, code=1)  # "lab" is no name that the library knows
    run(*words, "--source", lab)
    assert np.allclose(read_curve(trained.parent), read_curve(tmp_path / "again"), rtol=1e-3)
    about = json.loads(trained.with_name("run.json").read_text())
    assert about["network"]["network"] == STRANGER
    assert about["network"]["step"] == 8  # found by trial
    assert about["network"]["parameters"] > 10_000


def test_no_code_is_imported_because_a_file_says_so(trained: Path, lab: Path, tmp_path: Path) -> None:
    words = ("predict", "M3", "--source", lab, "--weights", trained, "-o", tmp_path / "masks")
    modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name == "strangers_network"}
    try:
        assert f"Next: --network {STRANGER}" in run(*words, code=1)
        assert "strangers_network" not in sys.modules
    finally:
        sys.modules.update(modules)
    text = run(*words, "--network", "strangers_network:make_smaller", code=1)
    assert "Next: --network strangers_network:" in text
    text = run(*words, "--network", "strangers_network:make_small", code=1)
    assert "cannot be made with the arguments" in text  # those of the header
    assert "have their own network" in run(*words[:5], "phantom-small", *words[6:], "--network", STRANGER, code=1)


def test_predict_evaluate_segment_and_export(trained: Path, lab: Path, tmp_path: Path) -> None:
    weights = ("--weights", trained, "--network", STRANGER)
    masks = tmp_path / "masks"
    output = json.loads(run("predict", "M3", "--source", lab, *weights, "-o", masks, "--json"))
    assert all(min(row["dice_myocardium"], row["dice_blood_pool"]) > 0.4 for row in output["dice"])
    scores = json.loads(run("evaluate", masks, "--truth", lab.parent / "files" / "M3.h5", "--json"))
    assert scores
    words = ("--axes", "yxzt", "--spacing", "1", "0.1", "0.1", "--frame-time", "10")
    run("segment", lab.parent / "files" / "M3.h5", *weights, *words, "-o", tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert settings["settings"]["network"] == STRANGER
    assert settings["weights"]["name"] == "stranger"


@pytest.mark.parametrize("engine", ["onnx", "openvino", "auto", "exact"])
def test_engines(engine: str, trained: Path, tmp_path: Path) -> None:
    """The reference's numbers; OpenVINO's at bfloat16, where the processor has it."""
    for module in {"onnx": ("onnx", "onnxruntime", "onnxscript"), "openvino": ("openvino",)}.get(engine, ()):
        pytest.importorskip(module, reason=f"the extra {engine} is not installed")
    load = {"device": "cpu", "network": STRANGER, "cache": tmp_path}
    reference = mousecmr_data.load_model(trained, engine="eager", **load)
    images = torch.rand(3, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = reference.engine(images)
    # A network of a few steps may be worse at bfloat16 than its gate allows.
    tested = mousecmr_data.load_model(trained, engine=engine, force=engine == "openvino", **load).engine
    limit = 1e-3 if engine in ("onnx", "exact") else 0.1 * float(expected.abs().max())
    assert float((torch.as_tensor(tested(images)) - expected).abs().max()) <= limit
    assert tested.name in (
        {"openvino", "onnx", "exact"} if engine == "auto" else {engine}
    )  # "auto" is what passes its gate


def test_export_to_onnx(trained: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path = tmp_path / "net.onnx"
    run("export", "--weights", trained, "--network", STRANGER, "-o", path, "--size", "64", "96", "--cache", tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = torch.rand(2, 1, 64, 96)
    reference = mousecmr_data.load_model(trained, engine="eager", device="cpu", network=STRANGER)
    (logits,) = session.run(["logits"], {"image": image.numpy()})
    assert (torch.from_numpy(logits) - reference.engine(image)).abs().max() <= 1e-3


def test_integers_of_8_bits_are_for_unet3plus(trained: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    with pytest.raises(ArgumentError, match="--engine openvino, or auto"):
        mousecmr_data.load_model(trained, engine="openvino-int8", network=STRANGER)


def test_a_network_of_monai_needs_no_name_later(lab: Path, tmp_path: Path) -> None:
    run(*make_words(tmp_path / "dynunet", lab, "monai.networks.nets:DynUNet", DYNUNET, epochs=2))
    weights = tmp_path / "dynunet" / "best.safetensors"
    tensors, about = read_weights(weights)
    assert (about["network"], about["network_args"]) == ("monai.networks.nets:DynUNet", DYNUNET)
    from monai.networks.nets import DynUNet

    DynUNet(**DYNUNET).load_state_dict(tensors)  # the names are MONAI's own
    words = ("predict", "M3", "--source", lab, "--weights", weights, "-o", tmp_path / "masks", "--engine", "eager")
    assert "written" in run(*words)
    words = ("train", "-o", tmp_path / "tuned", "--source", lab, "--set", f"initial={weights}", "--epochs", "1")
    run(*words, *(w for key, value in SETTINGS.items() for w in ("--set", f"{key}={value}")))
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["network_args"] == DYNUNET


def test_a_module_in_python(lab: Path, tmp_path: Path) -> None:
    from strangers_network import Net, make_small

    mice = mousecmr_data.load(source=lab, mice=["M1", "M2"])
    config = TrainConfig(**{**SETTINGS, "epochs": 1, "steps_per_epoch": 1})
    module = make_small()
    predictor = train(mice.select(["M1"]), mice.select(["M2"]), tmp_path / "module", config, network=module)
    assert predictor.network.module is module
    assert "predicted" in predictor.segment(mice["M1"])
    weights = tmp_path / "module" / "best.safetensors"
    again = mousecmr_data.load_model(weights, engine="eager", device="cpu", network=make_small)
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in again.network.module.state_dict().items())
    with pytest.raises(FileLayoutError, match="as module"):  # its arguments are not known
        mousecmr_data.load_model(weights, network=Net)
    train(mice.select(["M1"]), mice.select(["M2"]), tmp_path / "class", config, network=Net, network_args={"width": 2})
    assert mousecmr_data.load_model(tmp_path / "class" / "best.safetensors", network=Net).network.arguments == {
        "width": 2
    }


def test_the_page_offers_the_weights_of_its_owner(trained: Path) -> None:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    from mousecmr_data.web.config import ServerConfig
    from mousecmr_data.web.service import PageService
    from mousecmr_data.web.sessions import SessionStore
    from mousecmr_data.web.ui import make_weight_choices

    service = PageService(ServerConfig(own_weights=trained, network=STRANGER), SessionStore())
    (label, name) = make_weight_choices(service)[-1]
    assert name == "best.safetensors"
    assert "stranger, trained on 1 mouse" in label
    config = service.parse(name, "1 0.1 0.1", "", "")
    assert config.weights == str(trained)
    assert config.spacing == (1.0, 0.1, 0.1)
    assert service.get_predictor(config).network.source == STRANGER
    with pytest.raises(ArgumentError, match="on this page"):
        service.parse(str(trained), "", "", "")
