"""The learned rotation: it changes no score of all dims, and its prefixes rank as they do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import ArrayError
from clap_export import rotation
from clap_export.rungs import Distillation, distilled
from clap_export.tower import AudioTower, TowerShape, turned

pytestmark = pytest.mark.export

DIM, KINDS = 64, 24
PLAN = Distillation(steps=200, batch=256, rate=0.02)


def space(n: int, seed: int) -> tuple[Float32, Float32]:
    """Captions and clips of KINDS kinds, which lie anywhere; dims that only one side knows."""
    kinds = np.random.default_rng(99).standard_normal((KINDS, DIM))
    rng = np.random.default_rng(seed)
    own = np.random.default_rng(98).standard_normal((2, 6, DIM))
    which = rng.integers(KINDS, size=n)
    both = [
        kinds[which] + 0.6 * rng.standard_normal((n, DIM)) + rng.standard_normal((n, 6)) @ side
        for side in own
    ]
    text, audio = (l2_normalize(rows.astype(np.float32)) for rows in both)
    return text, audio


def kept(turn: Float32, rung: int, text: Float32, audio: Float32) -> float:
    """Share of the ten best clips of all dims among the ten best of the first `rung`."""
    return float(rotation.loss(turn, text, audio, [rung])[str(rung)]["top10"])


@pytest.fixture(scope="module")
def turn() -> Float32:
    return distilled(*space(4_000, 0), 20.0, (8, 16, DIM), PLAN)


def test_it_is_orthogonal_and_the_same_again(turn: Float32) -> None:
    np.testing.assert_allclose(turn.T @ turn, np.eye(DIM), atol=1e-5)
    again = distilled(*space(4_000, 0), 20.0, (8, 16, DIM), PLAN)
    np.testing.assert_allclose(again, turn, atol=1e-5)


@pytest.mark.parametrize("rung", [8, 16])
def test_prefixes_rank_as_all_dims_do_more_often(turn: Float32, rung: int) -> None:
    fresh = space(1_000, 1)
    as_it_was = kept(np.eye(DIM, dtype=np.float32), rung, *fresh)
    assert kept(turn, rung, *fresh) > 2 * as_it_was


def test_a_turned_tower_embeds_as_before_but_turned() -> None:
    torch.manual_seed(0)
    shape = TowerShape((4, 8, 8, 16), (0, 1, 0, 0), hidden=32, dim=DIM, profiles=4)
    tower = AudioTower(shape).eval()
    with torch.no_grad():
        tower.minor.normal_()
    matrix = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    matrix = matrix.astype(np.float32)
    log_mel = torch.rand(4, 128, 64) * -80
    with torch.inference_mode():
        for before, after in zip(tower(log_mel), turned(tower, matrix)(log_mel), strict=True):
            assert torch.allclose(after, before @ torch.from_numpy(matrix), atol=1e-5)


def test_captions_without_their_clips_are_refused() -> None:
    text, audio = space(20, 0)
    with pytest.raises(ArrayError, match="audio"):
        distilled(text, audio[:-1], 20.0, (8, DIM))
