"""Stored sounds as bytes: whole, in ranges, and never from outside the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from served import Client

from clap_engine.serve import playback
from clap_engine.serve.replies import RequestError

KEY = "tones/tone 1.wav"


def _path(key: str) -> str:
    return f"/v1/clips/{quote(key, safe='')}/audio"


def test_a_hit_names_where_its_sound_is(client: Client, sounds_root: Path) -> None:
    hits = client.post("/v1/search", {"text": "a tone", "k": 9}).json["hits"]
    for hit in hits:
        answer = client.get(hit["audio"])
        assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
        assert answer.body == (sounds_root / hit["key"]).read_bytes()


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None),
     ("bytes=0-0", 0, 1), ("bytes=5-999999999", 5, None)],
)  # fmt: skip
def test_a_range_is_that_part(
    client: Client, sounds_root: Path, header: str, start: int, end: int | None
) -> None:
    whole = (sounds_root / KEY).read_bytes()
    answer = client.get(_path(KEY), range=header)
    assert answer.status == 206
    assert answer.body == whole[start:end]
    first = start % len(whole)
    said = f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"
    assert answer.headers["content-range"] == said


@pytest.mark.parametrize("header", ["bytes=x-y", "lines=0-1", "bytes=1-2,5-6", "bytes=-", "9-1"])
def test_what_is_no_range_gives_the_whole(client: Client, header: str) -> None:
    assert client.get(_path(KEY), range=header).status == 200


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0"])
def test_a_range_outside_is_refused(client: Client, header: str) -> None:
    answer = client.get(_path(KEY), range=header)
    assert answer.status == 416
    assert answer.headers["content-range"].startswith("bytes */")


def test_unknown_keys_are_not_found(client: Client) -> None:
    for key in (
        "none",
        "../sounds.clap/collection.sqlite",
        "/etc/passwd",
        "tones",
        ".",
        "a" * 5000,
    ):
        answer = client.get(_path(key))
        assert (answer.status, answer.error["code"]) == (404, "no_clip")
    assert client.get("/v1/clips/../../../../etc/passwd/audio").status == 404


def test_without_a_folder_nothing_is_played(start: Callable[..., Any]) -> None:
    with start() as serving:
        hits = serving.client.post("/v1/search", {"text": "a tone"}).json["hits"]
        assert {hit["audio"] for hit in hits} == {None}
        assert serving.client.get(_path(KEY)).status == 404


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with sounds, and around it what must not be given away."""
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (root / "in" / "ok.wav").write_bytes(b"ok")
    (root / "notes.txt").write_text("secret")
    (tmp_path / "out.wav").write_bytes(b"secret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "x.wav").write_bytes(b"secret")
    (root / "out.wav").symlink_to(tmp_path / "out.wav")
    (root / "away").symlink_to(tmp_path)
    (root / "within.wav").symlink_to("in/ok.wav")
    (root / "round.wav").symlink_to("round.wav")
    (root / "folder.wav").mkdir()
    os.mkfifo(root / "pipe.wav")
    return root


@pytest.mark.parametrize(
    "stored",
    ["../out.wav", "/etc/passwd", "out.wav", "away/out.wav", "in/../../out.wav", "round.wav",
     "folder.wav", "pipe.wav", "notes.txt", "in", "", ".", "none.wav", "in/ok.wav\0.wav",
     "../root-2/x.wav", "in/ok.wav/x.wav", "/dev/zero.wav", "x" * 300 + ".wav", None],
)  # fmt: skip
def test_nothing_outside_the_folder_is_opened(tree: Path, stored: str | None) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(RequestError) as refused:
        playback.response(tree, stored, None)
    assert (refused.value.status, refused.value.code) == (404, "no_sound")
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("stored", ["in/ok.wav", "within.wav", "in/../in/ok.wav"])
def test_what_lies_inside_is_played(tree: Path, stored: str) -> None:
    for path in (stored, str(tree / stored)):
        answer = playback.response(tree, path, None)
        assert answer.headers["content-length"] == "2"
        answer.body_iterator.aclose()  # type: ignore[attr-defined]


def test_a_link_that_takes_a_folders_place_is_not_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and opening: `in` becomes a link to the outside."""
    (tree.parent / "ok.wav").write_bytes(b"secret")
    real = Path.resolve

    def swapped(self: Path, strict: bool = False) -> Path:
        found = real(self, strict=strict)
        if self.name == "ok.wav":
            (tree / "in").rename(tree / "was")
            (tree / "in").symlink_to(tree.parent)
        return found

    monkeypatch.setattr(Path, "resolve", swapped)
    with pytest.raises(RequestError):
        playback.response(tree, "in/ok.wav", None)
