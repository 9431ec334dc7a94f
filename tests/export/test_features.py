"""Features: embedded once, kept whatever stops the run, bound to what computed them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pair_files
import pytest
import soundfile

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.mel import LogMel
from clap_export import features, pairs
from clap_export.clip_files import Clip, ClipFile
from clap_export.embedder import Embedder
from clap_export.errors import PairsError, TrainingError
from clap_export.features import Features
from clap_export.graphs.builder import GraphBuilder
from clap_export.native_towers import NativeTowers

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Clip]:
    root = tmp_path_factory.mktemp("sounds")
    return pairs.read(pair_files.write(root, 6, seconds=None), root).clips


def counted(towers: NativeTowers, clips: Sequence[Clip], cache: Path) -> tuple[Features, int, int]:
    """Features, and how many windows and texts the towers embedded for them."""
    calls = {"texts": 0, "windows": 0}

    class Counting(Embedder):
        def __init__(self, inner: Embedder) -> None:
            self.inner, self.graph = inner, inner.graph

        def texts(self, tokens, output="embedding"):  # type: ignore[no-untyped-def]
            calls["texts"] += len(tokens)
            return self.inner.texts(tokens, output)

        def windows(self, log_mel, output="embedding", batch=8):  # type: ignore[no-untyped-def]
            calls["windows"] += len(log_mel)
            return self.inner.windows(log_mel, output, batch)

    native = replace(
        towers.native, text=Counting(towers.native.text), audio=Counting(towers.native.audio)
    )
    found = features.embed(clips, replace(towers, native=native), cache)
    return found, calls["windows"], calls["texts"]


def same(a: Features, b: Features) -> bool:
    return a.names == b.names and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("windows", "starts", "texts", "said")
    )


def test_rows_are_what_the_towers_give(clips: Sequence[Clip], tmp_path: Path) -> None:
    towers = pair_files.mini()
    found = features.embed(clips, towers, tmp_path)
    mel = LogMel(towers.native.spec, towers.native.frontend)
    for i, clip in enumerate(clips):
        own = found.windows[found.starts[i] : found.starts[i + 1]]
        wanted = l2_normalize(towers.native.audio.windows(clip.windows(towers.spec, mel)))
        np.testing.assert_allclose(own, wanted, atol=1e-5)
        said = found.texts[found.said[i] : found.said[i + 1]]
        tokens = towers.native.front_end.tokenize(clip.captions)
        np.testing.assert_allclose(said, towers.native.text.texts(tokens), atol=1e-5)


def test_nothing_is_embedded_twice_in_any_order(clips: Sequence[Clip], tmp_path: Path) -> None:
    towers = pair_files.mini()
    first, windows, texts = counted(towers, clips[:4], tmp_path)
    assert windows == len(first.windows)
    assert texts == len({caption for clip in clips[:4] for caption in clip.captions})
    again, *calls = counted(towers, clips[:4], tmp_path)
    assert calls == [0, 0]
    assert same(first, again)
    turned, windows, _ = counted(towers, clips[::-1], tmp_path)
    assert windows == 2  # the two clips that are new
    assert same(turned.take(np.array([5, 4, 3, 2])), first)


def test_other_weights_have_rows_of_their_own(clips: Sequence[Clip], tmp_path: Path) -> None:
    towers = pair_files.mini()
    counted(towers, clips, tmp_path)
    other = replace(towers, audio_digest="f" * 64)
    _, windows, texts = counted(other, clips, tmp_path)
    assert windows >= len(clips)
    assert texts == 0


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:-1] + b"\0", lambda d: b"x"])
def test_a_damaged_file_is_said_and_computed_again(
    clips: Sequence[Clip], tmp_path: Path, damage: object
) -> None:
    towers = pair_files.mini()
    first, *_ = counted(towers, clips, tmp_path)
    (path,) = tmp_path.glob("audio-*/*.safetensors")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    said: list[str] = []
    again = features.embed(clips, towers, tmp_path, said.append)
    assert same(first, again)
    assert any("is damaged" in line for line in said)


def test_ctrl_c_keeps_the_chunk_in_hand(
    clips: Sequence[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second of three chunks: the third alone is embedded by the next run."""
    monkeypatch.setattr(features, "CHUNK", 2)
    towers = pair_files.mini()
    before = signal.getsignal(signal.SIGINT)

    class Pressed(ClipFile):
        def windows(self, spec, front_end):  # type: ignore[no-untyped-def]
            os.kill(os.getpid(), signal.SIGINT)
            return super().windows(spec, front_end)

    pressed = list(clips)
    clip = clips[2]
    assert isinstance(clip, ClipFile)
    pressed[2] = Pressed(clip.name, clip.path, clip.captions)
    with pytest.raises(KeyboardInterrupt):
        features.embed(pressed, towers, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    found, windows, _ = counted(towers, clips, tmp_path)
    assert windows == 2
    assert same(found, features.embed(clips, towers, tmp_path / "whole"))


def test_clips_that_cannot_be_read_are_counted_and_left_out(
    clips: Sequence[Clip], tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF, or so it says")
    bad = ClipFile("bad.wav", tmp_path / "bad.wav", ("nothing",))
    for _ in range(2):  # from the file, then from the cache
        said: list[str] = []
        found = features.embed([clips[0], bad], pair_files.mini(), tmp_path / "c", said.append)
        assert found.names == (clips[0].name,)
        assert any("1 of 2 clips can't be read" in line and "bad.wav" in line for line in said)
    with pytest.raises(PairsError, match="none of the 1 clips can be read"):
        features.embed([bad], pair_files.mini(), tmp_path / "c")


def broken_tower() -> bytes:
    """A graph whose weights hold NaN."""
    g = GraphBuilder("audio")
    mean = g.node("ReduceMean", ["log_mel"], axes=[1, 2], keepdims=0)
    column = g.node("Unsqueeze", [mean, g.ints(1)])
    g.node(
        "MatMul", [column, g.constant(np.full((1, 512), np.nan), "w", np.float32)], out="embedding"
    )
    inputs: dict[str, tuple[str, list[str | int]]] = {"log_mel": ("float32", ["B", 128, 64])}
    model = g.model(inputs, {"embedding": ("float32", ["B", 512])})
    return model.SerializeToString()


def test_values_that_are_not_finite_are_refused_by_name(
    clips: Sequence[Clip], tmp_path: Path
) -> None:
    towers = pair_files.mini()
    native = replace(towers.native, audio=Embedder(broken_tower(), "broken"))
    with pytest.raises(TrainingError, match=r"not finite for '0\.wav'"):
        features.embed(clips, replace(towers, native=native), tmp_path)
    assert not list(tmp_path.glob("audio-*/*"))


def test_a_clip_is_the_mean_of_its_windows_under_a_head(tmp_path: Path) -> None:
    """As the engine makes a clip's embedding: unit windows, their mean, a unit row."""
    rng = np.random.default_rng(0)
    windows = l2_normalize(rng.standard_normal((5, 8)).astype(np.float32))
    texts = l2_normalize(rng.standard_normal((4, 8)).astype(np.float32))
    own = Features(("a", "b"), windows, np.array([0, 2, 5]), texts, np.array([0, 1, 4]))
    matrix: Float32 = rng.standard_normal((8, 3)).astype(np.float32)
    turned = l2_normalize(windows @ matrix)
    wanted = l2_normalize(np.stack([turned[:2].mean(axis=0), turned[2:].mean(axis=0)]))
    np.testing.assert_allclose(own.sounds(matrix), wanted, atol=1e-6)
    assert own.owners().tolist() == [0, 1, 1, 1]
    (last,) = own.take(np.array([1])).names
    assert last == "b"


def test_a_long_caption_is_cut_and_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    clip = ClipFile("a", tmp_path / "a.wav", ("a dog barks and " * 60,))
    said: list[str] = []
    features.embed([clip], pair_files.mini(), tmp_path / "c", said.append)
    assert any("1 captions are longer than the model reads" in line for line in said)


def test_a_caption_that_cannot_be_read_is_named(clips: Sequence[Clip], tmp_path: Path) -> None:
    clip = clips[0]
    assert isinstance(clip, ClipFile)
    with pytest.raises(PairsError, match=r"caption '\\x00\\x01': .*correct it in the CSV"):
        features.embed([replace(clip, captions=("\0\1",))], pair_files.mini(), tmp_path)
