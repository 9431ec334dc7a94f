"""Takes by prompt, and what text-to-audio systems are conditioned on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle as tiny
from sounds import noise

from clap_engine import bundle as bundles
from clap_engine import cli, demo
from clap_engine.arrays import l2_normalize
from clap_engine.engine import Engine
from clap_engine.errors import AudioError, GraphError, TaskError, TextError
from clap_engine.manifest import file_entry
from clap_engine.tasks.condition import Conditioning, mean_of_windows
from clap_engine.tasks.rank import ranked

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 32_000
SILENCE = (np.zeros(RATE_HZ, np.float32), RATE_HZ)


@pytest.fixture(scope="module")
def engine(bundle: bundles.Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    return {sample.label: sample.path for sample in demo.read_samples()}


def native_graph(weights: Any) -> bytes:
    """input_ids, attention_mask -> native, three times as long as a unit row, and embedding."""
    return tiny.graph(
        [
            tiny._node("Gather", ["table", "input_ids"], "words"),
            tiny._node("ReduceMean", ["words"], "native", axes=[1], keepdims=0),
            tiny._node("LpNormalization", ["native"], "embedding", axis=1, p=2),
        ],
        [tiny._tensor("table", weights.astype(np.float32))],
        [
            tiny._value("input_ids", tiny.INT64, ["B", "L"]),
            tiny._value("attention_mask", tiny.INT64, ["B", "L"]),
        ],
        [
            tiny._value("embedding", tiny.FLOAT, ["B", tiny.DIM]),
            tiny._value("native", tiny.FLOAT, ["B", tiny.DIM]),
        ],
    )


def native_audio(weights: Any) -> bytes:
    """log_mel -> embedding and native: the embedding before its norm."""
    return tiny.graph(
        [
            tiny._node("ReduceMean", ["log_mel"], "mean", axes=[1], keepdims=0),
            tiny._node("MatMul", ["mean", "w"], "native"),
            tiny._node("LpNormalization", ["native"], "embedding", axis=1, p=2),
        ],
        [tiny._tensor("w", weights.astype(np.float32))],
        [tiny._value("log_mel", tiny.FLOAT, ["B", tiny.N_FRAMES, tiny.N_MELS])],
        [
            tiny._value("embedding", tiny.FLOAT, ["B", tiny.DIM]),
            tiny._value("native", tiny.FLOAT, ["B", tiny.DIM]),
        ],
    )


@pytest.fixture(params=["fp32", "int8"])
def native(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A small bundle whose graphs have the output native."""
    rng = np.random.default_rng(0)
    files = tiny.make_files()
    words, sounds = rng.normal(size=(len(tiny.WORDS), 8)), rng.normal(size=(8, 8))
    for precision in ("fp32", "int8"):
        files[f"text.{precision}.onnx"] = native_graph(words)
        files[f"audio.{precision}.onnx"] = native_audio(sounds)
    plain = tiny.make_manifest(files)
    manifest = tiny.resealed(
        plain,
        audio=replace(plain.audio, native_dim=8, frame_s=None),
        text=replace(plain.text, native_dim=8),
        files={name: file_entry(data) for name, data in files.items()},
        min_runtime="0.2.0",
    )
    path = tiny.write_bundle(tmp_path / "native", files, manifest)
    with Engine(bundles.open(path), precision=request.param, threads=2) as engine:
        yield engine


def test_the_take_that_fits_comes_first(engine: Engine, samples: dict[str, Any]) -> None:
    takes = [samples[name] for name in ("rain", "dog_bark", "polka")]
    found = engine.rank(takes, "a dog barking")
    assert found[0].index == 1
    assert sorted(take.index for take in found) == [0, 1, 2]
    assert [take.score for take in found] == sorted((t.score for t in found), reverse=True)
    rows = engine.embed_audio(takes)
    (text,) = engine.embed_text("a dog barking")
    assert found[0].score == pytest.approx(float(rows[1] @ text), abs=1e-6)
    against = engine.rank(takes, "a dog barking", against=["a dog barking"])
    assert against[0].score == pytest.approx(0, abs=1e-6)


def test_rank_by_definition() -> None:
    """Law: the score is the cosine less the best unwanted one above 0; ties keep their order."""
    takes = np.eye(3, dtype=np.float32)
    prompt = np.array([0.6, 0.8, 0.0], np.float32)
    assert [t.index for t in ranked(takes, prompt, np.zeros((0, 3), np.float32))] == [1, 0, 2]
    unwanted = np.array([[0, 1, 0], [0, -1, 0]], np.float32)
    found = ranked(takes, prompt, unwanted)
    assert [(t.index, round(t.score, 6)) for t in found] == [(0, 0.6), (2, 0.0), (1, -0.2)]
    assert [t.index for t in ranked(takes[[0, 0, 0]], prompt, unwanted)] == [0, 1, 2]


def test_bad_takes(engine: Engine) -> None:
    with pytest.raises(TaskError, match="takes"):
        engine.rank([], "a dog")
    with pytest.raises(TaskError, match="takes"):
        engine.rank("x.wav", "a dog")  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="against"):
        engine.rank([SILENCE], "a dog", against="rain")
    with pytest.raises(TextError):
        engine.rank([SILENCE], " ")
    with pytest.raises(AudioError, match="NaN"):
        engine.rank([(np.full(9, np.nan, np.float32), RATE_HZ)], "a dog")
    assert len(engine.rank([SILENCE], "a dog")) == 1


