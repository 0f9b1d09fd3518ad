"""No command and no optional package reaches another computer unasked; with MOUSECMR_OFFLINE none does at all.

Each case runs in a process of a new user behind a proxy that refuses (:mod:`servers.recorder`). A few run here, all of
them by ``make stress``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import layout_files
import pytest
from click.testing import CliRunner
from servers.host import Host
from servers.recorder import Recorder, Run, find_strace
from small_mouse import write_small_mouse
from small_protocol import write_networks, write_protocol

from mousecmr_data.cli.main import main

pytestmark = pytest.mark.stress
STRESS = os.environ.get("MOUSECMR_STRESS") == "1"
OFFLINE = ["", "1"] if STRESS else [""]
"""Values of MOUSECMR_OFFLINE."""

PHANTOM = "--source phantom --cache {phantoms}"
COMMANDS = {
    "doctor": "--no-network",
    "info": "",
    "verify": "Mouse1",
    "show": f"Mouse6 {PHANTOM} -o out",
    "measure": f"Mouse6 {PHANTOM}",
    "convert": f"Mouse6 {PHANTOM} -o store.zarr --workers 2",
    "phantom": "Mouse6 --cache {phantoms}",
    "manifest create": "{lab}/files -o lab-manifest --spacing 1 0.1 0.1 --frame-time 5",
    "lock export": "",
    "demo": "--per-group 1 --segment 1 -o out --cache {phantoms}",
    "segment": "{scan} -o out --weights phantom-small",
    "predict": "{lab}/files/M1.h5 -o out --weights phantom-small --workers 2 --spacing 1 0.1 0.1",
    "train": "--recipe phantom-small -o run --epochs 1 --device cpu --set pool_mice=1 --set steps_per_epoch=1 "
    "--set channels=[2,2,2,2,2] --set validation_mice=1 --cache {phantoms}",
    "tune": "{lab}/results -o tuned --name lab-mice",
    "export": "--weights phantom-small -o network.onnx --size 64 64",
    "evaluate": "{lab}/files --truth {lab}/files --spacing 1 0.1 0.1 -o result.json --report report",
    "compare": "{lab}/result.json {lab}/result.json",
    "merge": "{lab}/result.json -o joined.json",
    "reproduce": "-o out",
    "benchmark list": "",
    "benchmark run": "{lab}/three.json --source phantom-64 --network {lab}/ours.json --seeds 1 -o runs "
    "--cache {phantoms}",
    "benchmark submit": "{lab}/files --protocol internal --source phantom --method moved --cache {phantoms}",
    "benchmark check": "--leaderboard {lab}/leaderboard",
    "publish": f"Mouse6 {PHANTOM} --repo-id lab/synthetic-mice --dry-run -o out",
    "bundle create": "mice.zip --source {lab}/manifest --cache {lab}/cache",
    "bundle import": "{lab}/mice.zip --source {lab}/manifest",
    "cite": "",
}
"""What follows each command that may not connect."""
EXIT_CODES = {"verify": 1, "reproduce": 3, "tune": 1, "benchmark submit": 1, "benchmark check": 1}
"""Of commands that find no files, no entries or no reviewed mice: they say what to type, and download nothing."""
SERVER = """
import re, subprocess, sys, urllib.request
code = "from mousecmr_data.cli.main import main; main()"
page = subprocess.Popen([sys.executable, "-c", code, WORDS, "--no-browser"], stderr=subprocess.PIPE, text=True)
address = re.search("http://[^ ]+", page.stderr.readline())[0]
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address) as answer:
    assert CONTENT in answer.read()
page.send_signal(2)
page.communicate(timeout=60)
"""
PROGRAMS = {
    "review": SERVER.replace("WORDS", '"review", f"{lab}/results"').replace("CONTENT", 'b"review.js"'),
    "serve": SERVER.replace("WORDS", '"serve", "--port", "0"').replace("CONTENT", 'b"gradio"'),
    "openvino": """
import mousecmr_data, torch
network = mousecmr_data.load_model("phantom-small", engine="openvino", device="cpu")
print(network.engine(torch.zeros(1, network.network.n_inputs, 64, 64)).shape)
""",
    "onnx": """
import time, mousecmr_data, torch
network = mousecmr_data.load_model("phantom-small", engine="onnx", device="cpu")
print(network.engine(torch.zeros(1, network.network.n_inputs, 64, 64)).shape)
time.sleep(20)  # ONNX Runtime sends its statistics after a while
""",
    "datasets": """
from mousecmr_data.adapters import huggingface
print(len(list(huggingface.dataset(cohort, "labelled"))))
""",
    "torch": """
from mousecmr_data.adapters.torch import dataset
from torch.utils.data import DataLoader
print(sum(1 for _ in DataLoader(dataset(cohort), batch_size=None, num_workers=2)))
""",
    "monai": """
from mousecmr_data.models.network import build_network
arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
print(build_network("monai.networks.nets:UNet", arguments).n_inputs)
""",
    "pingouin": """
from mousecmr_data.metrics.agreement import icc
print(icc([[1, 2], [2, 3], [3, 5], [4, 4], [5, 6]]))
""",
    "dask": """
