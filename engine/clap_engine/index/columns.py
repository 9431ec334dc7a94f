"""Columns of the coarse rung: each row its own, or one for all the windows of a clip, their mean.

In:  stored vectors float16 [N, D] in clip order; the clip of each row.
Out: where each column's rows begin, int64 [C + 1]; unit means float32 [C, d]; rows of columns.
Knows nothing about files, queries or approximate search.

A mean depends on the clip's own rows alone, bit for bit: a generation, a tail and a rebuild
from the source of truth make the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from clap_engine.arrays import Float16, Float32, Int64, l2_normalize
from clap_engine.index import vectors
from clap_engine.records import Rows

# Rows widened at a time: 16 MB of float32 at 512 dims.
_ROWS_AT_ONCE = 8192


def starts_of(clips: Int64) -> Int64:
    """The clip of each row [N], never falling -> where each clip's rows begin, and the end."""
    changes = np.flatnonzero(clips[1:] != clips[:-1]) + 1
    return np.concatenate([[0], changes, [len(clips)]]) if len(clips) else np.zeros(1, np.int64)


def runs(starts: Int64, lengths: Int64) -> Int64:
    """Each start, and what follows it for its length, one run after the other."""
    before = np.cumsum(lengths) - lengths
    firsts = np.repeat(starts - before, lengths)
    return np.asarray(firsts + np.arange(len(firsts)), np.int64)


def means(packed: Float16, starts: Int64, dim: int) -> Float32:
    """[N, D] -> [C, dim]: the normalised mean of each column's rows, cut to the first dims.

    A rung is a prefix of the mean, so the sum of the rows' first dims gives its direction.
    """
    found = np.empty((len(starts) - 1, dim), np.float32)
    first = 0
    while first < len(found):
        last = int(np.searchsorted(starts, starts[first] + _ROWS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), len(found))
        wide = vectors.widen(packed[starts[first] : starts[last], :dim])
        np.add.reduceat(wide, starts[first:last] - starts[first], axis=0, out=found[first:last])
        first = last
    return l2_normalize(found)


def clip_mean(packed: Float16) -> Float16:
    """[W, D] -> [1, D], what a clip is where only clips are stored; one window stays as it is."""
    if len(packed) == 1:
        return packed
    return vectors.pack(means(packed, np.array([0, len(packed)]), packed.shape[1]))


def whole_clips(batches: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in batches of which none ends within a clip; holds one clip back at a time."""
    held: list[Rows] = []
    for batch in batches:
        if not len(batch.rows):
            continue
        cut = int(np.searchsorted(batch.clips, batch.clips[-1], side="left"))
        if held and (cut or batch.clips[0] != held[-1].clips[0]):
            yield _joined([*held, _part(batch, slice(cut))])
            held = []
        elif cut:
            yield _part(batch, slice(cut))
        held.append(_part(batch, slice(cut, None)))
    if held:
        yield _joined(held)


def _part(batch: Rows, some: slice) -> Rows:
    return Rows(batch.rows[some], batch.clips[some], batch.spans[some], batch.vectors[some])


def _joined(parts: list[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.clips for part in parts]),
        np.concatenate([part.spans for part in parts]),
        np.concatenate([part.vectors for part in parts]),
    )
