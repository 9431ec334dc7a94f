"""The rungs of one search: a plan -> a shortlist -> perhaps a middle rung -> exact scores.

In:  a scope of rows, a unit query vector float32 [D], a plan.
Out: clips with their best windows; the plan that found them; what each stage did.
Knows nothing about queries, records or who planned.
"""

from __future__ import annotations

from dataclasses import dataclass

from clap_engine import planner
from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.clock import Clock
from clap_engine.index.allowed import Allowed
from clap_engine.index.view import View
from clap_engine.planner import Plan


@dataclass(frozen=True)
class Stage:
    """One stage of a search: windows in, windows out; "rerank" gives clips.

    Where means of clips are shortlisted, "ivf", "hnsw" and "flat" have clips in and clips out.
    """

    name: str  # "ivf", "hnsw", "flat", "exact", "middle" or "rerank"
    dim: int
    candidates_in: int
    candidates_out: int
    ms: float


@dataclass(frozen=True)
class Scope:
    """Where to search: a state, and what a filter lets through in it."""

    view: View
    allowed: Allowed | None

    @property
    def rows(self) -> int:
        """Rows that may be found."""
        return self.view.rows if self.allowed is None else len(self.allowed)

    @property
    def columns(self) -> int:
        """What a shortlist is taken of: rows, or clips where those are the columns."""
        return self.view.columns if self.allowed is None else self.allowed.width

    @property
    def has_coarse(self) -> bool:
        """Whether the graph may help: few rows are scanned alone in less time."""
        is_narrow = self.allowed is not None and self.allowed.is_narrow
        return self.view.coarse is not None and not is_narrow

    @property
    def has_lists(self) -> bool:
        """Whether lists may serve; those of few rows are read as a whole."""
        return self.view.lists is not None

    def everything(self) -> Int64:
        """Positions of all rows that may be found."""
        return self.view.everything() if self.allowed is None else self.allowed.positions


@dataclass(frozen=True)
class Best:
    """Clips [C] with the position [C] and the score [C] of the best window of each."""

    clips: Int64
    places: Int64
    scores: Float32


def gather(
    scope: Scope,
    vector: Float32,
    plan: Plan,
    wanted: int,
    clock: Clock,
    *,
    first: Int64 | None = None,
    stages: list[Stage] | None = None,
) -> tuple[Plan, Best]:
    """At least `wanted` clips with their best windows, or all, and the plan that found them.

    `first` are the columns of the plan's shortlist, where they are known already; `stages` is
    added to.
    """

    def note(name: str, lap: str, dim: int, before: int, after: int) -> None:
        ms = clock.lap(lap)
        if stages is not None:
            stages.append(Stage(name, dim, before, after, ms))

    while True:
        before = scope.columns
        if plan.index == "exact":
            before, found = scope.rows, scope.everything()
        elif first is not None:
            found, first = first, None
        elif plan.index == "ivf" and (lists := scope.view.lists) is not None:
            found = scope.view.listed(
                lists, vector, plan.shortlist, probes=plan.probes,
                scan_shortlist=plan.scan_shortlist, allowed=scope.allowed,
            )  # fmt: skip
        elif plan.index == "hnsw":
            near = scope.view.near(
                vector, plan.shortlist, kept=plan.kept if plan.is_direct else 0,
                scan_shortlist=plan.scan_shortlist, allowed=scope.allowed,
            )  # fmt: skip
            if near is None:  # most of what is near the query is not allowed: a scan finds what is
                note(plan.index, "shortlist", plan.dims[0], before, 0)
                plan = planner.as_scan(plan)
                continue
            found = near
        else:
            prefix = l2_normalize(vector[: plan.dims[0]])
            found = scope.view.shortlist(prefix, plan.shortlist, scope.allowed)
        note(plan.index, "shortlist", plan.dims[0], before, len(found))
        positions = found if plan.index == "exact" else scope.view.rows_of(found)
        if plan.kept and not plan.is_direct and len(positions) > plan.kept:
            before, prefix = len(positions), l2_normalize(vector[: plan.dims[1]])
            positions = scope.view.narrow(positions, prefix, plan.kept)
            note("middle", "narrow", plan.dims[1], before, len(positions))
        scores = scope.view.scores(positions, vector)
        best = Best(*scope.view.best_windows(positions, scores))
        note("rerank", "rerank", len(vector), len(positions), len(best.clips))
        if len(best.clips) >= wanted or plan.index == "exact":
            return plan, best
        plan = planner.widen(plan)
