"""Captions of an engine over a small bundle whose decoder knows which word follows which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle as tiny
from sounds import encode, noise

from clap_engine import bundle as bundles
from clap_engine import cli, doctor, loading
from clap_engine.beams import BeamSettings
from clap_engine.caption import Captioner
from clap_engine.engine import Engine
from clap_engine.errors import ClosedError, GraphError, NotFoundError, TaskError, TextError
from clap_engine.manifest import CaptionSpec, GraphSpec, file_entry

V, PREFIX, STOP = len(tiny.WORDS), 2, tiny.WORDS.index("?")
WINDOW = round(tiny.RATE_HZ * tiny.WINDOW_S)


def audio_graph(weights: np.ndarray) -> bytes:
    """log_mel -> embedding, frames, and native: the embedding before its norm."""
    return tiny.graph(
        [
            tiny._node("ReduceMean", ["log_mel"], "mean", axes=[1], keepdims=0),
            tiny._node("MatMul", ["mean", "w"], "native"),
            tiny._node("LpNormalization", ["native"], "embedding", axis=1, p=2),
            tiny._node("MatMul", ["log_mel", "w"], "rows"),
            tiny._node("LpNormalization", ["rows"], "frames", axis=2, p=2),
        ],
        [tiny._tensor("w", weights.astype(np.float32))],
        [tiny._value("log_mel", tiny.FLOAT, ["B", tiny.N_FRAMES, tiny.N_MELS])],
        [
            tiny._value("embedding", tiny.FLOAT, ["B", tiny.DIM]),
            tiny._value("frames", tiny.FLOAT, ["B", tiny.N_FRAMES, tiny.DIM]),
            tiny._value("native", tiny.FLOAT, ["B", tiny.DIM]),
        ],
    )


def mapper_graph(weights: np.ndarray) -> bytes:
    """native [B, 8] -> prefix [B, 2, V]."""
    return tiny.graph(
        [
            tiny._node("MatMul", ["native", "w"], "flat"),
            tiny._node("Reshape", ["flat", "shape"], "prefix"),
        ],
        [
            tiny._tensor("w", weights.astype(np.float32)),
            tiny._tensor("shape", np.array([-1, PREFIX, V], np.int64)),
        ],
        [tiny._value("native", tiny.FLOAT, ["B", tiny.DIM])],
        [tiny._value("prefix", tiny.FLOAT, ["B", PREFIX, V])],
    )


def decoder_graph(follows: np.ndarray) -> bytes:
    """The scores after a token are its row of `follows`; after the prefix, the prefix's last."""
    cache = ["B", 1, "T", V]
    return tiny.graph(
        [
            tiny._node("Gather", ["follows", "input_ids"], "rows"),
            tiny._node("Concat", ["prefix", "rows"], "x", axis=1),
            tiny._node("Gather", ["x", "read"], "logits", axis=1),
            tiny._node("Unsqueeze", ["x", "axes"], "x1"),
            tiny._node("Concat", ["past_key.0", "x1"], "key.0", axis=2),
            tiny._node("Concat", ["past_value.0", "x1"], "value.0", axis=2),
        ],
        [
            tiny._tensor("follows", follows.astype(np.float32)),
            tiny._tensor("axes", np.array([1], np.int64)),
        ],
        [
            tiny._value("prefix", tiny.FLOAT, ["B", "P", V]),
            tiny._value("input_ids", tiny.INT64, ["B", "L"]),
            tiny._value("positions", tiny.INT64, ["B", "N"]),
            tiny._value("mask", tiny.FLOAT, ["B", 1, "N", "T"]),
            tiny._value("read", tiny.INT64, ["R"]),
            tiny._value("past_key.0", tiny.FLOAT, ["B", 1, "S", V]),
            tiny._value("past_value.0", tiny.FLOAT, ["B", 1, "S", V]),
        ],
        [
            tiny._value("logits", tiny.FLOAT, ["B", "R", V]),
            tiny._value("key.0", tiny.FLOAT, cache),
            tiny._value("value.0", tiny.FLOAT, cache),
        ],
    )


