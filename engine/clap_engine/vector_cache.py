"""The embeddings of the texts that were asked for last.

In:  texts, and their embeddings float32 [D] when they were computed.
Out: copies of what is known; how often something was.
Knows nothing about how texts are embedded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32

CACHED_TEXTS = 1024


@dataclass(frozen=True)
class CacheStats:
    """Texts held, and how many were looked up with and without success."""

    entries: int
    hits: int
    misses: int


class VectorCache:
    """At most `capacity` texts, the one asked for longest ago leaves first. Safe in threads."""

    def __init__(self, capacity: int = CACHED_TEXTS) -> None:
        self._capacity = capacity
        self._guard = threading.Lock()
        self._rows: OrderedDict[str, Float32] = OrderedDict()
        self._hits = self._misses = 0

    def get(self, text: str) -> Float32 | None:
        """[D], the cache's own array: read it, copy it, never hand it out."""
        with self._guard:
            row = self._rows.get(text)
            if row is None:
                self._misses += 1
                return None
            self._hits += 1
            self._rows.move_to_end(text)
            return row

    def known(self, text: str) -> Float32 | None:
        """[D], the caller's own; a text that is not there counts as no miss: it is asked again."""
        with self._guard:
            row = self._rows.get(text)
            if row is None:
                return None
            self._hits += 1
            self._rows.move_to_end(text)
            return row.copy()

    def put(self, text: str, row: Float32) -> None:
        """Keep a copy of [D]."""
        own = np.array(row, np.float32)
        with self._guard:
            self._rows[text] = own
            self._rows.move_to_end(text)
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)

    def clear(self) -> None:
        """Forget all texts; the counts stay."""
        with self._guard:
            self._rows.clear()

    def stats(self) -> CacheStats:
        """Counts as of now."""
        with self._guard:
            return CacheStats(len(self._rows), self._hits, self._misses)
