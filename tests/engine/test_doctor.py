"""The doctor: what it finds, what it advises, and that it sees what is broken."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_bundle import (
    DIM,
    N_MELS,
    WORDS,
    audio_graph,
    make_bundle,
    make_files,
    make_manifest,
    npz,
    text_graph,
    tokenizer_json,
    write_bundle,
)
from tokenizers import Tokenizer, models, pre_tokenizers

from clap_engine import bundle, cli, doctor, openvino_session, processor, session, spread
from clap_engine.doctor import BAD, GOOD, NOTE, Check
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import DependencyError
from clap_engine.goldens import golden_waveform
from clap_engine.placement import Placement


def _machine() -> dict[str, Check]:
    return {check.name: check for check in doctor.machine()}


def test_this_machine_can_run() -> None:
    assert {check.state for check in _machine().values()} <= {GOOD, NOTE}


def test_no_onnxruntime_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise DependencyError("onnxruntime can't be imported (x); run: pip install 'it[cpu]'")

    monkeypatch.setattr(session, "provider_names", missing)
    found = _machine()["onnxruntime"]
    assert (found.state, found.remedy) == (BAD, "pip install 'it[cpu]'")
    assert found.found == "onnxruntime can't be imported (x)"


def test_no_hnswlib_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "hnswlib" else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    found = _machine()["hnswlib"]
    assert found.state == NOTE
    assert "hnsw]" in found.remedy


def test_a_cpu_without_fast_int8_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_fast_int8", lambda: False)
    assert _machine()["int8"].state == NOTE


@pytest.mark.parametrize("has_amx", [True, False])
def test_openvino_is_advised_where_it_would_help(
    monkeypatch: pytest.MonkeyPatch, has_amx: bool
) -> None:
    def missing() -> str:
        raise DependencyError("OpenVINO can't be imported")

    monkeypatch.setattr(openvino_session, "version", missing)
    monkeypatch.setattr(processor, "has_amx", lambda: has_amx)
    found = _machine().get("openvino")
    assert found is None if not has_amx else found is not None and found.state == NOTE


def test_no_mp3_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = {"WAV": "", "FLAC": "", "OGG": ""}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    found = _machine()["audio"]
    assert found.state == BAD
    assert "not MP3" in found.found


def test_the_shipped_goldens_hold() -> None:
    found = list(doctor.goldens(bundle.open(bundle.find())))
    assert found[0].name == "files"
    assert {check.state for check in found} == {GOOD}


def faithful(directory: Path, **replaced: bytes) -> Path:
    """A tiny bundle whose goldens are its own, token ids included; then `replaced` breaks it."""
    files = make_files()
    healthy = bundle.open(make_bundle(directory / "healthy"))
    manifest = healthy.manifest
    spec = manifest.audio
    waves = [
        golden_waveform(golden.index, spec.rate_hz, spec.window_samples)
        for golden in manifest.goldens.audio
    ]
    texts = list(manifest.goldens.texts)
    text = TextEncoder(healthy, precision="fp32")
    audio = AudioEncoder(healthy, precision="fp32")
    rows = [ids.input_ids[0] for ids in text._front.tokenize(texts)]
    ids = np.full((len(rows), max(map(len, rows))), -1)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    files["goldens.npz"] = npz(
        text=text.encode(texts), audio=audio.encode(np.stack(waves)), ids=ids
    )
    files |= {name.replace("_", "."): data for name, data in replaced.items()}
    return write_bundle(directory / "bundle", files, make_manifest(files))


def examined(path: Path, **settings: Any) -> dict[str, Check]:
    return {check.name: check for check in doctor.goldens(bundle.open(path), **settings)}


def test_a_healthy_bundle_is_told_so(tmp_path: Path) -> None:
    """The control of every broken one below."""
    found = examined(faithful(tmp_path))
    assert {check.state for check in found.values()} == {GOOD}
    assert "the model's own token ids" in found["tokenizer"].found


def other_tokenizer() -> bytes:
    """The same words in another order."""
    known = json.loads(tokenizer_json())
    words = list(known["model"]["vocab"])
    known["model"]["vocab"] = {
        word: place for place, word in enumerate([*words[:4], *words[:3:-1]])
    }
    return json.dumps(known).encode()


def test_a_wrong_tokenizer_is_recognised_by_its_ids(tmp_path: Path) -> None:
    found = examined(faithful(tmp_path, tokenizer_json=other_tokenizer()))["tokenizer"]
    assert found.state == BAD
    assert "'a slow banjo melody' gives ids [2, " in found.found
    assert "own tokenizer.json" in found.remedy


def test_a_wrong_tokenizer_is_recognised_by_the_texts_without_ids(tmp_path: Path) -> None:
    path = faithful(tmp_path)
    stored = np.load(path / "goldens.npz")
    data = npz(text=stored["text"], audio=stored["audio"])
    broken = faithful(tmp_path / "b", tokenizer_json=other_tokenizer(), goldens_npz=data)
    found = examined(broken)
    assert found["tokenizer"].state == GOOD
    assert {found[name].state for name in ("text fp32", "text int8")} == {BAD}
    assert "tokenizer.json is not the model's" in found["text fp32"].remedy
    assert found["audio fp32"].state == GOOD


def test_a_tokenizer_that_spells_is_noted(tmp_path: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    spelling = tokenizer.to_str().encode()
    stored = make_files()["goldens.npz"]
    found = examined(faithful(tmp_path, tokenizer_json=spelling, goldens_npz=stored))
    assert found["tokenizer"].state == NOTE
    assert "spells words out" in found["tokenizer"].found


def test_a_tokenizer_that_does_not_load_is_a_problem(tmp_path: Path) -> None:
    found = examined(faithful(tmp_path, tokenizer_json=b"{}"))
    assert found["tokenizer"].state == BAD
    assert found["text fp32"].state == BAD
    assert found["audio fp32"].state == GOOD


@pytest.mark.parametrize("tower", ["text", "audio"])
def test_a_collapsed_tower_is_recognised(tmp_path: Path, tower: str) -> None:
    """As one popular public checkpoint: every text gives nearly the same embedding."""
    random = np.random.default_rng(3)
    if tower == "text":
        table = np.ones((len(WORDS), DIM)) + random.normal(0, 0.01, (len(WORDS), DIM))
        broken = {"text_fp32_onnx": text_graph(table)}
    else:
        weights = np.ones((N_MELS, DIM)) + random.normal(0, 1e-3, (N_MELS, DIM))
        broken = {"audio_fp32_onnx": audio_graph(weights)}
    found = examined(faithful(tmp_path, **broken))
    spread = found[f"{tower} fp32, spread"]
    assert spread.state == BAD
    assert "collapsed" in spread.found
    assert "another checkpoint" in spread.remedy
    assert f"{tower} int8, spread" not in found


def reading(directory: Path, table: np.ndarray[Any, Any] | None = None) -> dict[str, Check]:
    """What is found of a bundle that knows the words of the texts for the spread."""
    read = sorted({word for text in spread.TEXTS for word in text.split()} - set(WORDS))
    tree = json.loads(tokenizer_json())
    tree["model"]["vocab"] = {word: place for place, word in enumerate([*WORDS, *read])}
    random = np.random.default_rng(1)
    rows = random.normal(size=(len(WORDS) + len(read), DIM)) if table is None else table
    graph = text_graph(rows[: len(WORDS) + len(read)])
    replaced = {"tokenizer_json": json.dumps(tree).encode(), "text_fp32_onnx": graph}
    return examined(faithful(directory, **replaced))


def test_texts_that_lie_close_in_order_are_no_collapse(tmp_path: Path) -> None:
    """Massive channels: mean cosine .999, as seeded towers with outliers have it."""
    random = np.random.default_rng(1)
    table = random.normal(0, 0.04, (200, DIM)) + np.eye(DIM)[0]
    found = reading(tmp_path / "close", table)["text fp32, spread"]
    assert found.state == NOTE
    assert "scores will lie close" in found.found
    assert "text fp32, spread" not in reading(tmp_path / "apart")


def test_a_tower_that_hears_only_how_long_a_text_is_has_collapsed(tmp_path: Path) -> None:
    """Mean cosine far below .9999, and yet no word comes through."""
    random = np.random.default_rng(1)
    table = np.repeat(random.normal(size=(1, DIM)), 200, axis=0)
    table[2:4] = random.normal(size=DIM)  # [CLS] and [SEP]
    found = reading(tmp_path, table)["text fp32, spread"]
    assert found.state == BAD
    assert "find each other" in found.found
    assert "another checkpoint" in found.remedy


def test_a_provider_that_is_not_here_is_one_problem(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in session.provider_names():
        pytest.skip("this machine has CUDA")
    found = examined(faithful(tmp_path), placement=Placement(provider="cuda"))
    assert found["provider"].state == BAD
    assert "CUDAExecutionProvider" in found["provider"].found
    assert "pip" in found["provider"].remedy
    assert "text fp32" not in found


def test_a_fall_to_another_provider_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime has it, the machine doesn't: what ran is told."""
    path = faithful(tmp_path)
    monkeypatch.setattr(TextEncoder, "warm", lambda self: ["Other"])
    found = examined(path, placement=Placement(provider="cpu"))
    assert found["provider"].state == GOOD
    assert found["text fp32, provider"].state == BAD
    assert "did not load, it ran on Other" in found["text fp32, provider"].found
    assert "audio fp32, provider" not in found


