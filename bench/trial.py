"""What every trial of a collection starts from: vectors, a tuned collection, searches in turns.

In:  a folder made by vectors.py; a folder for what is built.
Out: `Trial`; milliseconds and rows of searches.
Knows nothing about what is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ours
from clap_engine.collection import Collection
from contender import K
from contest import BURST, build
from vectors import Vectors


class Trial:
    """What every trial starts from: vectors and a tuned collection of them."""

    def __init__(
        self,
        vectors: Vectors,
        work: Path,
        queries: int,
        lock: Path | None = None,
        seconds: float = 8.0,
    ) -> None:
        """`seconds` is how long each turn lasts where time decides, not a number of queries."""
        self.vectors, self.queries, self.lock, self.seconds = vectors, queries, lock, seconds
        self.work = work / str(vectors.count)
        self.tuned = self.work / "ours-99"

    def prepare(self) -> Path:
        """The tuned collection, built where it is missing."""
        build("ours-99", self.vectors, self.tuned, 600, 0)
        return self.tuned

    def copy(self, name: str) -> Path:
        """A copy of the tuned collection."""
        folder = self.work / f"service-{name}"
        ours.copy(self.prepare(), folder)
        return folder

    def asked(self) -> list[Any]:
        """Queries, in order."""
        return [*self.vectors.queries[: self.queries]]


def searched(collection: Collection, query: Any, **options: Any) -> tuple[float, list[int]]:
    """Milliseconds and rows of one search."""
    start = time.perf_counter()
    hits = collection.search(query, k=K, **options).hits
    return 1e3 * (time.perf_counter() - start), [int(hit.key) for hit in hits]


def in_turns(
    ways: dict[str, Callable[[Any], tuple[float, list[int]]]], queries: list[Any]
) -> dict[str, tuple[list[float], list[list[int]]]]:
    """Milliseconds and rows of each way, in alternating bursts over the same queries."""
    found: dict[str, tuple[list[float], list[list[int]]]] = {name: ([], []) for name in ways}
    for way in ways.values():
        for query in queries[-BURST:]:
            way(query)
    for start in range(0, len(queries), BURST):
        for name, way in ways.items():
            for query in queries[start : start + BURST]:
                ms, rows = way(query)
                found[name][0].append(ms)
                found[name][1].append(rows)
    return found


def percentiles(ms: list[float]) -> dict[str, float]:
    """p50, p99 and how many."""
    return {
        "p50_ms": float(np.percentile(ms, 50)), "p99_ms": float(np.percentile(ms, 99)),
        "n": len(ms),
    }  # fmt: skip
