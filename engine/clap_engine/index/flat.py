"""Flat scan over unit prefixes: every row is looked at, so nothing on this rung is missed.

In:  prefixes float32 [d, N] with unit columns; a query prefix float32 [d].
Out: scores [N], and the positions of the best of them.
Knows nothing about files, removals or exact scores.
"""

from __future__ import annotations

import numpy as np

from clap_engine.arrays import Float32, Int64


def scan(prefixes: Float32, query: Float32) -> Float32:
    """[d, N] and [d] -> [N]: stored by column, the product runs at memory speed.

    Many queries [B, d] give [B, N], in one product.
    """
    return np.asarray(query @ prefixes, dtype=np.float32)


def best(scores: Float32, count: int) -> Int64:
    """Positions, ascending, of the `count` highest scores and of all that tie with the last.

    -inf marks a row that is gone; it is never returned.
    """
    if count >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    # partition + compare is 10 to 20 % faster than argpartition, and keeps ties together.
    last = np.partition(scores, len(scores) - count)[len(scores) - count]
    return np.flatnonzero(scores >= max(last, np.finfo(np.float32).min))