def test_the_verb_takes_a_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(faithful(tmp_path))
    assert cli.main(["doctor", path, "--provider", "cpu", "--json"]) == 0
    names = {check["name"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert {"provider", "text int8"} <= names


@pytest.mark.parametrize("tower", ["text", "audio"])
def test_nan_weights_are_recognised(tmp_path: Path, tower: str) -> None:
    weights = np.full((N_MELS, DIM), np.nan)
    table = np.full((len(WORDS), DIM), np.nan)
    graph = {"text": text_graph(table), "audio": audio_graph(weights)}[tower]
    found = examined(faithful(tmp_path, **{f"{tower}_int8_onnx": graph}))
    assert found[f"{tower} int8"].state == BAD
    assert "NaN" in found[f"{tower} int8"].found
    assert "weights are broken" in found[f"{tower} int8"].remedy
    assert found[f"{tower} fp32"].state == GOOD


@pytest.mark.parametrize(
    "arrays",
    [
        {"text": np.full((2, DIM), np.nan, np.float32)},
        {"text": np.ones((3, DIM), np.float32)},
        {"ids": np.zeros((3, 4), np.int64)},
        {"ids": np.zeros((2, 4), np.float32)},
    ],
    ids=range(4),
)
def test_goldens_that_are_none_are_a_problem(tmp_path: Path, arrays: dict[str, Any]) -> None:
    stored = np.load(faithful(tmp_path / "a") / "goldens.npz")
    data = npz(**{**stored, **arrays})
    (found,) = doctor.goldens(bundle.open(faithful(tmp_path / "b", goldens_npz=data)))
    assert (found.name, found.state) == ("files", BAD)


def test_openvino_is_examined_too(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    found = examined(faithful(tmp_path), placement=Placement(provider="openvino"))
    names = [f"{tower} {p}" for tower in ("text", "audio") for p in ("bf16", "fp32", "int8")]
    assert set(names) <= found.keys()
    assert {found[name].state for name in names} == {GOOD}


def test_other_goldens_do_not_hold(tmp_path: Path) -> None:
    """The control: random rows, which no graph gives."""
    found = list(doctor.goldens(bundle.open(make_bundle(tmp_path / "tiny"))))
    towers = [check for check in found[2:] if "spread" not in check.name]
    assert [check.name for check in towers] == [
        "text fp32", "text int8", "audio fp32", "audio int8",
    ]  # fmt: skip
    assert {check.state for check in towers} == {BAD}
    assert all(check.remedy for check in towers)


def test_a_damaged_file_ends_the_examination(tmp_path: Path) -> None:
    opened = bundle.open(make_bundle(tmp_path / "tiny"))
    (opened.path / "text.fp32.onnx").write_bytes(b"torn")
    (found,) = doctor.goldens(opened)
    assert (found.name, found.state) == ("files", BAD)
