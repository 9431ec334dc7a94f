"""Flat scan over unit prefixes: every row is looked at, so nothing on this rung is missed.

In:  prefixes float32 [d, N] with unit columns; a query prefix float32 [d].
Out: scores [N], and the positions of the best of them.
Knows nothing about files, removals or exact scores.
"""

from __future__ import annotations

import numpy as np

from clap_engine.arrays import Float32, Int64

# One score in so many is sampled, where the sample is so many times longer than what is wanted.
_SAMPLED = 16
_FEWEST = 8


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
    candidates = _above_a_bar(scores, count)
    values = scores if candidates is None else scores[candidates]
    # partition + compare is 10 to 20 % faster than argpartition, and keeps ties together.
    last = np.partition(values, len(values) - count)[len(values) - count]
    chosen = np.flatnonzero(values >= max(last, np.finfo(np.float32).min))
    return chosen if candidates is None else candidates[chosen]


def _above_a_bar(scores: Float32, count: int) -> Int64 | None:
    """Positions of few scores that hold the `count` highest and all ties, or None for all.

    What half as many again of a sample of 1 in 16 lie above is low enough to let `count` of all
    pass, nearly always; where it isn't, nothing is lost. At a million rows looking for the best
    takes 1 ms so, and 3 to 12 where all are partitioned (numpy 2, 1.26).
    """
    sample = scores[::_SAMPLED]
    wanted = int(1.5 * count / _SAMPLED) + 8
    if _FEWEST * wanted > len(sample):
        return None
    bar = np.partition(sample, len(sample) - wanted)[len(sample) - wanted]
    candidates = np.flatnonzero(scores >= bar)
    return candidates if len(candidates) >= count else None
