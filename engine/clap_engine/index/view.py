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
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.errors import IntegrityError
from clap_engine.index import flat, vectors
from clap_engine.index.allowed import Allowed, Part, positions_of
from clap_engine.index.coarse import CoarseIndex
from clap_engine.index.generation import PREFIX_DIM, Block, Generation, empty_block
from clap_engine.index.labels import Labels
from clap_engine.index.lists import Lists

log = logging.getLogger("clap_engine")

_NONE: Int64 = np.zeros(0, np.int64)
# How many more rows the graph is asked for than a filter that knows nothing of the query needs.
_GRAPH_MARGIN = 1.25


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
    touched: int = 0  # the change that last removed clips or gave them other facts, if not older
    labels: Labels | None = None  # of the generation's clips, unless some were amended since
    lists: Lists | None = None  # of the generation's columns

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
            none, generation.coarse, _NONE, _NONE, generation.change, generation.labels,
            generation.lists,
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
            base_dead=_joined(self.base_dead, _positions(self.base.rows, removed)),
            tail_dead=_joined(self.tail_dead, _positions(tail.rows, removed)),
            touched=change if removed else self.touched,
            labels=None if any(not count for _, count in removed) else self.labels,
        )

    @property
    def prefix_dim(self) -> int:
        """The dims of the coarse rung."""
        return self.base.prefix_dim

    @property
    def graph_dim(self) -> int:
        """The dims of the graph, 0 without one."""
        return 0 if self.coarse is None else self.coarse.dim

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

    @cached_property
    def _is_dead(self) -> npt.NDArray[np.bool_] | None:
        """[C]: which of the generation's columns were removed; None where none was."""
        return _marked(self.base.columns, self._base_dead_columns)

    @cached_property
    def _is_dead_tail(self) -> npt.NDArray[np.bool_] | None:
        """[C]: the same of the tail's."""
        return _marked(self.tail.columns, self._tail_dead_columns)

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

    def shortlist(self, prefix: Float32, count: int, allowed: Allowed | None = None) -> Int64:
        """[d] -> columns, ascending, of the `count` nearest prefixes, and of those that tie."""
        (found,) = self.shortlists(prefix[None], count, allowed)
        return found

    def near(
        self,
        vector: Float32,
        count: int,
        *,
        kept: int = 0,
        scan_shortlist: int = 0,
        allowed: Allowed | None = None,
    ) -> Int64 | None:
        """[D] -> columns, ascending, of the `count` that the graph finds nearest.

        Of a graph over other dims than the prefixes' only the first `kept` are given, where that
        is not 0, and `scan_shortlist` of the tail join them. None where the graph can't serve:
        fewer of those near the query are allowed, or its links are broken.
        """
        if self.coarse is None:
            return None
        try:
            return self._near(self.coarse, vector, count, kept, scan_shortlist, allowed)
        except IntegrityError as error:
            log.warning("%s; this search scans instead", error)
            return None

    def listed(
        self,
        lists: Lists,
        vector: Float32,
        count: int,
        *,
        probes: int,
        scan_shortlist: int = 0,
        allowed: Allowed | None = None,
    ) -> Int64:
        """[D] -> columns, ascending, of the `count` best of `probes` lists, see Lists.near.

        The tail's compete where they have codes; `scan_shortlist` of its others join them.
        """
        some, is_dead = lists, self._is_dead
        if allowed is not None:
            some, is_dead = allowed.base.lists(lists), None
        more = self.tail.listed
        first = 0 if more is None else len(more)
        hidden = self._hidden_of_tail(allowed)
        near = some.near(
            vector, probes, count, is_dead=is_dead, is_part=allowed is not None, more=more,
            is_hidden=None if hidden is None else hidden[:first],
        )  # fmt: skip
        return self._with_tail(near, vector, scan_shortlist or count, allowed, first)

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
        if (clips[1:] != clips[:-1]).all():
            return clips, positions, scores
        starts = np.concatenate([[0], np.flatnonzero(clips[1:] != clips[:-1]) + 1])
        best = np.maximum.reduceat(scores, starts)
        lengths = np.diff(starts, append=len(clips))
        is_best = np.flatnonzero(scores == np.repeat(best, lengths))
        first = is_best[np.searchsorted(is_best, starts)]
        return clips[first], positions[first], scores[first]

    def spans(self, positions: Int64) -> list[tuple[float, float]]:
        """Start and end in seconds of each window."""
        split = len(self.base)
        if not len(self.tail):
            found = self.base.spans[positions]
        else:
            is_tail = positions >= split
            found = np.empty((len(positions), 2), np.float64)
            found[~is_tail] = self.base.spans[positions[~is_tail]]
            found[is_tail] = self.tail.spans[positions[is_tail] - split]
        return [(start, end) for start, end in found.tolist()]

    @staticmethod
    def _scan(block: Block, dead: Int64, prefix: Float32) -> Float32:
        scores = flat.scan(block.prefixes, prefix)
        scores[..., dead] = -np.inf
        return scores

    def _near(
        self,
        index: CoarseIndex,
        vector: Float32,
        count: int,
        kept: int,
        scan_shortlist: int,
        allowed: Allowed | None,
    ) -> Int64 | None:
        wanted = count
        if allowed is not None:
            # So many more as the filter lets fewer through, and some for the luck of the draw.
            share = self.columns / max(1, allowed.width)
            wanted = math.ceil(_GRAPH_MARGIN * count * share)
        # What was removed still takes places in the graph's answer: ask for that many more.
        dead = self._base_dead_columns
        near, scores = index.search(l2_normalize(vector[: index.dim]), wanted + len(dead))
        if len(dead):
            is_alive = ~np.isin(near, dead)
            near, scores = near[is_alive], scores[is_alive]
        if allowed is not None:
            is_allowed = allowed.contains(near)
            near, scores = near[is_allowed], scores[is_allowed]
        if index.dim != self.prefix_dim:
            # Scores of other dims can't be compared with the tail's: what is best there joins.
            if len(near) < count:
                return None
            found = np.sort(near[: kept or count])
            return self._with_tail(found, vector, scan_shortlist or count, allowed)
        if self.tail.columns:
            tail = np.arange(self.tail.columns) + self.base.columns
            near = np.concatenate([near, tail])
            scores = np.concatenate([scores, self._tail_scores(vector, allowed)])
        if len(near) > count:
            near = near[flat.best(scores, count)]
        elif self.tail.columns:
            near = near[scores > -np.inf]
        return np.asarray(np.sort(near), np.int64) if len(near) >= count else None

    def _with_tail(
        self, found: Int64, vector: Float32, count: int, allowed: Allowed | None, first: int = 0
    ) -> Int64:
        """The columns found, and the nearest of the tail's from `first` on.

        `count` is what a scan of all columns keeps; what must be kept of a part goes with its
        square root (planner.tuned). No fewer than were found, which is what is wanted of all.
        """
        rest = self.tail.columns - first
        if not rest:
            return found
        share = math.sqrt(rest / (self.base.columns + self.tail.columns))
        count = min(count, max(len(found), math.ceil(count * share)))
        tail = flat.best(self._tail_scores(vector, allowed, first), count) + first
        return np.asarray(np.concatenate([found, tail + self.base.columns]), np.int64)

    def _tail_scores(self, vector: Float32, allowed: Allowed | None, first: int = 0) -> Float32:
        """[C - first]: of the tail's prefixes; -inf where one was removed or is not allowed."""
        prefix = l2_normalize(vector[: self.prefix_dim])
        scores = flat.scan(self.tail.prefixes[:, first:], prefix)
        hidden = self._hidden_of_tail(allowed)
        if hidden is not None:
            scores[hidden[first:]] = -np.inf
        return scores

    def _hidden_of_tail(self, allowed: Allowed | None) -> npt.NDArray[np.bool_] | None:
        """[C]: which of the tail's columns were removed, or are not allowed; None where none is."""
        return self._is_dead_tail if allowed is None else allowed.tail.hidden


def _marked(count: int, chosen: Int64) -> npt.NDArray[np.bool_] | None:
    """[count]: True for the chosen; None where none is."""
    if not len(chosen):
        return None
    is_chosen = np.zeros(count, np.bool_)
    is_chosen[chosen] = True
    return is_chosen


def _joined(some: Int64, more: Int64) -> Int64:
    """All positions of both, ascending, each once."""
    return np.union1d(some, more) if len(more) else some


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
