"""Parity sees what it should: nothing between equals, and reshuffled rankings behind a cosine."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clap_engine.arrays import l2_normalize
from clap_engine.errors import ArrayError
from clap_export.parity import Gate, GateError, compare, compare_embeddings


def embeddings(n: int, seed: int, common: float = 0.0) -> np.ndarray:
    """[n, 64] unit rows that share a common part."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 64)).astype(np.float32)
    x[:, 0] += common * 8
    return l2_normalize(x)


def noisy(x: np.ndarray, size: float, seed: int = 9) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
    return l2_normalize(x + size * noise)


@pytest.mark.parametrize("with_gallery", [False, True])
def test_equals_are_equal(with_gallery: bool) -> None:
    x = embeddings(50, seed=0)
    gallery = embeddings(80, seed=1) if with_gallery else None
    parity = compare_embeddings(x, x.copy(), gallery=gallery)
    assert parity.top1 == parity.top10 == 1
    assert parity.centred_min == pytest.approx(1, abs=1e-5)
    assert parity.score_error == {32: 0.0, 64: 0.0}
    Gate().check(parity, "x")


def test_a_common_part_hides_nothing_from_the_centred_cosine() -> None:
    """Raw cosine .998, yet the rankings are reshuffled: the gate must refuse."""
    x = embeddings(200, seed=0, common=10.0)
    parity = compare_embeddings(x, noisy(x, 0.008))
    assert parity.cosine_mean > 0.99
    assert parity.centred_mean < 0.9
    with pytest.raises(GateError, match=r"x differs too much.*centred_mean 0\.[0-9]+ \(at least"):
        Gate().check(parity, "x")


def test_more_noise_is_worse() -> None:
    x = embeddings(200, seed=0)
    rows = [compare_embeddings(x, noisy(x, size)) for size in (0.01, 0.03, 0.1)]
    for name in ("cosine_mean", "centred_mean", "top1", "top10"):
        values = [getattr(row, name) for row in rows]
        assert values == sorted(values, reverse=True)
    assert rows[0].score_error[32] < rows[2].score_error[32]


def test_functions_are_compared_over_items() -> None:
    x = embeddings(20, seed=0)
    parity = compare(lambda rows: x[list(rows)], lambda rows: -x[list(rows)], range(20))
    assert parity.n == 20
    assert parity.cosine_mean == pytest.approx(-1, abs=1e-5)


def test_a_row_is_finite_json() -> None:
    x = embeddings(20, seed=0)
    row = compare_embeddings(x, noisy(x, 0.1)).as_json()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert set(row["score_error"]) == {"32", "64"}


def test_a_gate_lets_nan_through_never() -> None:
    x = embeddings(20, seed=0)
    parity = compare_embeddings(x, x)
    broken = type(parity)(**{**vars(parity), "centred_mean": float("nan")})
    with pytest.raises(GateError):
        Gate().check(broken, "x")


@pytest.mark.parametrize(
    ("a", "b"), [((5, 8), (4, 8)), ((5, 8), (5, 7)), ((1, 8), (1, 8)), ((0, 8), (0, 8))]
)
def test_what_can_not_be_compared_is_refused(a: tuple[int, int], b: tuple[int, int]) -> None:
    with pytest.raises(ArrayError):
        compare_embeddings(np.ones(a, np.float32), np.ones(b, np.float32))
