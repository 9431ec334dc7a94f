"""Checkpoint files in, sentences out: both command lines, nothing in between but the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from sounds import encode, noise

import clap_engine
from clap_engine import cli as engine_cli
from clap_export import cli as export_cli
from clap_export.msclap import random_weights, stand_in

pytestmark = pytest.mark.export


def test_clapcap_from_its_files_to_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two layers a stack, in the true layout and on the true widths."""
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "tokenizer.json").write_bytes(stand_in.gpt2_tokenizer_json())
    for version in ("2023", "clapcap"):
        state = random_weights.random_state(version, seed=0, layers=2)
        random_weights.save(state, tmp_path / f"{version}.pth", version)
        del state
    out = tmp_path / "bundles" / "clapcap"
    words = ["convert", "msclap", "--version", "clapcap", "--layers", "2", "--quick"]
    words += ["--checkpoint", str(tmp_path / "clapcap.pth"), "--precisions", "fp32"]
    words += ["--text-checkpoint", str(tmp_path / "2023.pth"), "--heads", "none"]
    words += ["--tokenizer", str(tmp_path / "gpt2"), "--out", str(out), "--threads", "1"]
    assert export_cli.main(words) == 0, capsys.readouterr().err
    capsys.readouterr()

    clip = tmp_path / "noise.wav"
    clip.write_bytes(encode(noise(1, 44_100), 44_100))
    command = ["caption", str(clip), "--bundle", str(out), "--json", "--beam", "2"]
    command += ["--max-tokens", "6", "--threads", "1", "--precision", "fp32"]
    assert engine_cli.main(command) == 0
    (shown,) = json.loads(capsys.readouterr().out)["captions"]
    assert shown["file"] == str(clip)
    assert 1 <= len(shown["tokens"]) <= 6
    assert shown["text"]
    assert shown["score"] < 0
    with clap_engine.load(out, precision="fp32", threads=1) as engine:
        caption = engine.caption(clip, beams=2, max_tokens=6)
    assert (caption.text, list(caption.tokens)) == (shown["text"], shown["tokens"])

    assert engine_cli.main(["doctor", str(out), "--json", "--threads", "1"]) == 0
    found = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert found["captions fp32"]["state"] == found["tokenizer"]["state"] == "ok"
