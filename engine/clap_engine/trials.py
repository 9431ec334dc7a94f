"""Trials of plans: what was measured of each, what may be promised of it, and which one to keep.

In:  plans with the recall and the milliseconds of sampled queries; a target, perhaps a time.
Out: the recall that other queries will reach; the trial whose plan is kept.
Knows nothing about collections, indexes or how a plan is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clap_engine.errors import CollectionError
from clap_engine.planner import Plan

# Of 1,000 captions 300 were drawn to tune lists by, 400 times for each of .95 to .99. In 93 to 98
# of 100 draws the chosen plan found of all captions what it promised; with 2 errors in 92 to 98.
_ERRORS = 2.5
# Latencies differ by this share from one run to the next.
EQUAL = 1.1


@dataclass(frozen=True)
class Trial:
    """One plan and what was measured of it; medians and p99 of milliseconds, without embedding.

    `recall` is what can be promised for the worst kind of query, see `promise`. Where it was not
    measured, `skipped` says why.
    """

    plan: Plan
    recall: float | None = None
    latency_ms: float | None = None
    p99_ms: float | None = None
    skipped: str = ""


def checked(target: object, budget_ms: object, memory_bytes: object = None) -> None:
    """CollectionError unless the target is a share, the budget a time, the memory a size."""
    if memory_bytes is not None and (
        isinstance(memory_bytes, bool) or not isinstance(memory_bytes, int) or memory_bytes < 1
    ):
        raise CollectionError(f"memory_bytes is {memory_bytes!r}; give bytes from 1 on, or None")
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise CollectionError(f"target is {target!r}; give a recall above 0 and up to 1")
    if budget_ms is not None and (
        isinstance(budget_ms, bool) or not isinstance(budget_ms, (int, float)) or not budget_ms > 0
    ):
        raise CollectionError(f"budget_ms is {budget_ms!r}; give milliseconds above 0, or None")


def promise(shares: npt.NDArray[np.float64], k: int) -> float:
    """The recall that other queries will reach, from the shares [M] that these found of their k.

    So many standard errors below the mean, and never above it; half a miss of one more query stands
    for what a sample without a miss has not met.
    """
    seen = np.append(shares, 1 - 0.5 / k)
    low = seen.mean() - _ERRORS * seen.std() / np.sqrt(len(seen))
    return float(min(max(low, 0.0), shares.mean()))


def choose(trials: Sequence[Trial], target: float, budget_ms: float | None) -> tuple[Trial, bool]:
    """The fastest that meets the target within the budget, and True.

    Where none does: the highest recall within the budget, or, where nothing is fast enough, the
    fastest that meets the target; and False.
    """
    known = [trial for trial in trials if trial.latency_ms is not None and not trial.skipped]
    good = [trial for trial in known if recall_of(trial) >= target]
    quick = [trial for trial in known if budget_ms is None or ms_of(trial) <= budget_ms]
    if both := [trial for trial in good if trial in quick]:
        return _fastest(both), True
    if quick:
        most = max(recall_of(trial) for trial in quick)
        return _fastest([trial for trial in quick if recall_of(trial) == most]), False
    return _fastest(good or known), False


def recall_of(trial: Trial) -> float:
    """What it promises; -1 where it was not measured."""
    return -1.0 if trial.recall is None else trial.recall


def ms_of(trial: Trial) -> float:
    """Its median; infinite where it was not measured."""
    return np.inf if trial.latency_ms is None else trial.latency_ms


def _fastest(trials: Sequence[Trial]) -> Trial:
    least = min(ms_of(trial) for trial in trials)
    equal = [trial for trial in trials if ms_of(trial) <= EQUAL * least]
    sizes = {"exact": 0, "flat": 1, "ivf": 2, "hnsw": 3}
    return min(equal, key=lambda trial: (sizes[trial.plan.index], trial.plan.dims, ms_of(trial)))
