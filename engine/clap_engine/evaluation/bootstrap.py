"""How far a figure may be off because just these clips were drawn.

In:  for each figure the sum of a quantity over each clip's queries, and their number.
Out: `Estimate`s: the figure, and the interval that covers the truth in 95 of 100 such sets.
Knows nothing about what the figures mean.

Percentile bootstrap (Efron and Tibshirani, 1993, chapter 13): clips are drawn anew with return,
all captions of a clip together, since they stand or fall with it; the interval reaches from the
2.5th to the 97.5th percentile of the figure over the draws. The candidates stay all those of the
set, so it tells nothing about larger sets. A seed gives the same draws for each figure, rung and
precision. A figure that is 0 or 1 for every clip has an interval of no width, which says only
that the set is too small to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float64

RESAMPLES = 1_000
LEVEL = 0.95
# Draws are made so many clips at a time: 16 MB of counts.
BLOCK = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure of so many `clips`, with its interval: None with fewer than two."""

    value: float
    low: float | None
    high: float | None
    clips: int


def estimates(
    sums: Mapping[str, tuple[Float64, Float64]], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """{figure: (sums [N], counts [N])} -> {figure: Estimate}; a figure that nothing counts for
    is left out."""
    asked = {name: pair for name, pair in sums.items() if pair[1].sum() > 0}
    if not asked:
        return {}
    values = np.stack([pair[0] for pair in asked.values()], axis=1)
    counts = np.stack([pair[1] for pair in asked.values()], axis=1)
    means = values.sum(axis=0) / counts.sum(axis=0)
    low, high = intervals(values, counts, seed=seed, resamples=resamples)
    found = {}
    for i, name in enumerate(asked):
        clips = int((counts[:, i] > 0).sum())
        is_known = clips > 1
        found[name] = Estimate(
            value=float(means[i]),
            low=float(low[i]) if is_known else None,
            high=float(high[i]) if is_known else None,
            clips=clips,
        )
    return found


def intervals(
    values: Float64, counts: Float64, *, seed: int, resamples: int = RESAMPLES
) -> tuple[Float64, Float64]:
    """[N, M], [N, M] -> ends [M], [M] of the intervals of the quotients of their columns' sums."""
    n, m = values.shape
    both = np.concatenate([values, counts], axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, m))
    step = max(1, BLOCK // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        times = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(size)])
        totals = times.astype(np.float64) @ both
        # A draw may hold no clip that a figure is asked of.
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[start : start + size] = totals[:, :m] / totals[:, m:]
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    return np.asarray(low, np.float64), np.asarray(high, np.float64)
