from pathlib import Path

import pytest
from servers.cohort import manifest

from mousecmr_data._utils.environment import is_offline
from mousecmr_data.download.sources import list_mirrors, list_sources, redact_url
from mousecmr_data.schema.manifest import load_manifest

TINY = manifest({"Data/Mouse1.h5": b""}, "https://up.example.org/{version}/{path}")
ENTRY = TINY.files["Mouse1"]


def test_the_pinned_urls_of_the_dataset() -> None:
    real = load_manifest()
    (only,) = list_sources(real, real.files["Mouse130"])
    assert only.urls[0].startswith("https://raw.githubusercontent.com/")
    assert only.urls[0].endswith(f"/{real.version}/Data/Mouse130.h5")
    weights = next(iter(real.weights.values()))
    assert list_sources(real, weights)[0].urls[0].startswith("https://media.githubusercontent.com/")


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("", ()),
        ("  ", ()),
        ("https://a.org/x/ http://b.org", ("https://a.org/x", "http://b.org")),
        ("https://a.org,https://b.org;https://c.org\nhttps://d.org", tuple(f"https://{c}.org" for c in "abcd")),
        ("file:///mnt/mice/", ("file:///mnt/mice",)),
        ("/mnt/mice", ("file:///mnt/mice",)),
        ("hf://datasets/lab/mice", ("https://huggingface.co/datasets/lab/mice/resolve/main",)),
        ("hf://datasets/lab/mice@v1.0/", ("https://huggingface.co/datasets/lab/mice/resolve/v1.0",)),
    ],
)
def test_mirrors(text: str, bases: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", text)
    assert list_mirrors() == bases


def test_order_and_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", "https://a.org /mnt/my%20mice")
    one, two, three = list_sources(TINY, ENTRY)
    assert one.urls == ("https://a.org/Data/Mouse1.h5", "https://a.org/Mouse1.h5")
    assert two.urls[0] == "file:///mnt/my%2520mice/Data/Mouse1.h5"
    assert three.urls == (f"https://up.example.org/{TINY.version}/Data/Mouse1.h5",)
    assert [s.network for s in (one, two, three)] == [True, False, True]
    assert list_sources(TINY, ENTRY, offline=True) == (two,)
    monkeypatch.setenv("MOUSECMR_UPSTREAM", "off")
    assert list_sources(TINY, ENTRY) == (one, two)


@pytest.mark.parametrize(
    "word",
    [
        "ftp://a.org",
        "hf://models/lab/net",
        "hf://datasets/lab",
        "s3://bucket/x",
        "https://a.org:80a0/x",
        "https://a.org:70000",
        "http://[::1/x",
        "https:///x",
        "https://a.org/\x1b[2J",
    ],
)
def test_words_that_are_not_mirrors(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", word)
    assert list_mirrors() == ()
    wrong, upstream = list_sources(TINY, ENTRY)
    assert "MOUSECMR_MIRROR names" in wrong.problem
    assert "not a mirror" in wrong.problem
    assert not wrong.urls
    assert upstream.urls


@pytest.mark.parametrize(
    ("text", "offline"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("no", False), ("False", False), ("", False)],
)
def test_offline(text: str, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", text)
    assert is_offline() is offline
    assert is_offline(not offline) is not offline


def test_redacted_urls_hide_secrets() -> None:
    assert redact_url("https://me:pw@a.org:8/p/f.h5?X-Amz-Signature=abc#frag") == "https://a.org:8/p/f.h5?…"
    assert redact_url(Path("/mnt/f.h5").as_uri()) == "file:///mnt/f.h5"
    assert redact_url("http://me:p/w@[bad/x?sig=1") == "http://me:p/w@[bad/x?…", "what stands before the @ is a path"
    assert redact_url("http://me:pw@[bad\x1b/x?sig=1") == "http://[bad�/x?…"
    assert len(redact_url("http://a/" + "x" * 9999)) < 220


@pytest.mark.parametrize(
    "template", ["https://a.org/{versoin}/{path}", "https://a.org/{", "https://a.org:8o/{path}", "https://[x/{path}"]
)
def test_a_wrong_template_in_the_manifest_is_a_problem_of_that_source(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", "https://mirror.org")
    tiny = manifest({"Data/Mouse1.h5": b""}, template)
    mirror, upstream = list_sources(tiny, tiny.files["Mouse1"])
    assert mirror.urls
    assert not upstream.urls
    assert template.split("{")[0] in upstream.problem
