"""A packed bundle is whole, says the truth about itself, and is what the runtime opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clap_engine import bundle as bundles
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.errors import ManifestError
from clap_engine.goldens import golden_waveform
from clap_export import cli, minilm, pack, parts
from clap_export.commands import pack_mini
from clap_export.graphs.text_graph import TextHead
from clap_export.minilm import SentenceEncoder
from clap_export.parity import Gate, GateError
from clap_export.weights import Weights, save_weights


@pytest.fixture(scope="module", autouse=True)
def fewer_texts() -> Iterator[None]:
    """A tenth of the texts says as much about packing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PARITY_TEXTS", 100)
        patch.setattr(parts, "SMOOTHING_TEXTS", 20)
        yield


@pytest.fixture(scope="module")
def packed(
    tmp_path_factory: pytest.TempPathFactory, small_weights: Weights, small_encoder: SentenceEncoder
) -> Path:
    out = tmp_path_factory.mktemp("packed") / "clap-mini"
    pack.pack(small_weights, out, precisions=["fp32", "int8"], encoder=small_encoder)
    return out


def test_the_runtime_opens_it_and_finds_every_byte(packed: Path) -> None:
    bundle = bundles.open(packed)
    bundle.verify()
    listed = {*bundle.manifest.files, "manifest.json"}
    assert {path.name for path in packed.iterdir()} == listed
    assert {"README.md", "NOTICE", "tokenizer.json", "frontend.npz"} <= listed


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_runtime_reproduces_the_goldens(packed: Path, precision: str) -> None:
    """Within the bundle's own tolerance; fp32 to 1e-5."""
    bundle = bundles.open(packed)
    texts, audio = bundle.goldens()
    spec = bundle.manifest.audio
    waves = [
        golden_waveform(golden.index, spec.rate_hz, spec.window_samples)
        for golden in bundle.manifest.goldens.audio
    ]
    found = (
        TextEncoder(bundle, precision=precision).encode(list(bundle.manifest.goldens.texts)),
        AudioEncoder(bundle, precision=precision).encode(np.stack(waves)),
    )
    least = bundle.manifest.goldens.tolerance[precision]
    for a, b in zip(found, (texts, audio), strict=True):
        assert np.sum(a * b, axis=1).min() >= least
        if precision == "fp32":
            assert np.abs(a - b).max() < 1e-5


def test_dynamic_scales_are_declared_where_they_are(packed: Path) -> None:
    manifest = bundles.open(packed).manifest
    assert manifest.text.graphs["int8"].dynamic_scale
    assert not manifest.text.graphs["fp32"].dynamic_scale
    assert not manifest.audio.graphs["int8"].dynamic_scale


def test_the_same_weights_give_the_same_bundle(
    packed: Path, tmp_path: Path, small_weights: Weights, small_encoder: SentenceEncoder
) -> None:
    again = pack.pack(
        small_weights, tmp_path / "b", precisions=["fp32", "int8"], encoder=small_encoder
    )
    assert again == bundles.open(packed).manifest


def test_the_space_is_that_of_the_audio_side(
    packed: Path, tmp_path: Path, small_weights: Weights, small_encoder: SentenceEncoder
) -> None:
    """Another text head or precision: same space, other revision. Other audio: another space."""
    first = bundles.open(packed).manifest
    head = replace(small_weights, head=TextHead(small_weights.head.weight + 0.1))
    second = pack.pack(head, tmp_path / "b", precisions=["fp32"], encoder=small_encoder)
    assert second.space_id == first.space_id
    assert second.revision != first.revision
    audio = dict(small_weights.audio)
    audio["head.weight"] = audio["head.weight"] * np.float32(1.5)
    changed = replace(small_weights, audio=audio)
    third = pack.pack(changed, tmp_path / "c", precisions=["fp32"], encoder=small_encoder)
    assert third.space_id != first.space_id


def test_a_gate_that_fails_leaves_the_old_bundle(
    tmp_path: Path, small_weights: Weights, small_encoder: SentenceEncoder
) -> None:
    out = tmp_path / "clap-mini"
    before = pack.pack(small_weights, out, precisions=["fp32"], encoder=small_encoder)
    strict = Gate(centred_mean=1.1)
    with pytest.raises(GateError, match=r"audio\.int8\.onnx"):
        pack.pack(small_weights, out, encoder=small_encoder, gate=strict)
    assert bundles.open(out).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["clap-mini"]


