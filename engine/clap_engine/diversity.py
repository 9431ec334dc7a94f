"""Fewer of the same among hits: near-duplicates folded together, or variety preferred.

In:  candidates, best first: their scores [C] and unit vectors [C, D].
Out: which of them to show, in which order.
Knows nothing about keys, collections or queries. Equal input gives equal output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32


@dataclass(frozen=True)
class Group:
    """A candidate that is kept, and those that were folded into it, best first."""

    kept: int
    folded: tuple[int, ...]


def collapse(vectors: Float32, threshold: float) -> list[Group]:
    """[C, D] -> groups, best first: no two kept candidates are more alike than `threshold`.

    In order, each candidate joins the best one kept whose cosine to it is above the threshold,
    or is kept itself.
    """
    kept: list[int] = []
    folded: list[list[int]] = []
    rows = np.empty_like(vectors)  # those of the kept ones, side by side
    for i, vector in enumerate(vectors):
        alike = np.flatnonzero(rows[: len(kept)] @ vector > threshold)
        if len(alike):
            folded[int(alike[0])].append(i)
        else:
            rows[len(kept)] = vector
            kept.append(i)
            folded.append([])
    return [Group(one, tuple(others)) for one, others in zip(kept, folded, strict=True)]


def diversify(scores: Float32, vectors: Float32, count: int, diversity: float) -> list[int]:
    """Maximal marginal relevance: up to `count` candidates in the order in which it picks them.

    The first is the best. Each next one has the highest (1 - diversity) * relevance - diversity
    * its highest cosine to one picked before; relevance is the score, scaled so that the
    candidates span 0 to 1, because scores of words lie lower and closer than those of sounds.
    """
    spread = float(scores.max() - scores.min()) if len(scores) else 0.0
    relevance = (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)
    closest = np.zeros(len(scores), np.float32)
    is_free = np.ones(len(scores), np.bool_)
    picked: list[int] = []
    while len(picked) < min(count, len(scores)):
        gain = (1 - diversity) * relevance - diversity * closest
        best = int(np.argmax(np.where(is_free, gain, -np.inf)))  # the earliest of equals
        picked.append(best)
        is_free[best] = False
        similar = vectors @ vectors[best]
        closest = similar if len(picked) == 1 else np.maximum(closest, similar)
    return picked
