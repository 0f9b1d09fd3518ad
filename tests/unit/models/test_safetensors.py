from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.errors import FileLayoutError, MissingDataError  # noqa: E402
from mousecmr_data.models.safetensors import read_tensors, write_tensors  # noqa: E402


def test_written_tensors_are_read_back(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "a" / "t.safetensors", {"x": torch.eye(3)}, {"epoch": 3, "loss": [0.1, 2e-300]})
    tensors, about = read_tensors(path)
    assert torch.equal(tensors["x"], torch.eye(3))
    assert about == {"epoch": 3, "loss": [0.1, 2e-300]}
    assert [p.name for p in path.parent.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_damaged_files_are_rejected(tmp_path: Path, cut: int) -> None:
    path = write_tensors(tmp_path / "t.safetensors", {"x": torch.eye(3)}, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileLayoutError, match=r"t\.safetensors"):
        read_tensors(path)
    with pytest.raises(MissingDataError):
        read_tensors(tmp_path / "u.safetensors")