def make_bundle(
    directory: Path,
    *,
    spoil: bool = False,
    mute: bool = False,
    spoken: tuple[str, ...] = ("fp32", "int8"),
) -> Path:
    """The small bundle with `native`, and caption graphs in the precisions `spoken`; `spoil` makes
    the mapper give NaN, `mute` the decoder."""
    random = np.random.default_rng(0)
    files = tiny.make_files()
    audio = random.normal(size=(tiny.N_MELS, tiny.DIM))
    mapper = random.normal(size=(tiny.DIM, PREFIX * V)) * (np.nan if spoil else 1)
    follows = random.normal(size=(V, V))
    files["audio.fp32.onnx"] = audio_graph(audio)
    files["audio.int8.onnx"] = audio_graph(np.round(audio, 1))
    follows = follows * (np.nan if mute else 1)
    for precision in spoken:
        files[f"mapper.{precision}.onnx"] = mapper_graph(mapper)
        files[f"caption.{precision}.onnx"] = decoder_graph(follows)
    graphs = {
        part: {
            precision: GraphSpec(f"{part}.{precision}.onnx", dynamic_scale=precision == "int8")
            for precision in spoken
        }
        for part in ("mapper", "caption")
    }
    spec = CaptionSpec(
        mapper=graphs["mapper"],
        decoder=graphs["caption"],
        tokenizer="tokenizer.json",
        prefix_length=PREFIX,
        native_dim=tiny.DIM,
        hidden=V,
        layers=1,
        heads=1,
        head_dim=V,
        vocabulary=V,
        max_positions=40,
        stop_id=STOP,
        beam=3,
        max_tokens=12,
    )
    manifest = tiny.make_manifest({})
    manifest = tiny.resealed(
        manifest,
        files={name: file_entry(data) for name, data in files.items()},
        audio=replace(manifest.audio, native_dim=tiny.DIM),
        caption=spec,
    )
    return tiny.write_bundle(directory, files, manifest)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "talking")


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with loading.load(path, precision="fp32", threads=1) as engine:
        yield engine


def clip(seed: int, windows: float = 1.0) -> tuple[np.ndarray, int]:
    return noise(seed, round(windows * WINDOW)), tiny.RATE_HZ


def test_a_caption_is_words_score_ids_and_span(engine: Engine) -> None:
    caption = engine.caption(clip(1))
    ids = [id_ for id_ in caption.tokens if id_ != STOP]
    assert caption.text == " ".join(tiny.WORDS[id_] for id_ in ids).capitalize()
    assert caption.score < 0
    assert (caption.start_s, caption.end_s) == (0, tiny.WINDOW_S)
    assert len(caption.tokens) <= 12
    assert caption == engine.caption(clip(1))


def test_a_long_clip_has_one_caption_or_one_a_window(engine: Engine) -> None:
    long = clip(2, 2.5)
    captions = engine.caption_windows(long)
    assert [round(caption.end_s or 0, 3) for caption in captions] == [0.25, 0.5, 0.625]
    whole = engine.caption(long)
    assert (whole.start_s, whole.end_s) == (0, 0.625)
    first = engine.caption((long[0][:WINDOW], tiny.RATE_HZ))
    assert captions[0] == first


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_windows_do_not_change_each_other(path: Path, precision: str) -> None:
    with loading.load(path, precision=precision, threads=1) as engine:
        long = clip(3, 11)  # more than go into one call
        together = engine.caption_windows(long)
        alone = [
            engine.caption((long[0][i * WINDOW : (i + 1) * WINDOW], tiny.RATE_HZ))
            for i in range(11)
        ]
    assert [caption.tokens for caption in together] == [caption.tokens for caption in alone]


def test_all_beams_are_there_for_who_asks(engine: Engine) -> None:
    captioner = Captioner(engine.bundle, precision="fp32")
    native = np.ones((2, tiny.DIM), np.float32)
    found = captioner.beams(native, BeamSettings(4, 6, STOP))
    assert [len(beams) for beams in found] == [4, 4]
    for beams in found:
        scores = [beam.score for beam in beams]
        assert scores == sorted(scores, reverse=True)
    captioner.close()


def test_a_wider_search_finds_a_likelier_sentence(engine: Engine) -> None:
    """Not a law of beam search, but so on these seeds; else the beams would be for nothing."""
    scores = [
        [engine.caption(clip(seed), beams=beams, max_tokens=5).score for seed in range(8)]
        for beams in (1, 4)
    ]
    assert np.mean(scores[1]) > np.mean(scores[0])


@pytest.mark.parametrize("asked", [{"beams": 2}, {"max_tokens": 5}])
def test_a_decoder_that_is_asked_for_must_be_there(tiny_path: Path, asked: dict[str, int]) -> None:
    with (
        loading.load(tiny_path, threads=1, precision="fp32") as engine,
        pytest.raises(NotFoundError, match="no caption graphs.*clapcap"),
    ):
        engine.caption(clip(1), **asked)


