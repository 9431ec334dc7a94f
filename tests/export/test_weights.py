"""The file of trained weights: what goes in comes out, and damage is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clap_engine.errors import IntegrityError, NotFoundError
from clap_export.graphs.text_graph import TextHead
from clap_export.weights import Weights, load_weights, pack_log_mel, random_weights, save_weights


@pytest.fixture
def path(tmp_path: Path, small_weights: Weights) -> Path:
    target = tmp_path / "weights.safetensors"
    save_weights(target, replace(small_weights, scalars={"logit_scale": 25.0, "note": "é"}))
    return target


def test_what_goes_in_comes_out(path: Path, small_weights: Weights) -> None:
    """To float16's step; statistics of batch norms exactly."""
    loaded = load_weights(path)
    assert loaded.audio.keys() == small_weights.audio.keys()
    for name, value in small_weights.audio.items():
        assert loaded.audio[name].dtype == value.dtype
        exact = "running" in name or value.dtype.kind != "f"
        assert np.allclose(loaded.audio[name], value, rtol=0 if exact else 1e-3, atol=1e-6)
    assert np.allclose(loaded.head.weight, small_weights.head.weight, atol=1e-3)
    assert loaded.anchors is not None
    assert (loaded.anchors.blend, loaded.anchors.tau) == (0.3, 0.1)
    assert np.array_equal(loaded.calibration, small_weights.calibration)
    assert loaded.scalars["note"] == "é"


def test_saving_what_was_loaded_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "again", load_weights(path))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_tower_is_rebuilt(path: Path) -> None:
    tower = load_weights(path).tower()
    assert not tower.training
    assert sum(p.numel() for p in tower.parameters()) > 1e6


def test_weights_that_do_not_fit_are_refused(small_weights: Weights) -> None:
    fewer = {name: value for name, value in small_weights.audio.items() if name != "head.weight"}
    with pytest.raises(IntegrityError, match=r"head\.weight"):
        replace(small_weights, audio=fewer).tower()
    with pytest.raises(IntegrityError, match="colour"):
        replace(small_weights, scalars={"tower": {"colour": 3}}).tower()


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "no metadata"])
def test_damage_is_named(path: Path, damage: str) -> None:
    from safetensors.numpy import save

    data = path.read_bytes()
    changed = {
        "cut": data[: len(data) // 2],
        "junk": b"\xff" * 100,
        "empty": b"",
        "no metadata": save({"a": np.zeros(3, np.float32)}),
    }
    path.write_bytes(changed[damage])
    with pytest.raises(IntegrityError, match="not a file of trained weights"):
        load_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="clap-export train mini"):
        load_weights(tmp_path / "none")


def test_the_digest_is_of_the_audio_side_alone(small_weights: Weights) -> None:
    head = replace(small_weights, head=TextHead(small_weights.head.weight * 2))
    assert head.audio_digest == small_weights.audio_digest
    louder = {name: value + 1 for name, value in small_weights.audio.items()}
    assert replace(small_weights, audio=louder).audio_digest != small_weights.audio_digest


def test_calibration_windows_keep_their_decibels() -> None:
    """To half a step, 0.16 dB; outside the range they are cut."""
    log_mel = np.array([[[-90, -80, -40.2, -0.1, 3]]], np.float32)
    weights = replace(random_weights(0, 4), calibration=pack_log_mel(log_mel))
    assert np.abs(weights.log_mels - np.clip(log_mel, -80, 0)).max() <= 0.16
