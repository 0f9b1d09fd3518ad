"""Networks by name: what they need, what they give, and what a file may not do."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from strangers_network import Net  # noqa: E402
from torch import nn  # noqa: E402

from mousecmr_data.errors import ArgumentError, UnknownNameError  # noqa: E402
from mousecmr_data.inference.predictor import load_model  # noqa: E402
from mousecmr_data.models import network as networks  # noqa: E402
from mousecmr_data.models.network import UNET3PLUS, build_network, check_trusted  # noqa: E402
from mousecmr_data.models.safetensors import hash_network, read_weights, write_weights  # noqa: E402

UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [2, 4], "strides": [2]}


class Fixed(nn.Module):
    """A network for images of one size, as transformers with position embeddings are."""

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)
        self.position = nn.Parameter(torch.zeros(1, 1, size, size))

    def forward(self, x: Any) -> Any:
        return self.conv(x + self.position)


class Heads(nn.Module):
    """Returns what it is told to."""

    def __init__(self, kind: str, channels: int = 3) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(1, channels, 1), kind

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        half = nn.functional.avg_pool2d(y, 2)
        outputs = {
            "one": y, "finest first": [y, half], "finest last": (half, y), "equal": [y * 0, y], "small": half,
            "stack": torch.stack([y, y * 0], 1), "softmax": y.softmax(1), "dict": {"out": y}, "flat": y.flatten(1),
        }  # fmt: skip
        return outputs[self.kind]


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (1, 1)])
def test_images_of_any_size_are_padded_to_what_the_network_needs(size: tuple[int, int]) -> None:
    network = build_network(Net, {"width": 2}).eval()
    assert (network.step, network.source) == (8, "strangers_network:Net")
    outputs = network(torch.rand(2, 1, *size))
    assert [tuple(y.shape) for y in outputs] == [(2, 3, *size)] * 3
    network.deep_supervision = False
    (prediction,) = network(torch.ones(2, 1, *size))
    assert tuple(prediction.shape) == (2, 3, *size)


def test_padding_does_not_change_what_is_inside() -> None:
    network = build_network(Fixed).eval()
    assert network.step == 256
    image = torch.rand(1, 1, 200, 100)
    assert torch.allclose(network(image)[-1], network.module.conv(image), atol=1e-6)


@pytest.mark.parametrize("kind", ["one", "finest first", "finest last", "equal", "stack"])
def test_the_prediction_is_the_last_output(kind: str) -> None:
    network = build_network(lambda: Heads(kind)).eval()
    image = torch.rand(1, 1, 6, 8)
    assert torch.equal(network(image)[-1], network.module.conv(image))


def test_smaller_predictions_are_enlarged() -> None:
    assert build_network(Heads, {"kind": "small"})(torch.rand(1, 1, 6, 8))[-1].shape == (1, 3, 6, 8)


@pytest.mark.parametrize(
    ("kind", "channels", "message"),
    [
        ("softmax", 3, "leave out the softmax"),
        ("dict", 3, "or a list of them"),
        ("one", 2, "blood pool"),
        ("flat", 3, "(2, 3, "),
    ],
)
def test_a_network_that_gives_something_else_is_refused(kind: str, channels: int, message: str) -> None:
    with pytest.raises(ArgumentError) as e:
        build_network(Heads, {"kind": kind, "channels": channels})
    assert message in str(e.value)


def test_the_advice_for_a_wrong_number_of_channels_works() -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    for wrong, context in (({"in_channels": 3}, 0), ({"out_channels": 2}, 0), ({}, 1)):
        with pytest.raises(ArgumentError) as e:
            build_network("monai.networks.nets:UNet", {**UNET, **wrong}, context=context)
        arguments = json.loads(str(e.value.next_step).partition("'")[2].rstrip("'"))
        assert build_network("monai.networks.nets:UNet", arguments, context=context).n_inputs == 1 + 2 * context


def test_names_that_do_not_exist_get_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {
        "strangers_network.Net": "--network strangers_network:Net",
        "strangers_network:Nett": "--network strangers_network:Net",
        "no_such_module:Net": "PYTHONPATH to its folder",
        "mine:Net": "PYTHONPATH=. before the command",
    }
    (tmp_path / "mine.py").write_text("raise SystemError('broken')\n")
    monkeypatch.chdir(tmp_path)
    for name, advice in cases.items():
        with pytest.raises(UnknownNameError) as e:
            build_network(name)
        assert advice in str(e.value.next_step)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError, match="SystemError: broken"):
        build_network("mine:Net")
    with pytest.raises(ArgumentError, match=r"width: int = 8"):
        build_network("strangers_network:Net", {"widht": 2})
    with pytest.raises(ArgumentError, match=r"makes str"):
        build_network(str)


def test_an_entry_point_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    mine = EntryPoints([EntryPoint("my-net", "strangers_network:Net", networks.ENTRY_POINTS)])
    monkeypatch.setattr(networks, "entry_points", lambda **wanted: mine.select(**wanted))
    assert build_network("my-net", {"width": 2}).source == "strangers_network:Net"
    check_trusted("strangers_network:Net", {}, Path("x.safetensors"))
    with pytest.raises(UnknownNameError, match="--network my-net"):
        build_network("my-nett")


@pytest.mark.parametrize(
    "source",
    [
        "os:system", "strangers_network:Net", "monai.bundle:run", "monai.networks.nets:torch.hub.load", "__main__:Net",
        "monai.networks.nets:annotations", "mousecmr_data._utils.atomic:write_text", "monai.networks.netsevil:X",
    ],
)  # fmt: skip
def test_a_weights_file_imports_nothing_that_was_not_named(source: str) -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    with pytest.raises((ArgumentError, UnknownNameError)):
        check_trusted(source, {}, Path("x.safetensors"))


def test_a_weights_file_has_nothing_downloaded() -> None:
    with pytest.raises(ArgumentError, match="if you trust its code"):
        check_trusted("monai.networks.nets:HoVerNet", {"pretrained_url": "https://x.org/a.pth"}, Path("x.safetensors"))


def test_weights_of_any_network_are_written_and_read(tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    for source, arguments in (
        (UNET3PLUS, {"channels": [2, 2, 2, 2, 2], "reduce": 2}),
        ("monai.networks.nets:UNet", UNET),
    ):
        network = build_network(source, arguments, scaling="min-p99")
        path = tmp_path / "w.safetensors"
        write_weights(path, network, {"name": "mine"})
        tensors, about = read_weights(path)
        assert (about["network"], about["scaling"]) == (source, "min-p99")
        assert tensors.keys() == network.module.state_dict().keys()
        again = load_model(path, engine="eager", device="cpu").network
        assert (type(again), again.step, again.scaling) == (type(network), network.step, "min-p99")
        assert hash_network(again) == hash_network(network)


def test_networks_that_compute_other_things_with_the_same_numbers_have_other_names_in_the_cache() -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    a, b = (build_network("monai.networks.nets:UNet", {**UNET, "act": act}) for act in ("RELU", "TANH"))
    b.load_state_dict(a.state_dict())
    assert hash_network(a) != hash_network(b)


def test_files_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    from mousecmr_data.models.safetensors import write_tensors

    network = build_network(UNET3PLUS, {"channels": [2, 2, 2, 2, 2]}, context=1)
    header = {"channels": [2, 2, 2, 2, 2], "classes": 3, "reduce": 1, "context": 1, "scaling": "min-max"}
    path = write_tensors(tmp_path / "old.safetensors", network.state_dict(), header)
    assert load_model(path, engine="eager", device="cpu").network.describe() == network.describe()
