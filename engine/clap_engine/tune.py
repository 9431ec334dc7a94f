"""Measures which plan finds what exact search finds, soonest; on the collection's own vectors.

In:  a state of a collection; probes; a target recall, perhaps a time that a search may take.
Out: the plans that were tried, with recall@k in clips and milliseconds, and the one chosen.
Knows nothing about where plans are stored, nor how queries become vectors.

Exact answers and their ranks on each rung say how long a shortlist must be; then the plans that
follow from them run for real, as a search runs them. Queries, recalls and lengths depend on the
state and the seed alone. The choice also depends on the clock: plans within a tenth of the
fastest count as equal, and the smallest index of them is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from clap_engine import planner
from clap_engine.arrays import Int64
from clap_engine.clock import Clock
from clap_engine.errors import CollectionError
from clap_engine.index import coarse, truth
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.index.truth import Truth
from clap_engine.index.view import View
from clap_engine.planner import Plan
from clap_engine.probes import Probes
from clap_engine.records import Tuning
from clap_engine.rungs import Scope, gather

Progress = Callable[[float, str], None]

COARSE_DIMS = (32, 64, 128, 256)
MIDDLE_DIM = 128
# Shorter shortlists are scored exactly in less time than a middle rung takes to thin them out.
MIDDLE_FROM = 4000
# The coarse shortlist before a middle rung, as a multiple of the one without it.
_MIDDLE_FACTOR = 1.25
# Prefixes of another dim than the index's are made for the measurement: 1M rows of 128 dims.
_MATRIX_BYTES = 1 << 29
# Above this many rows, fewer queries run for real; exact answers are known for all of them.
_MANY_ROWS = 50_000
_RUNS_AT_MANY = 300
# An exact scan of a million rows takes a second; its recall is known.
_EXACT_RUNS = 12
_WARM_RUNS = 3
# What a graph misses is made up for by a longer shortlist, this many times.
_STEPS, _STEP = 3, 1.3
# A graph over this many rows is built and timed before one over all of them is.
_TRIAL_ROWS = 2000
# Latencies differ by this share from one run to the next.
_EQUAL = 1.1


@dataclass(frozen=True)
class Trial:
    """One plan and what was measured of it; medians and p99 of milliseconds, without embedding.

    `recall` is that of the worst kind of query. Where it was not measured, `skipped` says why.
    """

    plan: Plan
    recall: float | None = None
    latency_ms: float | None = None
    p99_ms: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class TuneReport:
    """What was tried and what was chosen; `is_met` says whether target and budget are."""

    tuning: Tuning
    trials: tuple[Trial, ...]
    is_met: bool
    elapsed_s: float


def tune(
    view: View,
    probes: Probes,
    *,
    target: float,
    budget_ms: float | None,
    k: int,
    seed: int,
    ladder: Sequence[int],
    default: Plan,
    graph_s: float,
    progress: Progress,
) -> TuneReport:
    """Try what may serve this state; `default` is the plan without tuning, `ladder` ends in D."""
    start = time.perf_counter()
    tuner = _Tuner(view, probes, k, target, budget_ms, graph_s, ladder, progress)
    trials = [*tuner.trials(default)]
    chosen, is_met = choose(trials, target, budget_ms)
    plan = chosen.plan
    return TuneReport(
        Tuning(
            plan.index,
            plan.dims[0] if plan.index != "exact" else PREFIX_DIM,
            plan.shortlist,
            plan.dims[1] if plan.kept else 0,
            plan.kept,
            plan.rows,
            k,
            float(target),
            float(chosen.recall or 0.0),
            float(chosen.latency_ms or 0.0),
            len(probes),
            ", ".join(dict.fromkeys(probes.kinds)),
            seed,
            time.time(),
        ),
        tuple(trials),
        is_met,
        time.perf_counter() - start,
    )


def checked(target: object, budget_ms: object) -> None:
    """CollectionError unless the target is a share and the budget a time."""
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise CollectionError(f"target is {target!r}; give a recall above 0 and up to 1")
    if budget_ms is not None and (
        isinstance(budget_ms, bool) or not isinstance(budget_ms, (int, float)) or not budget_ms > 0
    ):
        raise CollectionError(f"budget_ms is {budget_ms!r}; give milliseconds above 0, or None")


def choose(trials: Sequence[Trial], target: float, budget_ms: float | None) -> tuple[Trial, bool]:
    """The fastest that meets the target within the budget, and True.

    Where none does: the highest recall within the budget, or, where nothing is fast enough, the
    fastest that meets the target; and False.
    """
    known = [trial for trial in trials if trial.latency_ms is not None and not trial.skipped]
    good = [trial for trial in known if _recall(trial) >= target]
    quick = [trial for trial in known if budget_ms is None or _ms(trial) <= budget_ms]
    if both := [trial for trial in good if trial in quick]:
        return _fastest(both), True
    if quick:
        most = max(_recall(trial) for trial in quick)
        return _fastest([trial for trial in quick if _recall(trial) == most]), False
    return _fastest(good or known), False


def _recall(trial: Trial) -> float:
    return -1.0 if trial.recall is None else trial.recall


def _ms(trial: Trial) -> float:
    return np.inf if trial.latency_ms is None else trial.latency_ms


def _fastest(trials: Sequence[Trial]) -> Trial:
    least = min(_ms(trial) for trial in trials)
    equal = [trial for trial in trials if _ms(trial) <= _EQUAL * least]
    sizes = {"exact": 0, "flat": 1, "hnsw": 2}
    return min(equal, key=lambda trial: (sizes[trial.plan.index], trial.plan.dims, _ms(trial)))


class _Tuner:
    """One tuning: the exact answers, and the trials that follow from them."""

    def __init__(
        self,
        view: View,
        probes: Probes,
        k: int,
        target: float,
        budget_ms: float | None,
        graph_s: float,
        ladder: Sequence[int],
        progress: Progress,
    ) -> None:
        self._view, self._probes, self._k, self._target = view, probes, k, target
        self._budget_ms, self._graph_s, self._progress = budget_ms, graph_s, progress
        self._dim = ladder[-1]
        self._dims = [dim for dim in COARSE_DIMS if dim in ladder and dim < self._dim]
        self._has_middle = MIDDLE_DIM in self._dims and self._dim % MIDDLE_DIM == 0
        self._counts: planner.Counts = "clips" if view.by_clip else "windows"
        self._kinds = np.array(probes.kinds)
        runs = len(probes) if view.rows <= _MANY_ROWS else min(_RUNS_AT_MANY, len(probes))
        self._runs = np.unique(np.linspace(0, len(probes) - 1, runs).astype(np.int64))
        self._truth: Truth
        self._ranks: dict[int, Int64]  # by each dim, in what the shortlist counts
        self._middle_ranks: Int64  # in windows

    def trials(self, default: Plan) -> Iterator[Trial]:
        """Each plan that may be worth it, measured; the last are the exact scan and the default."""
        progress, view, queries = self._progress, self._view, self._probes.vectors
        progress(0.0, "exact answers")
        self._truth = truth.nearest(view, queries, self._probes.own, self._k)
        progress(0.2, "their ranks")
        facts = (view, queries, self._probes.own, self._truth)
        found = (truth.clip_ranks if view.by_clip else truth.ranks)(*facts, self._dims)
        self._ranks = dict(zip(self._dims, found, strict=True))
        if self._has_middle:
            middle = self._ranks[MIDDLE_DIM]
            self._middle_ranks = truth.ranks(*facts, [MIDDLE_DIM])[0] if view.by_clip else middle
        for number, dim in enumerate(self._dims):
            progress(0.4 + 0.5 * number / len(self._dims), f"{dim} dims")
            yield from self._at(dim)
        progress(0.9, "exact scan")
        yield self._measured(view, planner.exact(view.columns, self._dim, counts=self._counts))
        if default.index != "exact":
            yield self._measured(view, default)
        progress(1.0, "done")

    def _at(self, dim: int) -> Iterator[Trial]:
        """The trials of one coarse dim."""
        rows = self._view.columns
        count = self._length(dim)
        flat = Plan("flat", rows, count, (dim, self._dim), counts=self._counts)
        if 2 * count >= rows:
            yield Trial(flat, skipped="so long a shortlist gains nothing on scoring all rows")
            return
        size = 4 * dim * (self._view.base.columns + self._view.tail.columns)
        if dim != self._view.prefix_dim and size > _MATRIX_BYTES:
            yield Trial(flat, skipped=f"its prefixes take {size >> 20} MiB of memory to measure")
            return
        view = self._view if dim == self._view.prefix_dim else _with_dim(self._view, dim)
        plans = [flat]
        windows = count * self._view.rows // max(1, rows)
        # Where clips are shortlisted, their windows are thinned out by what the means are not.
        is_wider = dim < MIDDLE_DIM or self._view.by_clip
        if windows >= MIDDLE_FROM and self._has_middle and is_wider:
            plans += self._with_middle(flat, windows)
        yield from self._tried(view, plans)
        if not planner.is_hnsw_faster(rows, count):
            return
        graphs = [replace(plan, index="hnsw") for plan in plans]
        view, why = self._with_graph(view)
        if why:
            yield Trial(graphs[0], skipped=why)
        else:
            yield from self._tried(view, graphs)

    def _tried(self, view: View, plans: Sequence[Plan]) -> Iterator[Trial]:
        """Each plan, longer where it misses the target, then shorter to fit the budget."""
        for plan in plans:
            trial = self._measured(view, plan)
            for _ in range(_STEPS):
                if _recall(trial) >= self._target:
                    break
                plan = _scaled(plan, _STEP)
                trial = self._measured(view, plan)
            yield trial
            while self._budget_ms is not None and _ms(trial) > self._budget_ms:
                plan = _scaled(plan, 0.5)
                if plan.shortlist < 2 * self._k:
                    break
                trial = self._measured(view, plan)
                yield trial

    def _length(self, dim: int) -> int:
        """The shortest shortlist whose recall on each kind is a standard error above the target."""
        found = self._ranks[dim]
        counts = np.unique(found)
        low, high = 0, len(counts) - 1
        while low < high:  # the error may rise with recall, by less than recall does
            middle = (low + high) // 2
            if self._is_enough(found <= counts[middle]):
                high = middle
            else:
                low = middle + 1
        return max(int(counts[low]), self._k)

    def _is_enough(self, held: npt.NDArray[np.bool_]) -> bool:
        """Whether true windows that are held [M, k] reach the target on each kind."""
        is_there = self._truth.positions >= 0
        missed = (is_there & ~held).sum(axis=1)
        shares = 1 - missed / np.maximum(is_there.sum(axis=1), 1)
        for kind in np.unique(self._kinds):
            some = shares[self._kinds == kind]
            if some.mean() - some.std() / np.sqrt(len(some)) < self._target:
                return False
        return True

    def _with_middle(self, plan: Plan, windows: int) -> list[Plan]:
        """The same with the shortest middle rung that is enough, if that is any shorter.

        `windows` are those that the shortlist of the plan leads to.
        """
        dim = plan.dims[0]
        first = min(int(_MIDDLE_FACTOR * plan.shortlist), plan.rows)
        near, middle = self._ranks[dim] <= first, self._middle_ranks
        for kept in np.unique(middle):
            if kept >= windows // 2:
                break
            if kept >= self._k and self._is_enough(near & (middle <= kept)):
                dims = (dim, MIDDLE_DIM, self._dim)
                return [replace(plan, shortlist=first, dims=dims, kept=int(kept))]
        return []

    def _with_graph(self, view: View) -> tuple[View, str]:
        """The view with a graph over its prefixes, or why it has none."""
        if view.coarse is not None:
            return view, ""
        if not coarse.is_available():
            return view, "hnswlib is not installed"
        prefixes, rows = view.base.prefixes, view.base.columns
        if rows < _TRIAL_ROWS:
            return view, "the rows are not in a generation yet"
        start = time.thread_time()
        coarse.CoarseIndex.build(np.ascontiguousarray(prefixes[:, :_TRIAL_ROWS].T))
        trial_s = time.thread_time() - start
        # 64 dims: .093 ms a row for 2,000 of them, .14 for 10,000, .23 for 40,000 (one thread).
        cost_s = trial_s * (rows / _TRIAL_ROWS) ** (4 / 3)
        if cost_s > self._graph_s:
            return view, f"its graph takes some {cost_s:.0f} s to build; graph_s allows it"
        self._graph_s -= cost_s
        index = coarse.CoarseIndex.build(np.ascontiguousarray(prefixes.T))
        return replace(view, coarse=index), ""

    def _measured(self, view: View, plan: Plan) -> Trial:
        """Run the plan for the queries, one after the other, as a search does."""
        scope, vectors_, own = Scope(view, None), self._probes.vectors, self._probes.own
        runs = self._runs
        if plan.index == "exact":
            runs = runs[:: max(1, len(runs) // _EXACT_RUNS)]
        for at in runs[:_WARM_RUNS]:
            gather(scope, vectors_[at], plan, self._k, Clock())
        shares, times = [], []
        for at in runs:
            start = time.thread_time()  # not what others take of the cores meanwhile
            _, best = gather(scope, vectors_[at], plan, self._k + int(own[at] >= 0), Clock())
            times.append((time.thread_time() - start) * 1e3)
            known = self._truth.scores[at]
            known = known[known > -np.inf]
            if len(known):
                scores = np.sort(best.scores[best.clips != own[at]])[::-1][: self._k]
                right = np.count_nonzero(scores >= known[-1] - truth.TOLERANCE)
                shares.append(min(right, len(known)) / len(known))
            else:
                shares.append(1.0)
        found, kinds = np.array(shares), self._kinds[runs]
        recall = min(float(found[kinds == kind].mean()) for kind in np.unique(kinds))
        return Trial(plan, recall, float(np.median(times)), float(np.percentile(times, 99)))


def _scaled(plan: Plan, factor: float) -> Plan:
    count = min(int(np.ceil(plan.shortlist * factor)), plan.rows)
    return replace(plan, shortlist=count, kept=int(np.ceil(plan.kept * factor)))


def _with_dim(view: View, dim: int) -> View:
    """The same rows with prefixes of another dim, and without a graph."""
    base, tail = view.base.with_dim(dim), view.tail.with_dim(dim)
    return replace(view, base=base, tail=tail, coarse=None)


def is_short_of(view: View, tuning: Tuning) -> bool:
    """Whether the index lacks what the plan needs."""
    if tuning.index == "exact":
        return False
    has_graph = view.coarse is not None or not coarse.is_available()
    return view.prefix_dim != tuning.coarse_dim or (tuning.index == "hnsw" and not has_graph)
