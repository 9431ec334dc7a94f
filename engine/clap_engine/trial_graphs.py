"""Graphs to try: built for a measurement, unless a small one shows that it is not worth it.

In:  a state; dims; how many candidates are asked of the graph; the fastest plan that is known.
Out: the state with the graph, or why it has none; the seconds that were foreseen for it.
Knows nothing about targets, memory or which plan is kept.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.index import coarse, generation
from clap_engine.index.view import View

# A graph over this many rows is built and timed before one over all of them is.
TRIAL_ROWS = 2000
_SEARCHES = 12


def with_graph(
    view: View, dim: int, count: int, queries: Float32, best_ms: float, left_s: float
) -> tuple[View, str, float]:
    """The view with a graph over so many dims, or why not; and what its building was to take.

    `count` candidates will be asked of it, by queries [M, D] like these; a plan of `best_ms` is
    known, and `left_s` are left to build in.
    """
    if not coarse.is_available():
        return view, "hnswlib is not installed", 0.0
    block = view.base
    if block.columns < TRIAL_ROWS:
        return view, "the rows are not in a generation yet", 0.0
    start = time.thread_time()
    parts = generation.prefix_parts(block.vectors, block.starts, dim)
    small = coarse.CoarseIndex.build(np.concatenate([*islice(parts, 1)])[:TRIAL_ROWS])
    trial_s = time.thread_time() - start
    if (ms := _milliseconds(small, queries, count)) > best_ms:
        return view, (
            f"{count} candidates among {small.count} windows take {ms:.2f} ms, and a plan of "
            f"{best_ms:.2f} ms is known"
        ), 0.0  # fmt: skip
    # 64 dims: .093 ms a row for 2,000 of them, .14 for 10,000, .23 for 40,000 (one thread).
    cost_s = trial_s * (block.columns / TRIAL_ROWS) ** (4 / 3)
    if cost_s > left_s:
        return view, f"its graph takes some {cost_s:.0f} s to build; graph_s allows it", 0.0
    parts = generation.prefix_parts(block.vectors, block.starts, dim)
    index = coarse.CoarseIndex.build_from(parts, block.columns, dim)
    return replace(view, coarse=index), "", cost_s


def _milliseconds(small: coarse.CoarseIndex, queries: Float32, count: int) -> float:
    """What so many candidates take in a graph of few rows, at least as long in one of many."""
    times = []
    for query in queries[:_SEARCHES]:
        prefix = l2_normalize(query[: small.dim])
        start = time.thread_time()
        small.search(prefix, count)
        times.append(1e3 * (time.thread_time() - start))
    return float(np.median(times))
