"""Measures which plan finds what exact search finds, soonest; on the collection's own vectors.

In:  a state of a collection; probes; a target recall, perhaps a time that a search may take.
Out: the plans that were tried, with recall@k in clips and milliseconds, and the one chosen.
Knows nothing about where plans are stored, nor how queries become vectors.

Exact answers and their ranks on each rung say how long a shortlist must be; then the plans that
follow from them run for real, as a search runs them. What is promised is not what the sample found
but what other queries will find, nearly always: 2.5 standard errors less. Queries, recalls and
lengths depend on the state and the seed alone. The choice also depends on the clock: plans within
a tenth of the fastest count as equal, and the smallest index of them is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clap_engine import planner, trial_graphs
from clap_engine.arrays import Int64
from clap_engine.index import coarse, footprint, generation, lists, truth
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.index.truth import Truth
from clap_engine.index.view import View
from clap_engine.plan_runs import EXACT_RUNS, PlanRuns
from clap_engine.planner import Plan
from clap_engine.probes import Probes
from clap_engine.records import Tuning
from clap_engine.trials import EQUAL, Trial, choose, ms_of, recall_of

Progress = Callable[[float, str], None]

COARSE_DIMS = (32, 64, 128, 256)
MIDDLE_DIM = 128
# Shorter shortlists are scored exactly in less time than a middle rung takes to thin them out.
MIDDLE_FROM = 4000
# The coarse shortlist before a middle rung, as a multiple of the one without it.
_MIDDLE_FACTOR = 1.25
# Prefixes of another dim than the index's are made for the measurement: 1M rows of 128 dims.
_MATRIX_BYTES = 1 << 29
# What derived files and a graph may keep in memory, unless the caller says so: a million windows
# of 512 dims with a graph over 64 take 1.54 GB. The smallest graph is always allowed.
MEMORY_BYTES = 1_600_000_000
# What a scan's middle rung misses is made up for by a longer shortlist, this many times; what a
# graph misses, by as many as it takes, unless that is slower than what is known.
_STEPS, _STEP = 3, 1.3
_GRAPH_STEPS = 24
# A graph over all dims finds its k best by looking at more.
_DIRECT_FACTOR = 4
# Lists rank by eight bits a dim: what is best by all bits is among so many times more.
_LISTED_FACTOR = 4
# So many of them are read, for the longest as many as half of a million columns fill.
_PROBES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    320,
    384,
    448,
    512,
    640,
    768,
    896,
    1024,
)
# So many rows are scanned by 32 dims in .2 ms, which no graph halves.
_GRAPH_ROWS = 20_000


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
    memory_bytes: int | None = None,
    progress: Progress,
) -> TuneReport:
    """Try what may serve this state; `default` is the plan without tuning, `ladder` ends in D."""
    start = time.perf_counter()
    tuner = _Tuner(view, probes, k, target, budget_ms, graph_s, ladder, progress, memory_bytes)
    trials = [*tuner.trials(default)]
    chosen, is_met = choose(trials, target, budget_ms)
    plan = chosen.plan
    return TuneReport(
        Tuning(
            plan.index,
            plan.dims[0] if plan.index != "exact" else PREFIX_DIM,
            plan.shortlist,
            plan.dims[1] if plan.kept and not plan.is_direct else 0,
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
            plan.scan_dim,
            plan.scan_shortlist,
            plan.probes,
        ),
        tuple(trials),
        is_met,
        time.perf_counter() - start,
    )


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
        memory_bytes: int | None = None,
    ) -> None:
        self._view, self._probes, self._k, self._target = view, probes, k, target
        self._budget_ms, self._graph_s, self._progress = budget_ms, graph_s, progress
        self._dim = ladder[-1]
        self._dims = [dim for dim in COARSE_DIMS if dim in ladder and dim < self._dim]
        self._memory_bytes, self._best_ms = memory_bytes, np.inf
        self._has_middle = MIDDLE_DIM in self._dims and self._dim % MIDDLE_DIM == 0
        self._counts: planner.Counts = "clips" if view.by_clip else "windows"
        self._truth: Truth
        self._runs: PlanRuns
        self._ranks: dict[int, Int64]  # by each dim, in what the shortlist counts
        self._middle_ranks: Int64  # in windows

    def trials(self, default: Plan) -> Iterator[Trial]:
        """Each plan that may be worth it, measured; the last are the exact scan and the default."""
        progress, view, queries = self._progress, self._view, self._probes.vectors
        progress(0.0, "exact answers")
        self._truth = truth.nearest(view, queries, self._probes.own, self._k)
        self._runs = PlanRuns(self._probes, self._truth, self._k, view.rows)
        progress(0.2, "their ranks")
        facts = (view, queries, self._probes.own, self._truth)
        dims = [*self._dims, self._dim] if view.by_clip else self._dims
        found = (truth.clip_ranks if view.by_clip else truth.ranks)(*facts, dims) if dims else ()
        self._ranks = dict(zip(dims, found, strict=True))
        if not view.by_clip:  # on all dims the best lie where exact search has them
            is_there = self._truth.positions >= 0
            self._ranks[self._dim] = np.where(is_there, np.cumsum(is_there, axis=1), 0)
        if self._has_middle:
            middle = self._ranks[MIDDLE_DIM]
            self._middle_ranks = truth.ranks(*facts, [MIDDLE_DIM])[0] if view.by_clip else middle
        for number, dim in enumerate(self._dims):
            progress(0.4 + 0.1 * number / len(self._dims), f"scans of {dim} dims")
            yield from self._scans(dim)
        if view.columns > _GRAPH_ROWS and view.base.columns > trial_graphs.TRIAL_ROWS:
            progress(0.5, "lists")
            yield from self._by_lists()
        # The widest first: it needs the shortest list, and what can't be faster is not built.
        graphs = [self._dim, *reversed(self._dims)] if view.columns > _GRAPH_ROWS else []
        for number, dim in enumerate(graphs):
            progress(0.6 + 0.3 * number / len(graphs), f"graph over {dim} dims")
            yield from self._graphs(dim)
        progress(0.9, "exact scan")
        yield self._runs.measured(view, planner.exact(view.columns, self._dim, counts=self._counts))
        why = self._too_large(default.dims[0]) if default.index == "hnsw" else ""
        if why:
            yield Trial(default, skipped=why)
        elif default.index != "exact":
            yield self._runs.measured(view, default)
        progress(1.0, "done")

    def _scans(self, dim: int) -> Iterator[Trial]:
        """The trials of flat scans by so many dims."""
        rows, flat = self._view.columns, self._flat(dim)
        if 2 * flat.shortlist >= rows:
            yield Trial(flat, skipped="so long a shortlist gains nothing on scoring all rows")
            return
        size = 4 * dim * (self._view.base.columns + self._view.tail.columns)
        if dim != self._view.prefix_dim and size > _MATRIX_BYTES:
            yield Trial(flat, skipped=f"its prefixes take {size >> 20} MiB of memory to measure")
            return
        yield from self._tried(self._with_prefixes(dim), self._with_middle(flat))

    def _graphs(self, dim: int) -> Iterator[Trial]:
        """The trials of a graph over so many dims."""
        flat, is_direct = self._flat(dim), dim == self._dim
        least = _DIRECT_FACTOR * flat.shortlist if is_direct else flat.shortlist
        if not planner.is_hnsw_faster(flat.rows, least):
            return
        # A scan takes the graph's place where few rows are allowed, and looks through the tail.
        scan = self._flat(min(self._dims, default=dim))
        plans = [
            replace(
                plan, index="hnsw", shortlist=max(least, plan.shortlist),
                scan_dim=scan.dims[0] if scan.dims[0] != dim else 0,
                scan_shortlist=scan.shortlist if scan.dims[0] != dim else 0,
            )
            for plan in self._with_middle(flat)
        ]  # fmt: skip
        if why := self._too_large(dim) or self._too_slow(plans[-1]):
            yield Trial(plans[0], skipped=why)
            return
        view, why = self._with_prefixes(scan.dims[0]), ""
        if (built := self._view.coarse) is not None and built.dim == dim:
            view = replace(view, coarse=built)
        else:
            queries = self._probes.vectors
            view, why, cost_s = trial_graphs.with_graph(
                view, dim, least, queries, self._best_ms, self._graph_s
            )
            self._graph_s -= cost_s
        if why:
            yield Trial(plans[0], skipped=why)
            return
        for trial in self._tried(view, plans):
            yield trial
            kept = 2 * self._k
            if is_direct and trial.plan.shortlist >= 2 * kept:
                yield from self._tried(view, [replace(trial.plan, kept=kept)])

    def _by_lists(self) -> Iterator[Trial]:
        """The trials of lists: as few as may hold what is sought, as few rows scored as will do."""
        flat, scan = self._flat(self._dim), self._flat(min(self._dims, default=self._dim))
        plan = replace(
            flat, index="ivf", shortlist=_LISTED_FACTOR * flat.shortlist, probes=1,
            scan_dim=scan.dims[0], scan_shortlist=scan.shortlist,
        )  # fmt: skip
        base = self._view.base
        size = footprint.with_lists(len(base), base.columns, self._dim)
        if why := self._too_much(size, size):
            yield Trial(plan, skipped=why)
            return
        made = self._view.lists
        if made is None:
            cost_s = lists.seconds_to_build(base.columns, self._dim)
            if cost_s > self._graph_s:
                yield Trial(plan, skipped=f"lists take {cost_s:.0f} s to build; graph_s allows it")
                return
            self._graph_s -= cost_s
            made = generation.lists_of(base.vectors, base.starts)
        view = self._with_prefixes(scan.dims[0])
        view = replace(view, lists=made, tail=view.tail.in_lists(made))
        needed = self._runs.lists_needed(view, made)
        for probes in _PROBES:
            if probes >= made.count:
                return
            if self._runs.is_enough(needed <= probes, self._target):
                break
        for shortlist in (plan.shortlist, plan.shortlist // 2):
            yield from self._tried(view, [replace(plan, shortlist=shortlist, probes=probes)])

    def _flat(self, dim: int) -> Plan:
        """A scan by these dims that is long enough."""
        rows = self._view.columns
        return Plan("flat", rows, self._length(dim), (dim, self._dim), counts=self._counts)

    def _with_prefixes(self, dim: int) -> View:
        return self._view if dim == self._view.prefix_dim else _with_dim(self._view, dim)

    def _too_large(self, dim: int) -> str:
        """Why memory rules a graph over these dims out, or nothing."""
        base, tail = self._view.base, self._view.tail
        rows, columns = len(base) + len(tail), base.columns + tail.columns
        size = footprint.with_graph(rows, columns, self._dim, dim)
        least = footprint.with_graph(rows, columns, self._dim, min(self._dims, default=dim))
        return self._too_much(size, least)

    def _too_much(self, size: int, least: int) -> str:
        """Why so many bytes are too many, or nothing; `least` are always allowed."""
        allowed = self._memory_bytes or max(MEMORY_BYTES, least)
        if size <= allowed:
            return ""
        return (
            f"with it the index takes {size / 1e9:.2f} GB of memory, "
            f"{allowed / 1e9:.2f} are allowed; memory_bytes allows more"
        )

    def _too_slow(self, plan: Plan) -> str:
        """Why a graph is not worth its building, or nothing: its rerank alone takes too long."""
        windows = plan.kept or plan.shortlist * self._view.rows // max(1, self._view.columns)
        everything, times = self._view.everything(), []
        rng = np.random.default_rng(0)
        for query in self._probes.vectors[:EXACT_RUNS]:
            drawn = np.sort(rng.choice(everything, min(windows, len(everything)), replace=False))
            start = time.thread_time()
            self._view.scores(drawn, query)
            times.append(1e3 * (time.thread_time() - start))
        if (ms := float(np.median(times))) <= self._best_ms:
            return ""
        return (
            f"scoring {windows} windows exactly takes {ms:.2f} ms, and a plan of "
            f"{self._best_ms:.2f} ms is known"
        )

    def _tried(self, view: View, plans: Sequence[Plan]) -> Iterator[Trial]:
        """Each plan, longer where it misses the target, then shorter to fit the budget."""
        for plan in plans:
            trial = self._runs.measured(view, plan)
            for _ in range(_GRAPH_STEPS if plan.index in ("hnsw", "ivf") else _STEPS):
                if recall_of(trial) >= self._target or 2 * plan.shortlist >= plan.rows:
                    break
                if plan.index != "flat" and ms_of(trial) > EQUAL * self._best_ms:
                    break
                plan = _scaled(plan, _STEP)
                trial = self._runs.measured(view, plan)
            if recall_of(trial) >= self._target:
                self._best_ms = min(self._best_ms, ms_of(trial))
            yield trial
            while self._budget_ms is not None and ms_of(trial) > self._budget_ms:
                plan = _scaled(plan, 0.5)
                if plan.shortlist < 2 * self._k:
                    break
                trial = self._runs.measured(view, plan)
                yield trial

    def _length(self, dim: int) -> int:
        """The shortest shortlist that may promise the target to each kind of query."""
        found = self._ranks[dim]
        counts = np.unique(found)
        low, high = 0, len(counts) - 1
        while low < high:  # the error may rise with recall, by less than recall does
            middle = (low + high) // 2
            if self._runs.is_enough(found <= counts[middle], self._target):
                high = middle
            else:
                low = middle + 1
        return max(int(counts[low]), self._k)

    def _with_middle(self, plan: Plan) -> list[Plan]:
        """The plan, and the same with the shortest middle rung that is enough, if that is shorter.

        Where clips are shortlisted, their windows are thinned out by what the means are not.
        """
        dim = plan.dims[0]
        windows = plan.shortlist * self._view.rows // max(1, self._view.columns)
        is_wider = dim < MIDDLE_DIM or (self._view.by_clip and dim < self._dim)
        if windows < MIDDLE_FROM or not self._has_middle or not is_wider:
            return [plan]
        first = min(int(_MIDDLE_FACTOR * plan.shortlist), plan.rows)
        near, middle = self._ranks[dim] <= first, self._middle_ranks
        for kept in np.unique(middle):
            if kept >= windows // 2:
                break
            if kept >= self._k and self._runs.is_enough(near & (middle <= kept), self._target):
                dims = (dim, MIDDLE_DIM, self._dim)
                return [plan, replace(plan, shortlist=first, dims=dims, kept=int(kept))]
        return [plan]


def _scaled(plan: Plan, factor: float) -> Plan:
    count = min(int(np.ceil(plan.shortlist * factor)), plan.rows)
    kept, probes = (int(np.ceil(number * factor)) for number in (plan.kept, plan.probes))
    return replace(plan, shortlist=count, kept=kept, probes=probes)


def _with_dim(view: View, dim: int) -> View:
    """The same rows with prefixes of another dim, and without a graph."""
    base, tail = view.base.with_dim(dim), view.tail.with_dim(dim)
    return replace(view, base=base, tail=tail, coarse=None)


def is_short_of(view: View, tuning: Tuning) -> bool:
    """Whether the index lacks what the plan needs."""
    if tuning.index == "exact":
        return False
    if tuning.index == "ivf":
        return view.prefix_dim != tuning.prefix_dim or view.lists is None
    has_graph = view.graph_dim == tuning.coarse_dim or not coarse.is_available()
    return view.prefix_dim != tuning.prefix_dim or (tuning.index == "hnsw" and not has_graph)
