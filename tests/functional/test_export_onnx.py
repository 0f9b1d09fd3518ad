"""``mousecmr export`` writes a file that other programs can use and that computes what the network computes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

from mousecmr_data.cli.main import main  # noqa: E402
from mousecmr_data.inference.predictor import load_model  # noqa: E402


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, result.output
    return result.output


def test_the_file_computes_what_the_network_computes(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    words = ("export", "--weights", "phantom-small", "-o", str(path), "--size", "64", "96", "--cache", str(tmp_path))
    assert json.loads(run(*words, "--json"))["synthetic_training"] is True
    model = onnx.load(path)
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["logits"]
    about = {p.key: p.value for p in model.metadata_props}
    assert about["name"] == "phantom-small"
    assert about["synthetic_training"] == "True"
    assert "synthetic" in about["trained_on"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    reference = load_model("phantom-small", device="cpu", engine="eager")
    for batch in (1, 2, 5):
        image = torch.rand(batch, reference.network.n_inputs, 64, 96)
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        assert (torch.from_numpy(logits) - reference.engine(image)).abs().max() <= 1e-3
    assert "trained on synthetic mice only" in run(*words)  # from the cache; the text output has the notice too


def test_sizes_the_network_cannot_take_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    text = run("export", "--weights", "phantom-small", "-o", str(path), "--size", "100", "96", code=1)
    assert "multiples of 32" in text
    assert not path.exists()
