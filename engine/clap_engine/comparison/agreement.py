"""Where two models say the same: of classes, of captions, of what lies near.

In:  both models' rows of the same clips, at some dims of each.
Out: `Agreement`.
Knows nothing about bundles or intervals. Memory is O(N + block), never [N, N].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clap_engine.arrays import Float32, Int64
from clap_engine.comparison.results import Agreement
from clap_engine.evaluation.embedded import Embedded
from clap_engine.matryoshka import truncate

NEIGHBOURS = 10
BLOCK = 4_000_000


def of_rows(a: Float32, b: Float32) -> Agreement:
    """[N, Da], [N, Db] unit rows of the same clips."""
    return Agreement(neighbours=shared_neighbours(a, b))


def of_sets(a: Embedded, b: Embedded, dims: tuple[int, int], task: str | None) -> Agreement:
    """Both models on the same clips, each at its own number of dims."""
    one, two = (truncate(side.sounds.rows, dim) for side, dim in zip((a, b), dims, strict=True))
    found = Agreement(neighbours=shared_neighbours(one, two)).__dict__.copy()
    if task is not None:
        named = [_named(side, task, dim) for side, dim in zip((a, b), dims, strict=True)]
        asked = [number for number, true in enumerate(a.true[task]) if true]
        right = [
            np.array([name[number] in a.true[task][number] for number in asked]) for name in named
        ]
        if asked:
            found |= {
                "same_class": _share([named[0][n] == named[1][n] for n in asked]),
                "both": _share(right[0] & right[1]),
                "only_a": _share(right[0] & ~right[1]),
                "only_b": _share(~right[0] & right[1]),
                "neither": _share(~right[0] & ~right[1]),
            }
    if len(a.captions):
        firsts = [
            _best(truncate(side.captions, dim), truncate(side.sounds.rows, dim))
            for side, dim in zip((a, b), dims, strict=True)
        ]
        found["same_first"] = _share(firsts[0] == firsts[1])
    return Agreement(**found)


def shared_neighbours(a: Float32, b: Float32, k: int = NEIGHBOURS) -> float:
    """The mean share of the k nearest rows that are the same; 1 where there is only one row."""
    k = min(k, len(a) - 1)
    if k < 1:
        return 1.0
    total = 0
    step = max(1, BLOCK // len(a))
    for start in range(0, len(a), step):
        near = [_nearest(rows, start, step, k) for rows in (a, b)]
        total += int((near[0][:, :, None] == near[1][:, None, :]).sum())
    return total / (k * len(a))


def _nearest(rows: Float32, start: int, step: int, k: int) -> Int64:
    cosines = rows[start : start + step] @ rows.T
    mine = np.arange(len(cosines))
    cosines[mine, start + mine] = -np.inf
    return np.asarray(np.argsort(-cosines, axis=1, kind="stable")[:, :k], np.int64)


def _named(side: Embedded, task: str, dim: int) -> list[str]:
    clips, rows = truncate(side.sounds.rows, dim), truncate(side.classes[task], dim)
    labels = side.labels[task]
    found: list[str] = []
    step = max(1, BLOCK // len(rows))
    for start in range(0, len(clips), step):
        best = labels.best(clips[start : start + step] @ rows.T).argmax(axis=1)
        found += [labels.names[number] for number in best.tolist()]
    return found


def _best(queries: Float32, rows: Float32) -> Int64:
    step = max(1, BLOCK // len(rows))
    parts = [
        (queries[start : start + step] @ rows.T).argmax(axis=1)
        for start in range(0, len(queries), step)
    ]
    return np.concatenate(parts)


def _share(flags: Sequence[bool] | object) -> float:
    return float(np.mean(np.asarray(flags, np.float64)))
