"""Lists: an inverted file. Rows that are alike stand together, and a query reads few of the lists.

In:  unit columns float32 [C, D] in parts; a query [D]; how many lists to read.
Out: the columns that are best by eight bits a dim, out of those lists.
Knows nothing about files, clips, exact scores or plans.

Each of L centroids has a list of the columns nearest to it. All centroids are looked at, then all
columns of the best lists, both by their codes. What is found is meant to be scored exactly: of
100,000 and of a million rows, the best 20 by codes held the ten that were best by all bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64
from clap_engine.index import columns, flat, kmeans, scan
from clap_engine.index.scan import Int8, Scan

# Columns given to lists to see how long that takes; to code a value, twice over.
_TRIED = 1024
CODING_S = 1e-8

Int32 = npt.NDArray[np.int32]

# Lists for each square root of a column, and the columns that a list has at least, on average.
PER_SQRT_COLUMN = 2.0
FEWEST_EACH = 8
SEED = 0
# A list is read by a call of its own (1 us) unless its columns are fewer: then all are copied
# together first.
_WORTH_A_CALL = 32
# Copied so many at a time, they stay in the second-level cache.
_AT_ONCE = 2048
# The codes of up to this share of all columns are copied for a filter, and kept with it: 16 MB of
# a million columns of 512 dims.
COPIED_SHARE = 1 / 32


@dataclass(frozen=True)
class Listed:
    """Columns that lie elsewhere, numbered from `first` on, each with the list that it would stand
    in; those at the end that have none yet belong to all lists."""

    first: int
    owners: Int64  # [C'], C' <= C
    codes: Int8  # [C, D]

    def __len__(self) -> int:
        """C."""
        return len(self.codes)


@dataclass(frozen=True)
class Lists:
    """Immutable; `near` may run in many threads. Slots count columns list after list.

    Where `slots` are given, these are some of the columns, whose codes lie there among all.
    """

    units: Float32  # [D]: what one in each dim of a code stands for
    centroids: Int8  # [L, D]
    codes: Int8  # [C, D], list after list
    starts: Int64  # [L + 1]: the slot where each list begins, and the end
    columns: Int32  # [C]: the column at each slot, ascending in each list
    reach: float  # columns in a list, on average over all that there are
    slots: Int32 | None = None

    def __len__(self) -> int:
        """Columns."""
        return len(self.columns)

    @property
    def count(self) -> int:
        """L."""
        return len(self.centroids)

    @cached_property
    def _slot_of(self) -> Int32:
        """[C]: where each column is."""
        found = np.empty(len(self.columns), np.int32)
        found[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        return found

    def only(self, chosen: Int64) -> Lists:
        """The same lists with these columns alone."""
        slots = np.sort(self._slot_of[chosen])
        starts = np.searchsorted(slots, self.starts)
        is_copied = len(slots) <= COPIED_SHARE * len(self)
        return Lists(
            self.units, self.centroids, self.codes[slots] if is_copied else self.codes, starts,
            self.columns[slots], self.reach, None if is_copied else slots,
        )  # fmt: skip

    def near(
        self,
        query: Float32,
        probes: int,
        count: int,
        *,
        is_dead: npt.NDArray[np.bool_] | None = None,
        is_part: bool = False,
        more: Listed | None = None,
        is_hidden: npt.NDArray[np.bool_] | None = None,
    ) -> Int64:
        """[D] -> columns, ascending, of the `count` best in `probes` lists, and of those that tie.

        More lists are read where these hold fewer than `count`, and where only some columns are
        left of each (`is_part`), until as many columns are read. `is_dead` [C] marks columns that
        were removed. Those of `more` that would stand in the lists that are read compete, but for
        those that `is_hidden` marks. Fewer are found only where there are no more.
        """
        asked = Scan(scan.weighed(query, self.units))
        ranks = asked.of(self.centroids)
        least = max(count, math.ceil(probes * self.reach)) if is_part else count
        while True:
            chosen = self._chosen(ranks, probes, least)
            slots, scores = self._read(asked, chosen)
            if is_dead is not None:
                scores[is_dead[self.columns[slots(np.arange(len(scores)))]]] = -np.inf
            own, others = len(scores), np.zeros(0, np.int64)
            if more is not None:
                others = self._owned(more, chosen, is_hidden)
                scores = np.concatenate([scores, asked.of(np.take(more.codes, others, axis=0))])
            best = flat.best(scores, count)
            if len(best) >= count or chosen is None or len(chosen) == self.count:
                split = int(np.searchsorted(best, own))
                found = np.sort(self.columns[slots(best[:split])]).astype(np.int64)
                if more is None:
                    return found
                return np.concatenate([found, others[best[split:] - own] + more.first])
            probes, least = 2 * probes, 2 * least

    def owners_of(self, rows: Float32) -> Int64:
        """Unit rows [n, D] -> the list [n] in which each would stand."""
        owners = np.empty(len(rows), np.int64)
        for first in range(0, len(rows), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            weighed = scan.weighed(rows[some], self.units)
            owners[some] = scan.products(weighed, self.centroids).argmax(axis=1)
        return owners

    def owners(self, chosen: Int64) -> Int64:
        """The lists in which these columns stand."""
        found = np.searchsorted(self.starts, self._slot_of[chosen], side="right") - 1
        return np.asarray(found, np.int64)

    def ranks(self, queries: Float32, owners: Int64) -> Int64:
        """Queries [M, D] and lists [M, k] -> how many each query must read to come to each."""
        found = np.empty(owners.shape, np.int64)
        for at, query in enumerate(queries):
            ranks = Scan(scan.weighed(query, self.units)).of(self.centroids)
            found[at] = (ranks >= ranks[owners[at]][:, None]).sum(axis=1)
        return found

    def _owned(
        self, more: Listed, chosen: Int64 | None, is_hidden: npt.NDArray[np.bool_] | None
    ) -> Int64:
        """Which of `more` belong to the lists `chosen`, ascending."""
        is_read = np.ones(len(more), np.bool_)
        if chosen is not None:
            is_chosen = np.zeros(self.count, np.bool_)
            is_chosen[chosen] = True
            is_read[: len(more.owners)] = is_chosen[more.owners]
        if is_hidden is not None:
            is_read &= ~is_hidden
        return np.flatnonzero(is_read)

    def _chosen(self, ranks: Float32, probes: int, least: int) -> Int64 | None:
        """The numbers of the lists to read, ascending; None for all."""
        if probes >= self.count or 2 * least >= len(self):
            return None
        chosen = flat.best(ranks, probes)
        sizes = self.starts[1:] - self.starts[:-1]
        if sizes[chosen].sum() < least:
            order = np.argsort(-ranks, kind="stable")
            enough = int(np.searchsorted(np.cumsum(sizes[order]), least)) + 1
            chosen = np.sort(order[:enough])
        return chosen

    def _read(self, asked: Scan, chosen: Int64 | None) -> tuple[Callable[[Int64], Int64], Float32]:
        """What tells the slots of what was read, and the products of all of it."""
        starts = self.starts[:1] if chosen is None else self.starts[chosen]
        ends = self.starts[-1:] if chosen is None else self.starts[chosen + 1]
        lengths = ends - starts
        stops = np.cumsum(lengths)
        total = int(stops[-1]) if len(stops) else 0
        out = np.empty(total, np.float32)
        if self.slots is None and total >= _WORTH_A_CALL * len(starts):
            at, codes = 0, self.codes
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                asked.into(codes[start : start + stop - at], out[at:stop])
                at = stop
        else:
            places = columns.runs(starts, lengths)
            if self.slots is not None:
                places = np.asarray(self.slots[places], np.int64)
            for first in range(0, total, _AT_ONCE):
                some = places[first : first + _AT_ONCE]
                asked.into(np.take(self.codes, some, axis=0), out[first : first + len(some)])

        def slots(read: Int64) -> Int64:
            own = np.searchsorted(stops, read, side="right")
            return np.asarray(read - stops[own] + ends[own], np.int64)

        return slots, out


Parts = Callable[[], Iterable[Float32]]


def lists_for(count: int) -> int:
    """How many lists so many columns get: as many as make both steps of a search alike long."""
    return max(1, min(math.ceil(PER_SQRT_COLUMN * math.sqrt(count)), count // FEWEST_EACH))


def seconds_to_build(count: int, dim: int) -> float:
    """What lists of so many columns take here, from what a thousand take."""
    wanted = lists_for(count)
    codes, units = np.ones((_TRIED, dim), np.int8), np.ones(dim, np.float32)
    start = time.thread_time()
    kmeans.assign(codes, units, np.ones((wanted, dim), np.float32), lambda: None)
    trained = kmeans.TURNS * min(count, kmeans.ROWS_PER_CENTROID * wanted)
    return (time.thread_time() - start) * (trained + count) / _TRIED + CODING_S * count * dim


def build(parts: Parts, count: int, dim: int, check: Callable[[], None] | None = None) -> Lists:
    """Lists of `count` unit columns that come in parts [n, dim], as often as `parts` is called.

    `check` is called now and then and ends the building by what it raises.
    """
    check = check or (lambda: None)
    highest = np.zeros(dim, np.float32)
    for part in parts():
        check()
        np.maximum(highest, np.abs(part).max(axis=0), out=highest)
    units, codes, at = scan.scales(highest), np.empty((count, dim), np.int8), 0
    for part in parts():
        check()
        codes[at : at + len(part)] = scan.coded(part, units)
        at += len(part)
    wanted = lists_for(count)
    drawn = np.arange(count)
    if count > kmeans.ROWS_PER_CENTROID * wanted:
        rng = np.random.default_rng(SEED)
        drawn = np.sort(rng.choice(count, kmeans.ROWS_PER_CENTROID * wanted, replace=False))
    centroids = kmeans.train(codes[drawn], units, wanted, SEED, check)
    nearest, _ = kmeans.assign(codes, units, centroids, check)
    order, starts = kmeans.order_of(nearest, len(centroids))
    return Lists(
        units, scan.coded(centroids, units), codes[order], starts, order.astype(np.int32),
        count / len(centroids),
    )  # fmt: skip