def test_a_bundle_without_native_gives_its_embedding(engine: Engine) -> None:
    """Law: rows equal the embeddings; their length was lost, so it can't be asked for."""
    made = engine.condition(["a dog"], [SILENCE])
    assert (made.space, made.is_unit, made.names) == ("embedding", True, ("a dog", "tuple"))
    np.testing.assert_allclose(made.rows[:1], engine.embed_text("a dog"), atol=1e-6)
    np.testing.assert_allclose(made.rows[1:], engine.embed_audio([SILENCE]), atol=1e-6)
    with pytest.raises(GraphError, match="native"):
        engine.condition(["a dog"], unit=False)
    with pytest.raises(TaskError, match="nothing"):
        engine.condition()


def test_native_rows_keep_their_length(native: Engine) -> None:
    """Law: unit rows are the raw ones normalised; raw ones have lengths of their own."""
    rate_hz = native.bundle.manifest.audio.rate_hz
    texts, sounds = ["a dog", "slow rain on a roof", "a dog"], [(noise(1, 3 * rate_hz), rate_hz)]
    raw = native.condition(texts, sounds, unit=False)
    unit = native.condition(texts, sounds)
    assert (raw.space, raw.is_unit, unit.is_unit) == ("native", False, True)
    assert raw.rows.shape == (4, 8)
    assert np.abs(np.linalg.norm(raw.rows, axis=1) - 1).max() > 0.1
    np.testing.assert_allclose(l2_normalize(raw.rows), unit.rows, atol=1e-6)
    np.testing.assert_array_equal(raw.rows[0], raw.rows[2])
    np.testing.assert_allclose(unit.rows[:3], native.embed_text(texts), atol=1e-5)


def test_mean_of_windows() -> None:
    """Law: one window stays as it is; several have the mean of the lengths, not less."""
    rows = np.array([[3.0, 0], [0, 5.0]], np.float32)
    np.testing.assert_array_equal(mean_of_windows(rows[:1], is_unit=False), rows[0])
    both = mean_of_windows(rows, is_unit=False)
    assert np.linalg.norm(both) == pytest.approx(4, abs=1e-5)
    assert both[0] == pytest.approx(both[1])
    assert np.linalg.norm(mean_of_windows(rows, is_unit=True)) == pytest.approx(1, abs=1e-6)


MADE = Conditioning(np.eye(2, 3, dtype=np.float32), "native", False, ("a", "é"), "5" * 16)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_files(tmp_path: Path, name: str) -> None:
    """Law: files hold no pickles and give the rows back to the bit."""
    path = tmp_path / name
    MADE.save(path)
    held = np.load(path, allow_pickle=False)
    if path.suffix == ".npy":
        np.testing.assert_array_equal(held, MADE.rows)
        return
    with held:
        np.testing.assert_array_equal(held["rows"], MADE.rows)
        assert (str(held["space"]), bool(held["is_unit"])) == ("native", False)
        assert held["names"].tolist() == ["a", "é"]
    with pytest.raises(TaskError, match="safetensors"):
        MADE.save(tmp_path / "x.pt")


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 512)])
def test_safetensors_by_its_own_description(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Law: length, header, numbers; the numbers begin at a multiple of 8 and fill the rest."""
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / "x.safetensors"
    replace(MADE, rows=rows).save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert header["rows"]["data_offsets"] == [0, len(data) - 8 - length]
    held = np.frombuffer(data[8 + length :], "<f4").reshape(header["rows"]["shape"])
    np.testing.assert_array_equal(held, rows)


def test_safetensors_are_read_by_their_own_package(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    MADE.save(path)
    with safetensors.safe_open(path, framework="numpy") as held:
        assert list(held.keys()) == ["rows"]
        np.testing.assert_array_equal(held.get_tensor("rows"), MADE.rows)
        said = held.metadata()
    assert json.loads(said["names"]) == ["a", "é"]
    assert (said["space"], json.loads(said["is_unit"])) == ("native", False)


def test_verbs(run: Run, samples: dict[str, Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"x")
    takes = [samples["rain"], samples["owl"], bad]
    code, out, _ = run("rank", *takes, "--prompt", "an owl", "--against", "rain", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["takes"][0]["file"] == str(samples["owl"])
    assert [entry["file"] for entry in found["failed"]] == [str(bad)]
    assert run("rank", samples["owl"], "--prompt", "an owl")[0] == 0
    assert run("rank", tmp_path / "none", "--prompt", "an owl")[0] == cli.NOT_FOUND
    assert run("rank", bad, "--prompt", "an owl")[0] == cli.USAGE
    out_file = tmp_path / "c.npz"
    code, out, _ = run("condition", out_file, "--text", "a", "--sound", samples["owl"], "--json")
    assert (code, json.loads(out)["rows"], out_file.exists()) == (0, 2, True)
    for kind in ("npy", "safetensors"):
        assert run("condition", tmp_path / f"c.{kind}", "--text", "a")[0] == 0
    assert run("condition", tmp_path / "c.npy")[0] == cli.USAGE
    assert run("condition", tmp_path / "c.txt", "--text", "a")[0] == cli.USAGE