def test_a_write_that_fails_leaves_the_old_bundle(
    tmp_path: Path,
    small_weights: Weights,
    small_encoder: SentenceEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "clap-mini"
    before = pack.pack(small_weights, out, precisions=["fp32"], encoder=small_encoder)
    real, calls = pack.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:  # the old bundle has stepped aside
            raise OSError("disk is full")
        real(source, target)

    monkeypatch.setattr(pack, "rename", rename)
    with pytest.raises(OSError, match="disk is full"):
        pack.pack(small_weights, out, precisions=["fp32"], encoder=small_encoder)
    assert bundles.open(out).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["clap-mini"]


def test_an_unknown_precision_is_refused(
    tmp_path: Path, small_weights: Weights, small_encoder: SentenceEncoder
) -> None:
    with pytest.raises(ManifestError, match="int3"):
        pack.pack(small_weights, tmp_path / "b", precisions=["int3"], encoder=small_encoder)


def test_the_command_packs_weights_from_a_file(
    packed: Path,
    tmp_path: Path,
    small_weights: Weights,
    small_encoder: SentenceEncoder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(minilm, "load", lambda: small_encoder)
    monkeypatch.setattr(pack_mini, "Gate", lambda: None)
    save_weights(tmp_path / "w.safetensors", small_weights)
    words = ["pack", "mini", "--weights", str(tmp_path / "w.safetensors"), "--precisions"]
    assert cli.main([*words, "fp32,int8", "--out", str(tmp_path / "out")]) == 0
    assert "text.int8.onnx" in capsys.readouterr().out
    manifest = bundles.open(tmp_path / "out").manifest
    assert set(manifest.text.graphs) == set(manifest.audio.graphs) == {"fp32", "int8"}


def test_the_command_line_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pack", "mini", "--weights", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert capsys.readouterr().err.startswith("clap-export pack mini: ")
    assert cli.main(["bake"]) == 2
    assert "'bake' is unknown" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
    assert "pack mini" in capsys.readouterr().out


def test_static_graphs_are_told_from_dynamic_ones(packed: Path) -> None:
    assert parts.is_dynamic((packed / "text.int8.onnx").read_bytes())
    assert not parts.is_dynamic((packed / "audio.int8.onnx").read_bytes())


def test_a_bundle_measures_itself(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`parity` agrees with what packing found; a bundle of one precision is refused."""
    assert cli.main(["parity", str(packed), "--texts", "60"]) == 0
    assert "text.int8: n 60" in capsys.readouterr().out


def test_parity_needs_two_precisions(
    tmp_path: Path,
    small_weights: Weights,
    small_encoder: SentenceEncoder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pack.pack(small_weights, tmp_path / "b", precisions=["fp32"], encoder=small_encoder)
    assert cli.main(["parity", str(tmp_path / "b")]) == 1
    assert "fp32 and another are needed" in capsys.readouterr().err


def test_int8_is_added_to_a_float32_bundle(
    tmp_path: Path, small_weights: Weights, small_encoder: SentenceEncoder
) -> None:
    """Calibrated on a folder of sounds; every other file stays what it was."""
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    wave = np.concatenate([golden_waveform(i, 32_000, 160_000) for i in range(1, 41)])
    soundfile.write(sounds / "a.wav", wave, 32_000)
    before = pack.pack(small_weights, tmp_path / "b", precisions=["fp32"], encoder=small_encoder)
    words = ["quantize", str(tmp_path / "b"), "--sounds", str(sounds), "--no-gate", "--out"]
    assert cli.main([*words, str(tmp_path / "c")]) == 0
    after = bundles.open(tmp_path / "c")
    after.verify()
    assert set(after.manifest.text.graphs) == set(after.manifest.audio.graphs) == {"fp32", "int8"}
    assert after.manifest.text.graphs["int8"].dynamic_scale
    assert after.manifest.files["text.fp32.onnx"] == before.files["text.fp32.onnx"]
    assert after.manifest.space_id == before.space_id


def test_too_few_sounds_are_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 32_000)
    words = ["quantize", str(packed), "--sounds", str(tmp_path), "--out", str(tmp_path / "c")]
    assert cli.main(words) == 1
    assert "32 are needed" in capsys.readouterr().err
