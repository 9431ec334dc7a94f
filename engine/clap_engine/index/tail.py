"""Rows newer than the generation, in memory, ready to be scanned.

In:  rows as they are committed.
Out: blocks of all of them so far, which never change.
Knows nothing about files, removals or searching.
"""

from __future__ import annotations

from clap_engine.index import columns
from clap_engine.index.generation import PREFIX_DIM, Block, empty_block, new_block, prefixes_of
from clap_engine.records import Rows


class Tail:
    """Rows newer than the generation. Grows by doubling; blocks handed out are never written."""

    def __init__(self, dim: int, prefix_dim: int = PREFIX_DIM, by_clip: bool = False) -> None:
        self._full = empty_block(dim, prefix_dim, by_clip)
        self._count = self._columns = 0

    def append(self, batch: Rows) -> None:
        """Add rows with higher numbers than all before, of clips not below the last one.

        Where each clip is a column, all of its rows come in one batch.
        """
        start, self._count = self._count, self._count + len(batch.rows)
        if self._count > len(self._full):
            self._grow(max(1024, 2 * self._count), start)
        used = slice(start, self._count)
        self._full.vectors[used] = batch.vectors
        self._full.rows[used], self._full.clips[used] = batch.rows, batch.clips
        self._full.spans[used] = batch.spans
        prefixes = prefixes_of(batch, self._full.prefix_dim, self._full.starts is not None)
        first, self._columns = self._columns, self._columns + prefixes.shape[1]
        self._full.prefixes[:, first : self._columns] = prefixes
        if self._full.starts is not None:
            ends = columns.starts_of(batch.clips)[1:] + start
            self._full.starts[first + 1 : self._columns + 1] = ends

    def block(self) -> Block:
        """Views of the rows so far."""
        count, wide, full = self._count, self._columns, self._full
        return Block(
            full.vectors[:count], full.prefixes[:, :wide], full.rows[:count], full.clips[:count],
            full.spans[:count], None if full.starts is None else full.starts[: wide + 1],
        )  # fmt: skip

    def _grow(self, capacity: int, count: int) -> None:
        old, wide = self._full, self._columns
        # Older blocks keep the arrays that they are views of.
        by_clip = old.starts is not None
        self._full = new_block(capacity, old.vectors.shape[1], old.prefix_dim, by_clip)
        self._full.vectors[:count] = old.vectors[:count]
        self._full.prefixes[:, :wide] = old.prefixes[:, :wide]
        if self._full.starts is not None and old.starts is not None:
            self._full.starts[: wide + 1] = old.starts[: wide + 1]
        self._full.rows[:count], self._full.clips[:count] = old.rows[:count], old.clips[:count]
        self._full.spans[:count] = old.spans[:count]
