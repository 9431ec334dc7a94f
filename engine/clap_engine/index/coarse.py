"""The coarse index: HNSW over unit prefixes, behind a wall that hnswlib itself lacks.

In:  unit prefixes float32 [N, d]; a query prefix float32 [d]; a file whose digest was checked.
Out: positions and scores of near rows; a file.
Knows nothing about clips, digests or when to rebuild; the one module that talks to hnswlib.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine import storage
from clap_engine.arrays import Float32, Int64, check_array
from clap_engine.errors import DependencyError, IntegrityError

# Anchored on 32-d prefixes: more links or a wider build gain nothing that the rerank keeps.
M = 16
EF_CONSTRUCTION = 200
# With one thread and a fixed seed the same rows give the same graph, to the byte.
SEED = 100
# hnswlib 0.8 begins its file with these: offset of level 0, capacity, count, bytes an element,
# offset of the label, offset of the data (all size_t), then the top level and the entry point.
_HEADER = struct.Struct("=QQQQQQiI")
_UNIT_TOLERANCE = 1e-3
# Rows between two looks at whether the building shall end: some 0.5 s.
ROWS_AT_ONCE = 2048


def is_available() -> bool:
    """Whether hnswlib can be imported; without it the flat scan serves alone."""
    return importlib.util.find_spec("hnswlib") is not None


def _hnswlib() -> Any:
    try:
        return importlib.import_module("hnswlib")
    except ImportError as error:
        raise DependencyError(
            "hnswlib is not installed; run: pip install 'clap-engine[hnsw]' (needs a C++ compiler)"
        ) from error


class CoarseIndex:
    """Immutable once made; `search` may run in many threads."""

    def __init__(self, index: Any, dim: int, count: int) -> None:
        self._index = index
        self.dim = dim
        self.count = count

    @classmethod
    def build(cls, prefixes: Float32, check: Callable[[], None] | None = None) -> CoarseIndex:
        """[N, d] -> an index whose labels are the positions 0..N-1; one thread, deterministic.

        `check` is called now and then and ends the building by what it raises.
        """
        rows = check_array(prefixes, shape=(None, None), name="prefixes")
        parts = (rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE))
        return cls.build_from(parts, len(rows), rows.shape[1], check)

    @classmethod
    def build_from(
        cls,
        parts: Iterable[Float32],
        count: int,
        dim: int,
        check: Callable[[], None] | None = None,
    ) -> CoarseIndex:
        """The same of `count` prefixes that come in parts [n, d] of ROWS_AT_ONCE."""
        if not count:
            raise IntegrityError("an index needs at least one row")
        index = _hnswlib().Index(space="ip", dim=dim)
        index.init_index(max_elements=count, ef_construction=EF_CONSTRUCTION, M=M, random_seed=SEED)
        start = 0
        for part in parts:
            if check is not None:
                check()
            rows = _check_rows(part, dim)
            index.add_items(rows, np.arange(start, start + len(rows)), num_threads=1)
            start += len(rows)
        return cls(index, dim, count)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; hnswlib reports no failure, so the caller must load it to prove it."""
        self._index.save_index(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], dim: int, count: int) -> CoarseIndex:
        """Open a file whose digest was verified; IntegrityError if it isn't `count` x `dim`, or is
        gone since (NotFoundError where that is seen before hnswlib is asked)."""
        check_header(path, dim, count)
        index = _hnswlib().Index(space="ip", dim=dim)
        try:
            index.load_index(os.fspath(path))
        except RuntimeError as error:
            raise IntegrityError(f"hnswlib refuses {path}: {error}; rebuild the index") from error
        if index.get_current_count() != count or index.dim != dim:
            raise IntegrityError(
                f"{path} holds {index.get_current_count()} rows of {index.dim} dims where "
                f"{count} of {dim} are needed; rebuild the index"
            )
        return cls(index, dim, count)

    def search(self, query: Float32, count: int) -> tuple[Int64, Float32]:
        """[d] -> (positions [K], scores [K]), best first; K = min(count, rows).

        hnswlib searches with max(ef, K), so ef needs no setting, and a wider one gains nothing.
        """
        wanted = min(count, self.count)
        square = float(query @ query)  # NaN and infinity fail the comparison below
        if query.shape != (self.dim,) or not (abs(square - 1) <= _UNIT_TOLERANCE or square == 0):
            _check_rows(query[None], self.dim)  # says what is wrong
        try:
            labels, distances = self._index.knn_query(query[None], k=wanted, num_threads=1)
        except RuntimeError as error:  # fewer than K reachable: links were lost
            raise IntegrityError(
                f"the coarse index reaches fewer than {wanted} of its {self.count} rows; rebuild it"
            ) from error
        return labels[0].astype(np.int64), (1 - distances[0]).astype(np.float32)


def check_header(path: str | os.PathLike[str], dim: int, count: int) -> None:
    """IntegrityError unless the file says `count` rows of `dim`; reads it without hnswlib.

    NotFoundError where it is gone: a generation that was replaced goes at any moment.
    """
    with storage.translated("read", path), Path(path).open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise IntegrityError(f"{path} ends within its header; rebuild the index")
    level0, capacity, found, element, label, data, _, entry = _HEADER.unpack(head)
    if (level0, found, label - data) != (0, count, 4 * dim) or element != label + 8:
        raise IntegrityError(
            f"{path} says {found} rows of {(label - data) / 4:g} dims where {count} of {dim} "
            "are needed; rebuild the index"
        )
    if capacity < found or entry >= max(found, 1):
        raise IntegrityError(f"{path} contradicts itself; rebuild the index")


def _check_rows(prefixes: Float32, dim: int | None) -> Float32:
    """[N, d] finite, contiguous, each row of norm 1 or 0, at least one of them."""
    rows = check_array(prefixes, shape=(None, dim), name="prefixes")
    if not rows.size:
        raise IntegrityError("an index needs at least one row")
    squares = np.einsum("nd,nd->n", rows, rows)
    off = (np.abs(squares - 1) > _UNIT_TOLERANCE) & (squares != 0)
    if off.any():
        raise IntegrityError(
            f"{int(off.sum())} prefixes are not unit vectors; normalise them before the index"
        )
    return rows