def test_without_decoder_and_calibration_nothing_can_be_said(tiny_path: Path) -> None:
    with (
        loading.load(tiny_path, threads=1, precision="fp32") as engine,
        pytest.raises(TaskError, match="unrelated sounds"),
    ):
        engine.caption(clip(1))


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"beams": 65}, {"max_tokens": 0}])
def test_settings_outside_their_bounds_are_refused(engine: Engine, wrong: dict[str, int]) -> None:
    with pytest.raises(TextError, match="allowed"):
        engine.caption(clip(1), **wrong)


def test_a_caption_may_not_outgrow_the_positions(engine: Engine) -> None:
    engine.caption(clip(1), max_tokens=40 - PREFIX)
    with pytest.raises(TextError, match=f"1 to {40 - PREFIX}"):
        engine.caption(clip(1), max_tokens=41 - PREFIX)


def test_nan_of_the_mapper_is_an_error(tmp_path: Path) -> None:
    broken = make_bundle(tmp_path / "broken", spoil=True)
    with (
        loading.load(broken, threads=1, precision="fp32") as engine,
        pytest.raises(GraphError, match="finite"),
    ):
        engine.caption(clip(1))


def test_nan_of_the_decoder_is_an_error(tmp_path: Path) -> None:
    """In some rows alone it would lose against the other beams, unseen."""
    broken = make_bundle(tmp_path / "broken", mute=True)
    with (
        loading.load(broken, threads=1, precision="fp32") as engine,
        pytest.raises(GraphError, match="NaN"),
    ):
        engine.caption(clip(1))


@pytest.mark.parametrize("asked", ["int8", "fp16"])
def test_captions_take_what_they_have(
    tmp_path: Path, asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An int8 decoder may fall short of its gate where the towers pass; towers stay strict."""
    path = make_bundle(tmp_path / "b", spoken=("fp32",))
    with loading.load(path, precision="fp32", threads=1) as engine:
        wanted = engine.caption(clip(1))
    assert "captions run in" not in caplog.text
    with loading.load(path, precision=asked, threads=1) as engine:
        if asked == "int8":
            found = engine.caption(clip(1), beams=1)
            assert found.tokens
            assert engine._towers.caption.precision == "fp32"
            assert engine._towers.audio.precision == "int8"
        else:
            with pytest.raises(NotFoundError, match="'fp16' is not in this bundle"):
                engine.caption(clip(1))
    assert "the caption graphs are not in " + asked in caplog.text
    assert "captions run in fp32" in caplog.text
    assert wanted.tokens


def doctored(path: Path) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.goldens(bundles.open(path))}


def test_the_doctor_lets_it_speak(path: Path, tiny_path: Path) -> None:
    found = doctored(path)
    for precision in ("fp32", "int8"):
        check = found[f"captions {precision}"]
        assert check.state == doctor.GOOD
        assert re.match(r"\d+ tokens in \d+ ms: '", check.found)
    assert not any(name.startswith("captions") for name in doctored(tiny_path))


@pytest.mark.parametrize("wrong", ["spoil", "mute"])
def test_the_doctor_hears_nan_in_captions(tmp_path: Path, wrong: str) -> None:
    found = doctored(make_bundle(tmp_path / "b", **{wrong: True}))
    assert {found[f"captions {p}"].state for p in ("fp32", "int8")} == {doctor.BAD}
    assert "NaN" in found["captions fp32"].found
    assert "weights are broken" in found["captions fp32"].remedy


def test_a_closed_engine_captions_nothing(engine: Engine) -> None:
    engine.caption(clip(1))
    engine.close()
    with pytest.raises(ClosedError):
        engine.caption(clip(1))


def test_the_verb_reports_each_file(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.wav"
    good.write_bytes(encode(noise(1, WINDOW), tiny.RATE_HZ))
    command = ["caption", str(good), "--bundle", str(path), "--precision", "fp32"]
    assert cli.main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (caption,) = shown["captions"]
    assert caption["file"] == str(good)
    assert caption["tokens"]
    assert shown["failed"] == []
    assert cli.main([*command, "--beam", "2", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith(f"{good}\t-")
    both = ["caption", str(tmp_path / "gone.wav"), *command[1:], "--json"]
    assert cli.main(both) == 1
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["captions"]) == 1
    assert "gone.wav" in shown["failed"][0]["file"]


def test_the_verb_refuses_a_bundle_that_is_silent(
    tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["caption", "x.wav", "--bundle", str(tiny_path), "--beam", "2"]) == 3
    assert "clapcap" in capsys.readouterr().err