print(float(mousecmr_data.load(source=f"{lab}/manifest", cache=f"{lab}/cache", chunks={})["M1"]["image"].mean()))
""",
}
"""Uses of each optional package from Python, and the page with one request."""
CONNECTING = {
    "doctor": ["doctor"],
    "fetch": ["fetch", "Mouse1"],
    "fetch --check-upstream": ["fetch", "Mouse1", "--check-upstream"],
    "fetch --only-weights": ["fetch", "--only-weights"],
    "verify --repair": ["verify", "Mouse1", "--repair"],
    "publish": ["publish", "M1", "--source", "{lab}/manifest", "--cache", "{lab}/cache", "--repo-id", "lab/mice"],
    "a store at a URL": ["measure", "Mouse1", "--source", "https://mice.invalid/mice.zarr"],
}
"""Commands that say that they connect: they try, through the proxy or past it, unless MOUSECMR_OFFLINE is set."""
SMALL = {"info", "bundle import", "openvino"}


def select(names: Iterable[str]) -> list[str]:
    return [n for n in names if STRESS or n in SMALL]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, phantom_cache: Path) -> dict[str, str]:
    """Inputs: phantoms, a scan, and a lab's manifest with its files in a cache, a result of evaluate and a bundle."""
    lab = tmp_path_factory.mktemp("lab")
    scan = write_small_mouse(phantom_cache, lab / "scan.nii.gz")
    manifest = layout_files.lab(lab, {"M1": (0, 2), "M2": (0, 2)})
    files = {f"Data/{p.name}": p.read_bytes() for p in (lab / "files").iterdir()}
    with Host({Path(p).name: b for p, b in files.items()}) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", host.url)
        for words in (
            ["fetch", "--source", manifest, "--cache", lab / "cache"],
            ["bundle", "create", lab / "mice.zip", "--source", manifest, "--cache", lab / "cache"],
            ["evaluate", lab / "files", "--truth", lab / "files", "--spacing", 1, 0.1, 0.1, "-o", lab / "result.json"],
            ["segment", scan, "-o", lab / "results", "--weights", "phantom-small", "--no-pictures"],
        ):
            done = CliRunner().invoke(main, list(map(str, words)))
            assert done.exit_code == 0, done.output
    (lab / "leaderboard").mkdir()
    write_protocol(lab)
    write_networks(lab)
    return {"lab": str(lab), "phantoms": str(phantom_cache), "scan": str(scan)}


def run(folder: Path, code: str, words: Sequence[str] = (), **more: str) -> Run:
    with Recorder(folder) as recorder:
        return recorder.run(["-c", code, *words], **more)


def run_command(words: list[str], folder: Path, places: dict[str, str], **more: str) -> Run:
    words = [w.format(**places) for w in words]
    return run(folder, "from mousecmr_data.cli.main import main; main()", words, **more)


def check_silent(done: Run, code: int = 0) -> None:
    assert done.code == code, done.output[-3000:]
    assert done.attempts == []
    assert done.kept == [], "no identifier, and nothing else, in the home folder"


def list_commands(group: click.Group, prefix: str = "") -> list[str]:
    names: list[str] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        names += list_commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else [prefix + name]
    return names


def test_every_command_has_a_case() -> None:
    assert sorted({*COMMANDS, *PROGRAMS, *CONNECTING} & {*list_commands(main)}) == sorted(list_commands(main))


@pytest.mark.parametrize("offline", OFFLINE)
@pytest.mark.parametrize("name", select(COMMANDS))
def test_a_command_connects_to_nothing(name: str, offline: str, tmp_path: Path, places: dict[str, str]) -> None:
    words = [*name.split(), *COMMANDS[name].split()]
    check_silent(run_command(words, tmp_path, places, MOUSECMR_OFFLINE=offline), EXIT_CODES.get(name, 0))


@pytest.mark.parametrize("offline", OFFLINE)
@pytest.mark.parametrize("name", select(PROGRAMS))
def test_a_package_connects_to_nothing(name: str, offline: str, tmp_path: Path, places: dict[str, str]) -> None:
    start = """if True:
        import sys, mousecmr_data
        lab = sys.argv[1]
        cohort = mousecmr_data.load(source=f"{lab}/manifest", cache=f"{lab}/cache")
    """
    check_silent(run(tmp_path, start + PROGRAMS[name], [places["lab"]], MOUSECMR_OFFLINE=offline))


@pytest.mark.parametrize("name", CONNECTING if STRESS else ["fetch"])
def test_what_connects_tries_and_offline_does_not(name: str, tmp_path: Path, places: dict[str, str]) -> None:
    done = run_command(CONNECTING[name], tmp_path / "online", places, HF_TOKEN="token")
    assert bool(done.code) == (name != "doctor"), "doctor reports what it finds"
    assert done.attempts, done.output
    done = run_command(CONNECTING[name], tmp_path / "offline", places, HF_TOKEN="token", MOUSECMR_OFFLINE="1")
    assert bool(done.code) == (name != "doctor"), "doctor reports what it finds"
    assert "MOUSECMR_OFFLINE" in done.output
    assert done.attempts == []


def test_the_recorder_sees_proxied_direct_and_native_attempts(tmp_path: Path) -> None:
    code = """
import ctypes, socket, struct, urllib.request, pathlib
try:
    urllib.request.urlopen("http://statistics.example.org/")
except OSError:
    pass
s = socket.socket(type=socket.SOCK_DGRAM)
s.connect(("192.0.2.1", 9))  # an address for documentation; connecting a datagram socket sends nothing
address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(9), socket.inet_aton("192.0.2.2"))
print(ctypes.CDLL(None).connect(s.fileno(), address, len(address)))
pathlib.Path.home().joinpath("id").touch()
"""
    done = run(tmp_path, code)
    text = "\n".join(done.attempts)
    assert "proxy: GET http://statistics.example.org/" in text
    assert "socket.connect ('192.0.2.1', 9)" in text
    assert done.kept == ["id"]
    if not find_strace():
        pytest.skip("strace is not installed or not permitted: native code was not recorded")
    assert "192.0.2.2" in text
