"""What a search should have found: exact answers to many queries, and how deep each lies.

In:  a view; unit queries float32 [M, D]; for each, the clip that is no answer to it [M].
Out: the windows of the true best clips [M, k], their scores, and their ranks on shorter prefixes.
Knows nothing about plans, texts or where queries come from.

All rows are read in blocks, so memory grows with the queries and not with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.index import columns, vectors
from clap_engine.index.allowed import positions_of
from clap_engine.index.generation import Block
from clap_engine.index.view import View

# Rows widened at a time: 8 MB of float32 at 512 dims, and as many scores of 500 queries.
_ROWS_AT_ONCE = 4096
# Clips whose windows are gathered at a time: 8 MB of float16 for 30 windows of 256 dims each.
_CLIPS_AT_ONCE = 512
# Scores of the same rows differ in their last bits from one product to another.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Truth:
    """For each query its best clips, best first: windows and scores; -1 and -inf beyond the last.

    A clip's window is its best one, by its position in the view.
    """

    positions: Int64  # [M, k]
    scores: Float32  # [M, k]


@dataclass(frozen=True)
class _Piece:
    """Whole clips that stand together in a block of the view."""

    block: Block
    start: int
    stop: int
    before: int  # rows of the view before the block
    dead: Int64  # positions in the piece of rows that were removed


def nearest(view: View, queries: Float32, own: Int64, k: int) -> Truth:
    """The k best clips for each query by exact scores, its own left out."""
    count = len(queries)
    scores = np.full((count, 0), -np.inf, np.float32)
    starts = np.full((count, 0), -1, np.int64)
    for piece in _pieces(view):
        found = queries @ vectors.widen(piece.block.vectors[piece.start : piece.stop]).T
        _hide(found, piece, own)
        clips = piece.block.clips[piece.start : piece.stop]
        firsts = np.concatenate([[0], np.flatnonzero(clips[1:] != clips[:-1]) + 1])
        best = found if len(firsts) == len(clips) else np.maximum.reduceat(found, firsts, axis=1)
        chosen = _top(best, k)
        scores = np.concatenate([scores, np.take_along_axis(best, chosen, 1)], axis=1)
        starts = np.concatenate([starts, firsts[chosen] + piece.start + piece.before], axis=1)
        chosen = _top(scores, k)
        scores = np.take_along_axis(scores, chosen, 1)
        starts = np.take_along_axis(starts, chosen, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, 1)
    starts = np.take_along_axis(starts, order, 1)
    positions = np.full(starts.shape, -1, np.int64)
    for query, place in zip(*np.nonzero(scores > -np.inf), strict=True):
        positions[query, place] = _best_window(view, int(starts[query, place]), queries[query])
    return Truth(positions, scores)


def ranks(view: View, queries: Float32, own: Int64, truth: Truth, dims: Sequence[int]) -> Int64:
    """[len(dims), M, k]: how long a shortlist by these dims must be to hold each true window.

    Rows whose prefix scores tie with the window's count against it; beyond the last: 0.
    """
    prefixes = [l2_normalize(queries[:, :dim]) for dim in dims]
    is_there = truth.positions >= 0
    rows = vectors.pack(view.vectors_at(np.maximum(truth.positions, 0).ravel()))
    shape = (*truth.positions.shape, -1)
    bars = [
        np.einsum("md,mkd->mk", prefix, vectors.prefixes(rows, dim).T.reshape(shape)) - TOLERANCE
        for dim, prefix in zip(dims, prefixes, strict=True)
    ]
    found = np.zeros((len(dims), *truth.positions.shape), np.int64)
    for piece in _pieces(view):
        packed = piece.block.vectors[piece.start : piece.stop, : max(dims)]
        wide = vectors.widen(packed)
        for at, (dim, prefix) in enumerate(zip(dims, prefixes, strict=True)):
            scores = prefix @ l2_normalize(wide[:, :dim]).T
            _hide(scores, piece, own)
            for place in range(truth.positions.shape[1]):
                above = scores >= bars[at][:, place, None]
                found[at, :, place] += np.count_nonzero(above, axis=1)
    return np.where(is_there, np.maximum(found, 1), 0)


def clip_ranks(
    view: View, queries: Float32, own: Int64, truth: Truth, dims: Sequence[int]
) -> Int64:
    """[len(dims), M, k]: how long a shortlist of clips, by these dims of their means, must be.

    As `ranks`, but each true window counts as found once its clip is in the shortlist.
    """
    prefixes = [l2_normalize(queries[:, :dim]) for dim in dims]
    clips, places = np.unique(_clips_at(view, truth.positions), return_inverse=True)
    means = np.zeros((len(clips), max(dims)), np.float32)
    for block in (view.base, view.tail):
        inside = np.flatnonzero(np.isin(clips, block.clips))
        for start in range(0, len(inside), _CLIPS_AT_ONCE):
            some = inside[start : start + _CLIPS_AT_ONCE]
            windows = positions_of(block, clips[some])
            starts = columns.starts_of(block.clips[windows])
            means[some] = columns.means(block.vectors[windows], starts, max(dims))
    true = means[places].reshape(*truth.positions.shape, -1)
    bars = [
        np.einsum("md,mkd->mk", prefix, l2_normalize(true[..., :dim])) - TOLERANCE
        for dim, prefix in zip(dims, prefixes, strict=True)
    ]
    found = np.zeros((len(dims), *truth.positions.shape), np.int64)
    for piece in _pieces(view):
        owners = piece.block.clips[piece.start : piece.stop]
        starts = columns.starts_of(owners)
        rows = piece.block.vectors[piece.start : piece.stop]
        wide = columns.means(rows, starts, max(dims))
        numbers = owners[starts[:-1]]
        is_gone = np.isin(numbers, owners[piece.dead])
        hidden = (numbers == own[:, None]) | is_gone
        for at, (dim, prefix) in enumerate(zip(dims, prefixes, strict=True)):
            scores = prefix @ l2_normalize(wide[:, :dim]).T
            scores[hidden] = -np.inf
            for place in range(truth.positions.shape[1]):
                above = scores >= bars[at][:, place, None]
                found[at, :, place] += np.count_nonzero(above, axis=1)
    return np.where(truth.positions >= 0, np.maximum(found, 1), 0)


def _clips_at(view: View, positions: Int64) -> Int64:
    """The clip of each position; that of the first row where the position is -1."""
    everything = np.maximum(positions, 0)
    split = len(view.base)
    found = np.empty(positions.shape, np.int64)
    is_tail = everything >= split
    found[~is_tail] = view.base.clips[everything[~is_tail]]
    found[is_tail] = view.tail.clips[everything[is_tail] - split]
    return found


def _pieces(view: View) -> Iterator[_Piece]:
    for block, before, dead in (
        (view.base, 0, view.base_dead), (view.tail, len(view.base), view.tail_dead),
    ):  # fmt: skip
        start = 0
        while start < len(block):
            stop = min(start + _ROWS_AT_ONCE, len(block))
            # To the end of its last clip, however long that is.
            stop = int(np.searchsorted(block.clips, block.clips[stop - 1], side="right"))
            inside = dead[(dead >= start) & (dead < stop)] - start
            yield _Piece(block, start, stop, before, inside)
            start = stop


def _hide(scores: Float32, piece: _Piece, own: Int64) -> None:
    """Mark removed rows, and the clips that are no answer, as infinitely far."""
    scores[:, piece.dead] = -np.inf
    clips = piece.block.clips[piece.start : piece.stop]
    firsts = np.searchsorted(clips, own, side="left")
    ends = np.searchsorted(clips, own, side="right")
    for query in np.flatnonzero(firsts < ends):
        scores[query, firsts[query] : ends[query]] = -np.inf


def _top(scores: Float32, k: int) -> Int64:
    """Columns [M, min(k, C)] of the highest scores of each row, in any order."""
    if scores.shape[1] <= k:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _best_window(view: View, start: int, query: Float32) -> int:
    """The position of the best window of the clip whose first window stands at `start`."""
    in_tail = start >= len(view.base)
    block, before = (view.tail, len(view.base)) if in_tail else (view.base, 0)
    stop = int(np.searchsorted(block.clips, block.clips[start - before], side="right"))
    scores = vectors.exact_scores(block.vectors, np.arange(start - before, stop), query)
    return start + int(scores.argmax())
