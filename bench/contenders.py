"""All contenders by name: exact search, clap-engine's plans, prototypes of today, peers.

In:  a folder made by vectors.py; a folder for what is built.
Out: `CONTENDERS`, in the order in which a campaign measures them.
Knows nothing about time, recall or processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.index.vectors import widen
from contender import Contender, K
from libraries import Faiss, HnswFull, Svs, Usearch
from ours import Ours
from places import PgVector, QdrantEdge
from vectors import Vectors


class Exact(Contender):
    """`matrix @ query` and argpartition in float32: what everything is measured by."""

    def open(self) -> None:
        """All rows in memory."""
        self._rows = widen(self.vectors.rows)

    def search(self, query: Float32) -> list[int]:
        """Exact."""
        return _best(self._rows @ query).tolist()


def _best(scores: Float32) -> Any:
    top = np.argpartition(scores, len(scores) - K)[-K:]
    return top[np.argsort(-scores[top])]


class Funnel(Contender):
    """Today's prototypes of music search: whole scans at 128, 256 and 512 dims in Python.

    Each stage keeps 30 % of the rows of the one before.
    """

    _DIMS, _KEPT = (128, 256, 512), 0.3

    def open(self) -> None:
        """A matrix of unit rows for each stage."""
        rows = widen(self.vectors.rows)
        self._stages = [np.ascontiguousarray(l2_normalize(rows[:, :dim])) for dim in self._DIMS]

    def search(self, query: Float32) -> list[int]:
        """Three scans, each of what the one before kept."""
        kept: Any = None
        for dim, rows in zip(self._DIMS, self._stages, strict=True):
            prefix = l2_normalize(query[:dim])
            scores = (rows if kept is None else rows[kept]) @ prefix
            if dim == self._DIMS[-1]:
                return kept[_best(scores)].tolist()  # type: ignore[no-any-return]
            count = max(K, int(self._KEPT * len(scores)))
            top = np.argpartition(scores, len(scores) - count)[-count:]
            kept = top if kept is None else kept[top]
        raise AssertionError


Make = Callable[[Vectors, Path], Contender]

# In the order in which a campaign measures them.
CONTENDERS: dict[str, Make] = {
    "exact": Exact,
    "ours-default": Ours,
    "ours-fixed": lambda vectors, folder: Ours(vectors, folder, shortlist=1000),
    "ours-95": lambda vectors, folder: Ours(vectors, folder, target=0.95),
    "ours-98": lambda vectors, folder: Ours(vectors, folder, target=0.98),
    "ours-985": lambda vectors, folder: Ours(vectors, folder, target=0.985),
    "ours-99": lambda vectors, folder: Ours(vectors, folder, target=0.99),
    "ours-99-4gb": lambda vectors, folder: Ours(
        vectors, folder, target=0.99, memory_bytes=4_000_000_000
    ),
    "funnel": Funnel,
    "faiss-flat": lambda vectors, folder: Faiss(vectors, folder, "flat"),
    "faiss-ivf-sq8": lambda vectors, folder: Faiss(vectors, folder, "ivf"),
    "svs-lvq4x8": Svs,
    "usearch-f16": lambda vectors, folder: Usearch(vectors, folder, "f16"),
    "usearch-i8": lambda vectors, folder: Usearch(vectors, folder, "i8"),
    "hnswlib-512": HnswFull,
    "faiss-hnsw": lambda vectors, folder: Faiss(vectors, folder, "hnsw"),
    "qdrant-edge": QdrantEdge,
    "pgvector": PgVector,
}
