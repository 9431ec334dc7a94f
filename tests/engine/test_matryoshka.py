"""Law 3: a truncated embedding is its first entries, normalised again."""

from __future__ import annotations

import numpy as np
import pytest

from clap_engine.errors import DimError
from clap_engine.matryoshka import check_dim, truncate

LADDER = (32, 64, 128, 256, 512)
ROWS = np.random.default_rng(7).normal(size=(5, 512)).astype(np.float32)


@pytest.mark.parametrize("dim", [*LADDER, 1, 33])
def test_truncate_is_the_normalised_prefix(dim: int) -> None:
    before = ROWS.copy()
    result = truncate(ROWS, dim)
    prefix = ROWS[:, :dim].astype(np.float64)
    expected = prefix / np.linalg.norm(prefix, axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ROWS, before)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, ROWS)


def test_rungs_compose() -> None:
    direct = truncate(ROWS, 32)
    np.testing.assert_allclose(truncate(truncate(ROWS, 256), 32), direct, rtol=0, atol=1e-6)


def test_one_row_and_no_row_and_a_zero_row() -> None:
    np.testing.assert_array_equal(truncate(ROWS[0], 64), truncate(ROWS, 64)[0])
    assert truncate(ROWS[:0], 64).shape == (0, 64)
    assert not truncate(np.zeros((1, 512), np.float32), 64).any()


@pytest.mark.parametrize("dim", [0, -1, 513, 48, True, 32.5, "32"])
def test_what_is_not_on_the_ladder_is_refused(dim: int) -> None:
    with pytest.raises(DimError, match="32, 64, 128, 256, 512"):
        check_dim(dim, LADDER)
    with pytest.raises(DimError):
        truncate(ROWS, dim, LADDER)


@pytest.mark.parametrize("dim", LADDER)
def test_rungs_are_allowed(dim: int) -> None:
    assert check_dim(dim, LADDER) == dim
    assert truncate(ROWS, dim, LADDER).shape == (5, dim)


@pytest.mark.parametrize("dim", [0, -1, 513])
def test_a_prefix_longer_than_the_whole_is_refused(dim: int) -> None:
    with pytest.raises(DimError, match="1 to 512"):
        truncate(ROWS, dim)
