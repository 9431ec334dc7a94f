"""Rows newer than the generation, in memory, ready to be scanned.

In:  rows as they are committed.
Out: blocks of all of them so far, which never change.
Knows nothing about files, removals or searching.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64
from clap_engine.index import columns, scan
from clap_engine.index.generation import (
    PREFIX_DIM,
    Block,
    empty_block,
    new_block,
    prefix_parts,
    prefixes_of,
)
from clap_engine.index.lists import Listed, Lists
from clap_engine.index.scan import Int8
from clap_engine.records import Rows

# The columns that are given lists together. Fewer have codes alone, and every search reads these.
LISTED_AT_ONCE = 64

Array = TypeVar("Array", bound=npt.NDArray[np.generic])


class Tail:
    """Rows newer than the generation. Grows by doubling; blocks handed out are never written.

    Beside a generation with lists, `give_lists` says of columns in which of them they would stand.
    """

    def __init__(
        self,
        dim: int,
        prefix_dim: int = PREFIX_DIM,
        by_clip: bool = False,
        lists: Lists | None = None,
    ) -> None:
        self._full = empty_block(dim, prefix_dim, by_clip)
        self._count = self._columns = 0
        self._lists, self._listed, self._coded = lists, 0, 0
        self._owners: Int64 = np.empty(0, np.int64)
        self._codes: Int8 = np.empty((0, dim), np.int8)

    def give_lists(self, *, is_all: bool = False) -> None:
        """Let searches by lists find the columns so far: all of them, or not many at a time.

        A column has a code (5 us) and, where there are enough that lack it, the list in which it
        would stand (30 us of 2,000 lists). What comes faster must be scanned.
        """
        if self._lists is None:
            return
        lacking = self._columns - self._listed
        if is_all or lacking >= LISTED_AT_ONCE:
            count = lacking if is_all else LISTED_AT_ONCE
            for part in self._unit_columns(self._listed, self._listed + count):
                first, self._listed = self._listed, self._listed + len(part)
                self._owners[first : self._listed] = self._lists.owners_of(part)
        for part in self._unit_columns(
            self._coded, min(self._columns, self._listed + LISTED_AT_ONCE)
        ):
            first, self._coded = self._coded, self._coded + len(part)
            self._codes[first : self._coded] = scan.coded(part, self._lists.units)

    def _unit_columns(self, first: int, end: int) -> Iterator[Float32]:
        """Unit columns [n, D] of these numbers, in parts."""
        if first >= end:
            return iter(())
        full = self._full
        if full.starts is None:
            return prefix_parts(full.vectors[first:end], None, full.vectors.shape[1])
        starts = full.starts[first : end + 1]
        packed = full.vectors[starts[0] : starts[-1]]
        return prefix_parts(packed, starts - starts[0], packed.shape[1])

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
        listed = None
        if self._lists is not None and self._coded:
            owners, codes = self._owners[: self._listed], self._codes[: self._coded]
            listed = Listed(len(self._lists), owners, codes)
        return Block(
            full.vectors[:count], full.prefixes[:, :wide], full.rows[:count], full.clips[:count],
            full.spans[:count], None if full.starts is None else full.starts[: wide + 1], listed,
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
        if self._lists is not None:
            self._owners = _longer(self._owners, capacity)
            self._codes = _longer(self._codes, capacity)


def _longer(array: Array, count: int) -> Array:
    """A copy with room for `count` entries."""
    longer = np.empty((count, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer  # type: ignore[return-value]
