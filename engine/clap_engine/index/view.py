"""One committed state of a collection, ready to be searched by many threads.

In:  a generation, the tail of rows that are newer, the rows that were removed since.
Out: shortlists of positions, their exact scores, the best window of each clip.
Knows nothing about keys, metadata, SQLite or plans.

Positions count the generation's rows first, then the tail's; columns, which lead to rows, are
counted alike. A column is one row, or all windows of a clip.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clap_engine.arrays import Float32, Int64
from clap_engine.errors import IntegrityError
from clap_engine.index import columns, flat, vectors
from clap_engine.index.allowed import Allowed, Part, positions_of
from clap_engine.index.coarse import CoarseIndex
from clap_engine.index.generation import (
    PREFIX_DIM,
    Block,
    Generation,
    empty_block,
    new_block,
    prefixes_of,
)
from clap_engine.records import Rows

log = logging.getLogger("clap_engine")

_NONE: Int64 = np.zeros(0, np.int64)
# How many more rows the graph is asked for than a filter that knows nothing of the query needs.
_GRAPH_MARGIN = 1.25


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


@dataclass(frozen=True)
class View:
    """An immutable state; `dead` are the positions of removed rows."""

    number: int  # of the generation; 0 without one
    change: int
    last_row: int
    base: Block
    tail: Block
    coarse: CoarseIndex | None
    base_dead: Int64
    tail_dead: Int64

    @classmethod
    def of(
        cls,
        generation: Generation | None,
        dim: int,
        prefix_dim: int = PREFIX_DIM,
        by_clip: bool = False,
    ) -> View:
        """The state in which the generation was built, or the empty one of `prefix_dim`."""
        if generation is None:
            none = empty_block(dim, prefix_dim, by_clip)
            return cls(0, 0, 0, none, none, None, _NONE, _NONE)
        block = generation.block
        none = empty_block(dim, block.prefix_dim, block.starts is not None)
        return cls(
            generation.number, generation.change, generation.last_row, generation.block,
            none, generation.coarse, _NONE, _NONE,
        )  # fmt: skip

    def later(
        self, change: int, last_row: int, tail: Block, removed: Sequence[tuple[int, int]]
    ) -> View:
        """The view after another commit: a longer tail, and (first row, rows) ranges removed."""
        return replace(
            self,
            change=change,
            last_row=last_row,
            tail=tail,
            base_dead=np.union1d(self.base_dead, _positions(self.base.rows, removed)),
            tail_dead=np.union1d(self.tail_dead, _positions(tail.rows, removed)),
        )

    @property
    def prefix_dim(self) -> int:
        """The dims of the coarse rung."""
        return self.base.prefix_dim

    @property
    def rows(self) -> int:
        """Rows that can be found."""
        return len(self.base) + len(self.tail) - self.dead

    @property
    def dead(self) -> int:
        """Removed rows that the arrays still hold."""
        return len(self.base_dead) + len(self.tail_dead)

    @property
    def by_clip(self) -> bool:
        """Whether a column leads to all windows of a clip."""
        return self.base.starts is not None

    @cached_property
    def columns(self) -> int:
        """Columns that lead to rows that can be found."""
        dead = len(self._base_dead_columns) + len(self._tail_dead_columns)
        return self.base.columns + self.tail.columns - dead

    @cached_property
    def _base_dead_columns(self) -> Int64:
        """Clips are removed whole, and so are columns."""
        return self.base.columns_of(self.base_dead)

    @cached_property
    def _tail_dead_columns(self) -> Int64:
        return self.tail.columns_of(self.tail_dead)

    @property
    def stale(self) -> int:
        """Rows that a new generation would move or drop."""
        return len(self.tail) + self.dead

    def everything(self) -> Int64:
        """Positions of all rows that can be found."""
        alive = np.ones(len(self.base) + len(self.tail), np.bool_)
        alive[self.base_dead] = False
        alive[self.tail_dead + len(self.base)] = False
        return np.flatnonzero(alive)

    def allow(self, clips: Int64) -> Allowed:
        """The rows of these clips, those that were removed left out."""
        base, tail = (Part(block, positions_of(block, clips)) for block in (self.base, self.tail))
        return Allowed(base.without(self.base_dead), tail.without(self.tail_dead))

    def shortlist(
        self, prefix: Float32, count: int, *, use_coarse: bool, allowed: Allowed | None = None
    ) -> Int64:
        """[d] -> columns, ascending, of the `count` nearest prefixes, and of those that tie.

        The graph may give fewer where few of those near the query are allowed; a scan doesn't.
        """
        if use_coarse and self.coarse is not None:
            try:
                return self._coarse_shortlist(self.coarse, prefix, count, allowed)
            except IntegrityError as error:
                log.warning("%s; this search scans instead", error)
        (found,) = self.shortlists(prefix[None], count, allowed)
        return found

    def shortlists(
        self, prefixes: Float32, count: int, allowed: Allowed | None = None
    ) -> list[Int64]:
        """[B, d] -> for each query what `shortlist` gives, by a scan for all of them."""
        # One query is a product of a vector, which is faster than one of a matrix of one row.
        queries = prefixes[0] if len(prefixes) == 1 else prefixes
        if allowed is not None and allowed.is_narrow:
            scores = allowed.scan(queries)
            return [allowed.columns[flat.best(one, count)] for one in np.atleast_2d(scores)]
        scores = self._scan(self.base, self._base_dead_columns, queries)
        if len(self.tail):
            tail = self._scan(self.tail, self._tail_dead_columns, queries)
            scores = np.concatenate([scores, tail], axis=-1)
        if allowed is not None:
            allowed.hide(scores)
        return [flat.best(one, count) for one in np.atleast_2d(scores)]

    def rows_of(self, chosen: Int64) -> Int64:
        """Positions, ascending, of the rows that these ascending columns lead to."""
        if not self.by_clip:
            return chosen
        split = int(np.searchsorted(chosen, self.base.columns))
        base = self.base.rows_of(chosen[:split])
        tail = self.tail.rows_of(chosen[split:] - self.base.columns)
        return np.concatenate([base, tail + len(self.base)])

    def vectors_at(self, positions: Int64) -> Float32:
        """The stored vectors [K, D] at positions in any order."""
        split = len(self.base)
        is_tail = positions >= split
        packed = np.empty((len(positions), self.base.vectors.shape[1]), np.float16)
        packed[~is_tail] = self.base.vectors[positions[~is_tail]]
        packed[is_tail] = self.tail.vectors[positions[is_tail] - split]
        return vectors.widen(packed)

    def scores(self, positions: Int64, query: Float32) -> Float32:
        """Exact scores [K] of positions in ascending order."""
        if not len(self.tail):
            return vectors.exact_scores(self.base.vectors, positions, query)
        split = np.searchsorted(positions, len(self.base))
        return np.concatenate(
            [
                vectors.exact_scores(self.base.vectors, positions[:split], query),
                vectors.exact_scores(self.tail.vectors, positions[split:] - len(self.base), query),
            ]
        )

    def narrow(self, positions: Int64, prefix: Float32, count: int) -> Int64:
        """Those `count` of the ascending positions whose prefixes are nearest to [d], and ties."""
        if not len(self.tail):
            scores = vectors.prefix_scores(self.base.vectors, positions, prefix)
        else:
            split = np.searchsorted(positions, len(self.base))
            base, tail = positions[:split], positions[split:] - len(self.base)
            scores = np.concatenate(
                [
                    vectors.prefix_scores(self.base.vectors, base, prefix),
                    vectors.prefix_scores(self.tail.vectors, tail, prefix),
                ]
            )
        return positions[flat.best(scores, count)]

    def best_windows(self, positions: Int64, scores: Float32) -> tuple[Int64, Int64, Float32]:
        """(clips [C], positions [C], scores [C]): each clip's best window, the earliest of equals.

        `positions` ascend, and so do their clips: a clip's windows stand together.
        """
        if not len(positions):
            return _NONE, _NONE, scores
        if len(self.tail):
            split = np.searchsorted(positions, len(self.base))
            before, after = positions[:split], positions[split:] - len(self.base)
            clips = np.concatenate([self.base.clips[before], self.tail.clips[after]])
        else:
            clips = self.base.clips[positions]
        starts = np.concatenate([[0], np.flatnonzero(clips[1:] != clips[:-1]) + 1])
        if len(starts) == len(clips):
            return clips, positions, scores
        best = np.maximum.reduceat(scores, starts)
        lengths = np.diff(starts, append=len(clips))
        is_best = np.flatnonzero(scores == np.repeat(best, lengths))
        first = is_best[np.searchsorted(is_best, starts)]
        return clips[first], positions[first], scores[first]

    def spans(self, positions: Int64) -> list[tuple[float, float]]:
        """Start and end in seconds of each window."""
        split = len(self.base)
        rows = [
            self.base.spans[at] if at < split else self.tail.spans[at - split]
            for at in positions.tolist()
        ]
        return [(float(start), float(end)) for start, end in rows]

    @staticmethod
    def _scan(block: Block, dead: Int64, prefix: Float32) -> Float32:
        scores = flat.scan(block.prefixes, prefix)
        scores[..., dead] = -np.inf
        return scores

    def _coarse_shortlist(
        self, index: CoarseIndex, prefix: Float32, count: int, allowed: Allowed | None
    ) -> Int64:
        wanted = count
        if allowed is not None:
            # So many more as the filter lets fewer through, and some for the luck of the draw.
            share = self.columns / max(1, allowed.width)
            wanted = math.ceil(_GRAPH_MARGIN * count * share)
        # What was removed still takes places in the graph's answer: ask for that many more.
        dead = self._base_dead_columns
        near, near_scores = index.search(prefix, wanted + len(dead))
        is_alive = ~np.isin(near, dead)
        tail_scores = self._scan(self.tail, self._tail_dead_columns, prefix)
        if allowed is not None:
            is_alive &= allowed.contains(near)
            tail_scores[allowed.tail.hidden] = -np.inf
        tail = np.arange(self.tail.columns) + self.base.columns
        found = np.concatenate([near[is_alive], tail])
        scores = np.concatenate([near_scores[is_alive], tail_scores])
        return np.sort(found[flat.best(scores, count)])


def _positions(rows: Int64, removed: Sequence[tuple[int, int]]) -> Int64:
    """Positions in ascending `rows` that fall into the (first row, count) ranges."""
    if not removed or not len(rows):
        return _NONE
    firsts = np.array([first for first, _ in removed], np.int64)
    ends = firsts + np.array([count for _, count in removed], np.int64)
    starts, stops = np.searchsorted(rows, firsts), np.searchsorted(rows, ends)
    return np.concatenate(
        [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    )
