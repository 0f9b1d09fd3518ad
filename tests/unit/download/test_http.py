import pytest

from mousecmr_data.download.http import find_token

RAW = "https://raw.githubusercontent.com/lab/mice/abc/Data/Mouse1.h5"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOUSECMR_TOKEN", "GITHUB_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, name.lower())


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (RAW, "github_token"),
        (RAW.replace("https", "http"), None),
        (RAW.replace(".com/", ".com:444/"), None),
        (RAW.replace("raw.", "evil-raw."), None),
        (RAW.replace(".com/", ".com.evil.org/"), None),
        ("https://raw.githubusercontent.com@evil.org/x", None),
        ("https://media.githubusercontent.com/x", None),
        ("https://api.github.com/x", None),
        ("https://huggingface.co/datasets/lab/mice/resolve/main/x", "hf_token"),
        ("http://huggingface.co/x", None),
        ("https://cdn-lfs.huggingface.co/x", None),
        ("https://mirror.example.org/x", "mousecmr_token"),
        ("https://mirror.example.org:443/x", "mousecmr_token"),
        ("http://mirror.example.org/x", None),
        ("https://second.example.org/x", None),
        ("file:///etc/passwd", None),
    ],
)
def test_each_token_is_sent_to_its_own_host_only(url: str, sent: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MOUSECMR_MIRROR", "/mnt/mice hf://datasets/a/b https://mirror.example.org https://second.example.org"
    )
    assert find_token(url) == sent


def test_no_token_over_plain_http_except_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for base, sent in (
        ("http://10.0.0.7:8000", None),
        ("http://127.0.0.1:8000", "mousecmr_token"),
        ("http://localhost", "mousecmr_token"),
        ("http://[::1]:80", "mousecmr_token"),
    ):
        monkeypatch.setenv("MOUSECMR_MIRROR", base)
        assert find_token(base + "/x") == sent


def test_empty_tokens_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", " \n")
    assert find_token(RAW) is None
