"""Embeddings on disk: what was put is there, what is damaged is not, one process writes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clap_engine.errors import LockedError
from clap_engine.evaluation.cache import EmbeddingCache

DIM = 8
SIZE = 40 + 4 * DIM + 4


def digest(number: int) -> str:
    return f"{number:064x}"


def opened(folder: Path, graph: str = "a" * 64) -> EmbeddingCache:
    return EmbeddingCache(folder, space_id="5" * 64, precision="int8", graph=graph, dim=DIM)


def filled(folder: Path, count: int) -> np.ndarray:
    rows = np.random.default_rng(2).standard_normal((count, DIM)).astype(np.float32)
    with opened(folder) as cache:
        for number, row in enumerate(rows):
            cache.put(digest(number), row, float(number))
    return rows


def test_what_was_put_is_there_bit_for_bit(tmp_path: Path) -> None:
    rows = filled(tmp_path / "made" / "here", 5)
    with opened(tmp_path / "made" / "here") as cache:
        for number, row in enumerate(rows):
            found = cache.get(digest(number))
            assert found is not None
            assert found[0].tobytes() == row.tobytes()
            assert found[1] == number
        assert cache.get(digest(99)) is None


def test_another_graph_has_another_file(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with opened(tmp_path, graph="b" * 64) as cache:
        assert len(cache) == 0


@pytest.mark.parametrize("left", [1, 39, 40, SIZE - 1])
def test_a_torn_record_is_cut_off(tmp_path: Path, left: int) -> None:
    """Law: whatever a kill left of the last record, those before it stay, and it goes on."""
    rows = filled(tmp_path, 3)
    (path,) = tmp_path.glob("*.rows")
    os.truncate(path, 2 * SIZE + left)
    with opened(tmp_path) as cache:
        assert len(cache) == 2
        cache.put(digest(7), rows[2], 1.0)
    with opened(tmp_path) as cache:
        found = cache.get(digest(7))
        assert found is not None
        assert found[0].tobytes() == rows[2].tobytes()


@pytest.mark.parametrize("at", [0, 33, 45, SIZE - 2])
def test_a_damaged_record_is_passed_over(tmp_path: Path, at: int) -> None:
    """Law: one flipped bit costs its record, never a wrong row, never those after it."""
    filled(tmp_path, 3)
    (path,) = tmp_path.glob("*.rows")
    data = bytearray(path.read_bytes())
    data[SIZE + at] ^= 4
    path.write_bytes(data)
    with opened(tmp_path) as cache:
        assert len(cache) == 2
        assert cache.get(digest(1)) is None
        assert cache.get(digest(2)) is not None


def test_one_process_writes(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(LockedError, match="another evaluation"):
        opened(tmp_path)
    opened(tmp_path).close()
