"""Laws of the spread: it tells texts that lie close from texts of which nothing is left."""

from __future__ import annotations

import numpy as np
import pytest

from clap_engine import spread
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.doctor import COLLAPSED, LEAST_PAIRED, LEAST_RANK, NARROW

N, D = len(spread.TEXTS), 64


def unit(rows: np.ndarray) -> Float32:
    return l2_normalize(np.asarray(rows, np.float32))


def around(centre: np.ndarray, rows: np.ndarray, size: float) -> Float32:
    return unit(centre + size * rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def centre(random: np.random.Generator) -> Float32:
    return unit(random.standard_normal((1, D)))


def pairs(random: np.random.Generator) -> np.ndarray:
    """Rows of which two each have most in common."""
    shared = np.repeat(random.standard_normal((N // 2, D)), 2, axis=0)
    return shared + 0.7 * random.standard_normal((N, D))


def test_the_texts_are_pairs_of_different_texts() -> None:
    assert len(set(spread.TEXTS)) == N == 2 * len(spread.PAIRS) == 32


def test_massive_channels_alone_are_no_collapse(
    random: np.random.Generator, centre: Float32
) -> None:
    """Mean cosine .9993, as seeded weights with outliers have it; what ranks is all there."""
    found = spread.measure(around(centre, pairs(random), 0.0265))
    assert NARROW < found.alike < COLLAPSED
    assert found.alike == pytest.approx(0.9993, abs=1e-4)
    assert found.paired > 0.9
    assert found.rank > 8


@pytest.mark.parametrize("size", [0.0265, 0.3, 3.0])
def test_noise_around_one_row_is_a_collapse_at_any_mean_cosine(
    random: np.random.Generator, centre: Float32, size: float
) -> None:
    """It fills many directions: its rank is that of a healthy tower."""
    found = spread.measure(around(centre, random.standard_normal((N, D)), size))
    assert found.paired < LEAST_PAIRED
    assert found.rank > 8


def test_a_line_is_a_collapse(random: np.random.Generator, centre: Float32) -> None:
    """Only one thing about a text comes through, its length perhaps."""
    lengths = np.repeat(np.arange(N // 2), 2)[:, None] + 0.1 * random.standard_normal((N, 1))
    found = spread.measure(unit(centre + 0.05 * lengths * random.standard_normal((1, D))))
    assert found.rank < LEAST_RANK
    assert found.paired > LEAST_PAIRED


def test_equal_rows_have_no_spread(centre: Float32) -> None:
    found = spread.measure(np.repeat(centre, N, axis=0))
    assert (found.rank, found.paired) == (0, 0)
    assert found.alike == pytest.approx(1, abs=1e-5)


def test_alike_is_the_mean_of_all_cosines(random: np.random.Generator) -> None:
    """1e-6, against the sum written out."""
    rows = unit(random.standard_normal((7, D)))
    cosine = rows @ rows.T
    wanted = cosine[~np.eye(7, dtype=bool)].mean()
    assert spread.alike(rows) == pytest.approx(wanted, abs=1e-6)


def test_callers_rows_are_left_alone(random: np.random.Generator) -> None:
    rows = unit(pairs(random))
    before = rows.copy()
    spread.measure(rows)
    np.testing.assert_array_equal(rows, before)
