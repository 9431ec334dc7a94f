"""A head put onto clap-mini: its graphs answer what their embeddings times the head give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pair_files
import pytest

from clap_engine import bundle, doctor
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.bundle import Bundle
from clap_engine.encoders import AudioEncoder, TextEncoder
from clap_engine.loading import load
from clap_export import bundle_heads, cli, rotation
from clap_export.errors import HeadError
from clap_export.head_plan import random_rotation
from clap_export.pack import write_bundle
from clap_export.probes import Sizes
from clap_export.rotation import Head

pytestmark = pytest.mark.export

SIZES = Sizes(texts=12, sounds=6, calibration=4)
TEXTS = ["a banjo", "rain on a tin roof", "slow violin"]


@pytest.fixture(scope="module")
def mini() -> Bundle:
    return bundle.open(bundle.find("clap-mini"))


def head() -> Head:
    """Another map a side, 64 dims, three rungs."""
    rng = np.random.default_rng(0)
    sides = [np.asarray(rng.standard_normal((512, 64)) / 512**0.5, np.float32) for _ in range(2)]
    return Head(sides[0], "trained", sides[1], (8, 32, 64), 5.0, 25.0,
                {"pairs": {"file": "pairs.csv"}})  # fmt: skip


@pytest.fixture(scope="module")
def made(mini: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "headed"
    write_bundle(out, *bundle_heads.with_head(mini, head(), SIZES))
    return bundle.open(out)


def log_mels(mini: Bundle) -> Float32:
    towers = pair_files.mini()
    wave = np.random.default_rng(1).normal(0, 0.1, (2, towers.spec.window_samples))
    return towers.log_mel()(np.asarray(wave, np.float32))


def test_both_towers_answer_with_their_own_map(mini: Bundle, made: Bundle) -> None:
    """1e-5 on unit rows: the head is float32 behind graphs of any precision."""
    before = TextEncoder(mini, precision="int8").encode(TEXTS)
    found = TextEncoder(made, precision="int8").encode(TEXTS)
    np.testing.assert_allclose(found, l2_normalize(before @ head().text), atol=1e-5)
    wave = np.random.default_rng(1).normal(0, 0.1, (2, mini.manifest.audio.window_samples))
    waves = np.asarray(wave, np.float32)
    before = AudioEncoder(mini, precision="int8").encode(waves)
    found = AudioEncoder(made, precision="int8").encode(waves)
    np.testing.assert_allclose(found, l2_normalize(before @ head().matrix), atol=1e-5)


def test_frames_are_turned_too(mini: Bundle, made: Bundle) -> None:
    from clap_engine.session import GraphSession

    mels = log_mels(mini)
    before, after = (
        GraphSession(own.read("audio.int8.onnx"), name="audio").run(["frames"], {"log_mel": mels})[
            0
        ]
        for own in (mini, made)
    )
    assert after.shape == (2, 16, 64)
    np.testing.assert_allclose(after, l2_normalize(before @ head().matrix), atol=1e-5)


def test_the_manifest_says_so(mini: Bundle, made: Bundle) -> None:
    own, spec = mini.manifest, made.manifest
    assert (spec.id, spec.dim, spec.ladder) == ("clap-mini-trained", 64, (8, 32, 64))
    assert spec.space_id != own.space_id
    assert spec.logit_scale == 25.0
    assert spec.calibration["shortlist_per_sqrt_row"] == 5.0
    assert spec.calibration["text_mean"] != own.calibration["text_mean"]
    assert spec.parity["head"]["kind"] == "trained"
    assert spec.licences["training_data"].endswith("; head trained on pairs.csv")
    assert "without this head" in spec.parity["head"]["other rows"]
    assert "were made without it" in (made.path / "README.md").read_text()


def test_goldens_and_the_engine_agree(made: Bundle) -> None:
    states = {check.name: check.state for check in doctor.goldens(made)}
    assert states["text int8"] == states["audio int8"] == doctor.GOOD
    engine = load(made.path)
    assert engine.embed_text(TEXTS).shape == (3, 64)
    assert engine.embed_text(TEXTS, dim=8).shape == (3, 8)


def test_other_texts_leave_the_space_as_it_is(mini: Bundle, made: Bundle) -> None:
    """Collections are bound to where sounds lie; a better map of texts needs no re-embedding."""
    other = Head(head().matrix, "trained", -head().matrix, (8, 32, 64))
    manifest, _ = bundle_heads.with_head(mini, other, SIZES)
    assert manifest.space_id == made.manifest.space_id
    assert "shortlist_per_sqrt_row" not in manifest.calibration  # nobody measured it for this head
    still = Head(np.eye(512, dtype=np.float32), "trained", random_rotation(512, 1))
    manifest, _ = bundle_heads.with_head(mini, still, SIZES)
    assert manifest.space_id == mini.manifest.space_id


def test_a_rotation_put_on_and_taken_off_is_nothing(mini: Bundle, tmp_path: Path) -> None:
    """By the command, then by the function; 1e-5."""
    turn = random_rotation(512, 0)
    file = tmp_path / "head.npz"
    file.write_bytes(rotation.save(Head(turn, "fitted")))
    command = ["convert", "bundle", "--bundle", str(mini.path), "--heads", str(file)]
    assert cli.main([*command, "--out", str(tmp_path / "there"), "--threads", "1"]) == 0
    there = bundle.open(tmp_path / "there")
    back = Head(np.ascontiguousarray(turn.T), "fitted")
    write_bundle(tmp_path / "back", *bundle_heads.with_head(there, back, SIZES))
    before = TextEncoder(mini, precision="int8").encode(TEXTS)
    found = TextEncoder(bundle.open(tmp_path / "back"), precision="int8").encode(TEXTS)
    np.testing.assert_allclose(found, before, atol=1e-5)


def test_heads_of_other_spaces_are_refused(
    mini: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Head(head().matrix, "fitted", provenance={"source": {"sha256": "a" * 64}})
    with pytest.raises(HeadError, match="was fitted in space aaaaaaaaaaaa"):
        bundle_heads.with_head(mini, elsewhere, SIZES)
    (tmp_path / "head.npz").write_bytes(rotation.save(Head(np.eye(8, dtype=np.float32), "fitted")))
    command = ["convert", "bundle", "--bundle", str(mini.path)]
    command += ["--heads", str(tmp_path / "head.npz"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 1
    assert "matrix (8, 8); (512, 1 to 512) is needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
