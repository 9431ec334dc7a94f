"""k-means on the sphere: rows -> centroids that stand for them, and the nearest one of each row.

In:  codes int8 [N, D] with the unit of each dim; how many centroids; a seed.
Out: unit centroids float32 [L, D]; for each row the number of its centroid.
Knows nothing about files, searching or where rows come from.

Products of codes are exact integers in float32, means are sums of integers: the same codes and
seed give the same centroids, with whatever BLAS and any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clap_engine.arrays import Float32, Float64, Int64
from clap_engine.index import scan
from clap_engine.index.scan import Int8

# A million captions' answers lie no closer together after ten turns than after six (.994 of the
# true ten in 12 of 2,048 lists).
TURNS = 6
# Rows for each centroid that they are found from; all rows are then given to them.
ROWS_PER_CENTROID = 50
# Rows whose products are held at a time: 32 MB for 2,000 centroids.
_ROWS_AT_ONCE = 4096
_UNCHANGED = 1e-3  # the share of rows that may still move when no more turns are worth it

Check = Callable[[], None]


def train(codes: Int8, units: Float32, count: int, seed: int, check: Check) -> Float32:
    """Unit centroids [L, D] of the rows of a sample; L is `count`, or the rows where these are few.

    `check` is called now and then and ends it by what it raises.
    """
    count = min(count, len(codes))
    rng = np.random.default_rng(seed)
    centroids = _unit(codes[np.sort(rng.choice(len(codes), count, replace=False))] * units)
    before = np.full(len(codes), -1, np.int64)
    for _ in range(TURNS):
        nearest, scores = assign(codes, units, centroids, check)
        if np.count_nonzero(nearest != before) <= _UNCHANGED * len(codes):
            break
        centroids, before = _means(codes, units, nearest, scores, count), nearest
    return centroids


def assign(codes: Int8, units: Float32, centroids: Float32, check: Check) -> tuple[Int64, Float32]:
    """For each row the centroid nearest by angle, the first of equals [N], and how near [N]."""
    weighed = centroids * units
    unit = np.abs(weighed).max(axis=1) / np.float32(scan.largest(len(units)))
    unit = np.maximum(unit, np.float32(1e-30))
    wide = np.rint(weighed / unit[:, None]).T.copy()
    nearest, scores = np.empty(len(codes), np.int64), np.empty(len(codes), np.float32)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        check()
        some = slice(start, min(start + _ROWS_AT_ONCE, len(codes)))
        found = codes[some].astype(np.float32) @ wide
        found *= unit
        nearest[some] = found.argmax(axis=1)
        scores[some] = np.take_along_axis(found, nearest[some, None], 1)[:, 0]
    return nearest, scores


def order_of(nearest: Int64, count: int) -> tuple[Int64, Int64]:
    """Rows [N] list after list, ascending in each, and where each list begins, and the end."""
    order = np.argsort(nearest, kind="stable")
    return order, np.searchsorted(nearest[order], np.arange(count + 1))


def _means(codes: Int8, units: Float32, nearest: Int64, scores: Float32, count: int) -> Float32:
    """The directions of the rows of each list; one that is empty takes a row that is served ill."""
    order, starts = order_of(nearest, count)
    is_filled = np.diff(starts) > 0
    sums: Int64 = np.zeros((count, codes.shape[1]), np.int64)
    for first in range(0, codes.shape[1], 64):  # int64 sums of all dims at once are 400 MB
        some = codes[order, first : first + 64]
        sums[is_filled, first : first + 64] = np.add.reduceat(
            some, starts[:-1][is_filled], axis=0, dtype=np.int64
        )
    worst = np.argsort(scores, kind="stable")[: count - np.count_nonzero(is_filled)]
    sums[~is_filled] = codes[worst]
    return _unit(np.asarray(sums * units.astype(np.float64), np.float64))


def _unit(rows: Float32 | Float64) -> Float32:
    """Unit rows; a row of zeros stays one. Added in float64 in one order."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    return np.asarray(rows / np.maximum(norms, 1e-30)[:, None], np.float32)
