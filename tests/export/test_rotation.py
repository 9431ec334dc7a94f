"""The fitted head: a rotation changes no score, and its prefixes keep more than chance dims do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import ArrayError
from clap_export import rotation
from clap_export.errors import HeadError

pytestmark = pytest.mark.export

S = 64


def both(n: int, seed: int) -> tuple[Float32, Float32]:
    """Texts and sounds: shared factors of falling size, each modality's own mean and noise."""
    fixed = np.random.default_rng(99)
    mix = np.linalg.qr(fixed.standard_normal((S, S)))[0][:40] * np.arange(1, 41)[:, None] ** -0.7
    means = fixed.standard_normal((2, S)) / S**0.5
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 40)) @ mix
    pair = [shared + mean + 0.05 * rng.standard_normal((n, S)) for mean in means]
    return np.asarray(pair[0], np.float32), np.asarray(pair[1], np.float32)


def test_a_rotation_keeps_every_score() -> None:
    """1e-5 absolute before any dim is cut off: design.md, section 3."""
    text, audio = both(500, seed=0)
    matrix = rotation.fit(text, audio)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(S), atol=1e-5)
    new_text, new_audio = (x[0] for x in (both(200, seed=1), both(200, seed=2)))
    same = l2_normalize(new_text) @ l2_normalize(new_audio).T
    turned = l2_normalize(new_text @ matrix) @ l2_normalize(new_audio @ matrix).T
    np.testing.assert_allclose(turned, same, atol=1e-5)


def test_prefixes_keep_more_than_dims_by_chance() -> None:
    text, audio = both(1000, seed=0)
    matrix = rotation.fit(text, audio)
    held_out = both(300, seed=1)
    chance = np.linalg.qr(np.random.default_rng(3).standard_normal((S, S)))[0].astype(np.float32)
    fitted, random = (rotation.loss(m, *held_out, (8, 16, 32, S)) for m in (matrix, chance))
    for rung in ("8", "16", "32"):
        assert fitted[rung]["top10"] > random[rung]["top10"] + 0.15
    kept = [fitted[rung]["top10"] for rung in ("8", "16", "32", "64")]
    assert kept == sorted(kept)
    assert kept[-1] == 1.0
    assert fitted["64"]["error"] < 1e-5


def test_energy_falls_along_the_dims() -> None:
    text, audio = both(1000, seed=0)
    matrix = rotation.fit(text, audio)
    energy = [np.mean((l2_normalize(x) @ matrix) ** 2, axis=0) for x in (text, audio)]
    mean = np.sqrt(energy[0] * energy[1])
    assert np.all(np.diff(mean[:40:4]) < 0)


def test_the_same_data_give_the_same_head() -> None:
    text, audio = both(300, seed=0)
    first = rotation.fit(text, audio)
    np.testing.assert_array_equal(first, rotation.fit(text, audio))
    # Order and length of the rows don't matter.
    again = rotation.fit(3 * text[::-1], audio[::-1])
    np.testing.assert_allclose(np.abs(first[:, :8]), np.abs(again[:, :8]), atol=1e-4)


def test_fewer_rows_than_dims_still_give_a_rotation() -> None:
    text, audio = both(20, seed=0)
    matrix = rotation.fit(text, audio)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(S), atol=1e-5)


def test_callers_arrays_are_left_alone() -> None:
    text, audio = both(50, seed=0)
    before = text.copy(), audio.copy()
    rotation.fit(text, audio)
    np.testing.assert_array_equal(text, before[0])
    np.testing.assert_array_equal(audio, before[1])


def test_rows_that_cannot_be_fitted_are_refused() -> None:
    text, audio = both(50, seed=0)
    with pytest.raises(ArrayError):
        rotation.fit(text[:1], audio)
    with pytest.raises(ArrayError):
        rotation.fit(text, audio[:, :-1])
    with pytest.raises(ArrayError):
        rotation.fit(np.full_like(text, np.nan), audio)


def test_head_files_round_trip_and_bad_ones_are_named(tmp_path: Path) -> None:
    matrix = rotation.fit(*both(50, seed=0))[:, :32]
    path = tmp_path / "head.npz"
    path.write_bytes(rotation.save(rotation.Head(matrix, "fitted")))
    head = rotation.load(path, S)
    assert head.kind == "fitted"
    np.testing.assert_array_equal(head.matrix, matrix)
    with pytest.raises(HeadError, match="is needed"):
        rotation.load(path, S + 1)
    data = path.read_bytes()
    for bad in (data[:100], b"", b"PK\x03\x04" + data[4:60], b"text"):
        path.write_bytes(bad)
        with pytest.raises(HeadError, match="no head file"):
            rotation.load(path, S)
    path.write_bytes(rotation.save(rotation.Head(np.full((S, 4), np.nan, np.float32), "fitted")))
    with pytest.raises(HeadError, match="not finite"):
        rotation.load(path, S)


def test_what_a_head_file_says_of_itself_round_trips(tmp_path: Path) -> None:
    matrix = rotation.fit(*both(50, seed=0))[:, :32]
    head = rotation.Head(
        matrix, "trained", -matrix, (8, 32), 2.5, 31.0, {"source": {"sha256": "0" * 64}}
    )
    path = tmp_path / "head.npz"
    data = rotation.save(head)
    path.write_bytes(data)
    found = rotation.load(path, S)
    assert found.text is not None
    np.testing.assert_array_equal(found.text, -matrix)
    assert (found.ladder, found.provenance) == (head.ladder, head.provenance)
    assert (found.shortlist_per_sqrt_row, found.logit_scale) == (2.5, 31.0)
    assert rotation.save(found) == data
    assert rotation.Head(matrix, "fitted").calibration() == {}
    assert head.calibration() == {"shortlist_per_sqrt_row": 2.5}
    for bad in ((32, 8), (8, 16), (0, 32)):
        path.write_bytes(rotation.save(rotation.Head(matrix, "fitted", ladder=bad)))
        with pytest.raises(HeadError, match="rising dims that end with 32"):
            rotation.load(path, S)
    path.write_bytes(rotation.save(rotation.Head(matrix, "trained", matrix[:, :8])))
    with pytest.raises(HeadError, match="make them alike"):
        rotation.load(path, S)
    with pytest.raises(HeadError, match="is not there"):
        rotation.load(tmp_path / "none.npz", S)
