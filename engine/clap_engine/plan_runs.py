"""Runs of plans: each sampled query, as a search runs it, against what exact search finds.

In:  probes with their exact answers; a state; a plan.
Out: a `Trial`; whether shortlists that hold some of the answers are enough for a target.
Knows nothing about which plans are worth a trial, or how they are chosen.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64
from clap_engine.clock import Clock
from clap_engine.index import truth
from clap_engine.index.lists import Lists
from clap_engine.index.truth import Truth
from clap_engine.index.view import View
from clap_engine.planner import Plan
from clap_engine.probes import Probes
from clap_engine.rungs import Best, Scope, gather
from clap_engine.trials import Trial, promise

# Above this many rows, fewer queries run for real; exact answers are known for all of them.
_MANY_ROWS = 50_000
_RUNS_AT_MANY = 300
# An exact scan of a million rows takes a second; its recall is known.
EXACT_RUNS = 12
_WARM_RUNS = 3


class PlanRuns:
    """The probes of one tuning, k clips each, with their exact answers."""

    def __init__(self, probes: Probes, found: Truth, k: int, rows: int) -> None:
        self.truth, self._probes, self._k = found, probes, k
        self._kinds = np.array(probes.kinds)
        runs = len(probes) if rows <= _MANY_ROWS else min(_RUNS_AT_MANY, len(probes))
        self._runs = np.unique(np.linspace(0, len(probes) - 1, runs).astype(np.int64))

    def is_enough(self, held: npt.NDArray[np.bool_], target: float) -> bool:
        """Whether true windows that are held [M, k] reach the target on each kind of query."""
        is_there = self.truth.positions >= 0
        missed = (is_there & ~held).sum(axis=1)
        shares = 1 - missed / np.maximum(is_there.sum(axis=1), 1)
        return all(
            promise(shares[self._kinds == kind], self._k) >= target
            for kind in np.unique(self._kinds)
        )

    def lists_needed(self, view: View, made: Lists) -> Int64:
        """[M, k]: how many lists must be read to meet each true window; 1 where there is none."""
        positions = self.truth.positions
        is_base = (positions >= 0) & (positions < len(view.base))
        owners = made.owners(view.base.columns_at(np.where(is_base, positions, 0)))
        if (listed := view.tail.listed) is not None:
            is_tail = positions >= len(view.base)
            at = view.tail.columns_at(np.where(is_tail, positions - len(view.base), 0))
            owners = np.where(is_tail, listed.owners[at], owners)
        return np.where(positions < 0, 1, made.ranks(self._probes.vectors, owners))

    def measured(self, view: View, plan: Plan) -> Trial:
        """Run the plan for the queries, one after the other, as a search does."""
        scope, vectors, own = Scope(view, None), self._probes.vectors, self._probes.own
        runs = self._runs
        if plan.index == "exact":
            runs = runs[:: max(1, len(runs) // EXACT_RUNS)]
        for at in runs[:_WARM_RUNS]:
            gather(scope, vectors[at], plan, self._k, Clock())
        shares, times = [], []
        for at in runs:
            start = time.thread_time()  # not what others take of the cores meanwhile
            _, best = gather(scope, vectors[at], plan, self._k + int(own[at] >= 0), Clock())
            times.append((time.thread_time() - start) * 1e3)
            shares.append(self._share(best, int(own[at]), self.truth.scores[at]))
        found, kinds = np.array(shares), self._kinds[runs]
        # An exact scan misses nothing but what a sum in another order moves.
        of = np.mean if plan.index == "exact" else lambda some: promise(some, self._k)
        recall = min(float(of(found[kinds == kind])) for kind in np.unique(kinds))
        return Trial(plan, recall, float(np.median(times)), float(np.percentile(times, 99)))

    def _share(self, best: Best, own: int, known: Float32) -> float:
        """The share of the true scores that is among those of other clips than the query's own."""
        known = known[known > -np.inf]
        if not len(known):
            return 1.0
        scores = np.sort(best.scores[best.clips != own])[::-1][: self._k]
        right = np.count_nonzero(scores >= known[-1] - truth.TOLERANCE)
        return min(right, len(known)) / len(known)
