"""One search: query -> shortlist -> exact scores -> clips with their spans and metadata.

In:  queries and requests; the states of a collection; an embedder.
Out: hits, best first, with the plan, the generation and the milliseconds of each stage.
Knows nothing about adding, locks or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clap_engine import planner
from clap_engine.allow import AllowSets
from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.background import calibrated, sampled
from clap_engine.calls import Call
from clap_engine.clock import Clock
from clap_engine.cores import usable_cores
from clap_engine.deadline import Deadline
from clap_engine.diversity import Group, collapse, diversify
from clap_engine.errors import CollectionError, IntegrityError
from clap_engine.events import Observer
from clap_engine.facts import Facts
from clap_engine.filters import Filter
from clap_engine.index.view import View
from clap_engine.ingest import Embedder
from clap_engine.lanes import Lane
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.live_recall import LiveRecall
from clap_engine.planner import Counts, Plan
from clap_engine.query import AnyQuery, has_sound
from clap_engine.questions import Question, Resolver
from clap_engine.records import Label
from clap_engine.request import CANDIDATES_MAX, Request
from clap_engine.rungs import Best, Scope, Stage, gather
from clap_engine.states import States

# What json.loads calls, for a text that begins with its object.
_parse = json.JSONDecoder().raw_decode
# A hit may be removed between ranking and reading its record; then the search starts again.
_OPTIMISTIC_TRIES = 3
# Scores of many queries that are held at a time: 64 MB.
_BATCH_SCORES = 1 << 24


@dataclass(frozen=True)
class Hit:
    """One clip found; the span is its best window, `calibrated` a probability or None.

    `duplicates` are the keys of the clips that were folded into it, best first.
    """

    key: str
    score: float
    calibrated: float | None
    start_s: float
    end_s: float
    metadata: dict[str, Any]
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Which plan ran, why, and what each stage did; `widened` counts the times it began again."""

    source: str  # "default", "tuned" or "caller"
    reason: str
    rows: int  # windows that could be found, or clips: what the plan counts
    expected_recall: float | None
    widened: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, ties by key; how they were found and in which state.

    With diversity the order is that in which hits were picked.
    """

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]
    plan: Plan
    generation: int
    space_id: str
    explain: Explanation | None = None


@dataclass(frozen=True)
class _Ranked:
    """Clips, best first, ties by key: labels, scores [C], positions of best windows [C]."""

    labels: list[Label]
    scores: Float32
    places: Int64


class Search:
    """Searches over the states of one collection; safe in many threads at once."""

    def __init__(
        self,
        states: States,
        allow: AllowSets,
        embedder: Embedder | None,
        calibration: Mapping[str, float],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        slots = limits.max_in_flight or max(2, usable_cores())
        # Words and the search for them share a turn: more than there are cores only disturb.
        shared: Lane | None = getattr(embedder, "words", None)
        self._is_shared = shared is not None
        self._lane = shared or Lane("search", slots, limits.max_waiting)
        self._observer: Observer = getattr(embedder, "observer", None) or Observer()
        self._recall = LiveRecall(self._observer)
        self._states = states
        self._facts = Facts(states)
        self._allow = allow
        self._resolver = Resolver(states, embedder)
        self._calibration = calibration
        self._per_sqrt_row = planner.measured(calibration)
        self._dim = states.identity.dim

    def run(self, query: AnyQuery, request: Request) -> SearchResult:
        """The best clips for one query."""
        clock = Clock(deadline=request.deadline)
        with self._call("search", request) as call:
            if self._is_shared and not has_sound(query):
                self._take_turn(call, clock)
                clock.has_turn = True
            (question,) = self._resolver.questions([query], clock)
            self._take_turn(call, clock)
            result = self._repeated(question, request, clock)
            call.stages_ms = result.timings_ms
            call.sizes = {"queries": 1, "hits": len(result.hits), "rows": result.plan.rows}
        return result

    def _repeated(self, question: Question, request: Request, clock: Clock) -> SearchResult:
        """What is found; now and then it is sought again, exactly, in the background."""
        if not self._recall.is_drawn():
            return self._found(question, request, clock)
        try:
            before = self._states.refresh()
            result = self._found(question, request, clock)
        except BaseException:
            self._recall.drop()
            raise
        exactly = replace(request, shortlist="all", explain=False, deadline=Deadline())

        def exact() -> list[str] | None:
            scope = self._scope(request.tree, Clock())
            if scope.view is not before:
                return None
            answer = self._answer(scope, question, exactly, Clock())
            return None if answer is None else [hit.key for hit in answer.hits]

        plan = result.plan
        self._recall.repeat(
            [hit.key for hit in result.hits], exact, k=request.k, rows=plan.rows, index=plan.index,
            source=plan.source,
        )  # fmt: skip
        return result

    def run_batch(self, queries: Sequence[AnyQuery], request: Request) -> list[SearchResult]:
        """What `run` gives for each query; embedding, refreshing and scanning are shared."""
        if not queries:
            return []
        with self._call("search_batch", request) as call:
            results = self._batch(queries, request, call)
            call.sizes = {"queries": len(queries), "hits": sum(len(r.hits) for r in results)}
        return results

    def _batch(
        self, queries: Sequence[AnyQuery], request: Request, call: Call
    ) -> list[SearchResult]:
        clock = Clock(deadline=request.deadline)
        questions = self._resolver.questions(queries, clock)
        self._take_turn(call, clock)
        scope = self._scope(request.tree, clock)
        shared = {stage: ms / len(queries) for stage, ms in clock.ms.items()}
        plan = self._plan(scope, request, request.candidates)
        at_once = max(1, _BATCH_SCORES // max(1, scope.view.columns))
        results: list[SearchResult] = []
        for start in range(0, len(questions), at_once):
            some = questions[start : start + at_once]
            firsts: list[Int64 | None] = [None] * len(some)
            if start:
                call.give_way()
            clock = Clock(deadline=request.deadline)
            if plan.index == "flat":
                prefixes = np.stack([question.prefix(plan.dims[0]) for question in some])
                firsts = [*scope.view.shortlists(prefixes, plan.shortlist, scope.allowed)]
                clock.lap("shortlist")
            before = {**shared, **{stage: ms / len(some) for stage, ms in clock.ms.items()}}
            for question, first in zip(some, firsts, strict=True):
                own = Clock(before, deadline=request.deadline)
                answer = self._answer(scope, question, request, own, first)
                results.append(answer or self._found(question, request, own))
        return results

    def _call(self, verb: str, request: Request) -> Call:
        """A call that embeds first, in the lanes of its embedder, and then takes its turn here."""
        return Call(
            verb, self._lane, request.deadline, self._observer, at_once=False, told_as="search"
        )

    def _take_turn(self, call: Call, clock: Clock) -> None:
        before = call.wait_ms
        call.take_turn()
        if call.wait_ms > before:
            clock.lap("wait")

    def vectors(self, queries: Sequence[AnyQuery]) -> Float32:
        """[M, D]: the unit vectors that these queries are searched by."""
        found = np.empty((len(queries), self._dim), np.float32)
        for at, question in enumerate(self._resolver.questions(queries, Clock())):
            found[at] = question.vector
        return found

    def default_plan(self, view: View, k: int) -> Plan:
        """What would run if nothing were tuned."""
        return planner.plan(
            view.columns, k, None, per_sqrt_row=self._per_sqrt_row,
            has_coarse=view.coarse is not None, ladder=(view.prefix_dim, self._dim),
            counts=_counts(view), graph_dim=view.graph_dim,
        )  # fmt: skip

    def _found(self, question: Question, request: Request, clock: Clock) -> SearchResult:
        for _ in range(_OPTIMISTIC_TRIES):
            scope = self._scope(request.tree, clock)
            if (answer := self._answer(scope, question, request, clock)) is not None:
                return answer
        with self._states.held() as view:  # changes keep overtaking: hold the state still
            tree = request.tree
            scope = Scope(view, None if tree is None else self._allow.within(tree, view))
            if (answer := self._answer(scope, question, request, clock)) is not None:
                return answer
        raise IntegrityError(
            "the collection holds windows without a clip; run `clap-engine verify` on it"
        )

    def _scope(self, tree: Filter | None, clock: Clock) -> Scope:
        if tree is None:
            scope = Scope(self._states.refresh(), None)
            clock.lap("refresh")
        else:
            scope = Scope(*self._allow.of(tree))
            clock.lap("filter")
        return scope

    def _plan(self, scope: Scope, request: Request, clips: int) -> Plan:
        return planner.plan(
            scope.columns, clips, request.shortlist,
            per_sqrt_row=self._per_sqrt_row,
            has_coarse=scope.has_coarse,
            ladder=(scope.view.prefix_dim, self._dim),
            tuning=self._states.tuning,
            counts=_counts(scope.view),
            graph_dim=scope.view.graph_dim,
            has_lists=scope.has_lists,
        )  # fmt: skip

    def _answer(
        self,
        scope: Scope,
        question: Question,
        request: Request,
        clock: Clock,
        first: Int64 | None = None,
    ) -> SearchResult | None:
        """The hits in this scope, or None when one of its clips was changed meanwhile.

        `first` are the columns of the plan's shortlist to begin with, where they are known already.
        """
        background = self._background(scope.view, question)

        def passes(score: float) -> bool:
            if request.min_score is not None and score < request.min_score:
                return False
            if request.min_calibrated is None:
                return True
            share = calibrated(score, background)
            if share is None:
                raise CollectionError(
                    "no background is known for this query, so min_calibrated has no meaning; "
                    "use min_score, or a bundle with calibration"
                )
            return share >= request.min_calibrated

        is_bounded = request.min_score is not None or request.min_calibrated is not None
        wanted = request.candidates
        plan = self._plan(scope, request, wanted)
        stages: list[Stage] | None = [] if request.explain else None
        while True:
            plan, found = gather(
                scope, question.vector, plan, wanted, clock, first=first, stages=stages
            )
            ranked = self._ranked(scope, found, wanted, passes if is_bounded else None)
            if ranked is None:
                return None
            groups = _grouped(scope.view, ranked, request)
            # Fewer than wanted: there are no more, or they are too weak.
            is_all = len(ranked.labels) < wanted or wanted >= CANDIDATES_MAX
            if len(groups) >= request.k or is_all:
                break
            wanted, first = min(wanted * planner.WIDEN, CANDIDATES_MAX), None
        hits = _hits(scope.view, ranked, groups[: request.k], background)
        clock.lap("hydrate")
        clock.stop()
        space_id = self._states.identity.space_id
        explain = None if stages is None else self._explained(scope, plan, stages)
        return SearchResult(hits, clock.ms, plan, scope.view.number, space_id, explain)

    def _explained(self, scope: Scope, plan: Plan, stages: list[Stage]) -> Explanation:
        why = planner.reason(plan, self._states.tuning, scope.view.prefix_dim)
        return Explanation(
            plan.source, why, plan.rows, plan.expected_recall, plan.widened, tuple(stages)
        )

    def _ranked(
        self, scope: Scope, found: Best, wanted: int, passes: Callable[[float], bool] | None
    ) -> _Ranked | None:
        """The best `wanted` of the clips that pass, or None when the state has changed."""
        if not len(found.clips):
            return _Ranked([], found.scores, found.places)
        clips, places, scores = found.clips, found.places, found.scores
        if wanted < len(scores):
            last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
            chosen = np.flatnonzero(scores >= last)  # all that tie with the last: keys decide
            clips, places, scores = clips[chosen], places[chosen], scores[chosen]
        numbers = clips.tolist()
        labels = self._facts.of(scope.view, numbers)
        if labels is None:
            return None
        if scope.allowed is not None:
            with self._states.guard:
                if self._states.reader.is_amended_after(scope.view.change):
                    return None  # what was filtered by may not be what the records say now
        order = sorted(
            (-score, labels[clip].key, i)
            for i, (score, clip) in enumerate(zip(scores.tolist(), numbers, strict=True))
        )
        kept = [i for minus, _, i in order[:wanted] if passes is None or passes(-minus)]
        return _Ranked([labels[numbers[i]] for i in kept], scores[kept], places[kept])

    def _background(self, view: View, question: Question) -> tuple[float, float] | None:
        """Mean and spread of the scores of unrelated pairs, where they are known."""
        if question.modality == "sum":
            return sampled(view, question.vector)
        mean = self._calibration.get(f"{question.modality}_mean")
        std = self._calibration.get(f"{question.modality}_std")
        return None if mean is None or std is None or not std > 0 else (mean, std)


def _counts(view: View) -> Counts:
    return "clips" if view.by_clip else "windows"


def _grouped(view: View, ranked: _Ranked, request: Request) -> list[Group]:
    """Which of the ranked clips to show, in order, and what is folded into each."""
    groups = [Group(i, ()) for i in range(len(ranked.labels))]
    if not groups or not request.is_compared:
        return groups
    vectors = l2_normalize(view.vectors_at(ranked.places))
    if request.collapse is not None:
        groups = collapse(vectors, request.collapse)
    if request.diversity > 0:
        kept = [group.kept for group in groups]
        picked = diversify(ranked.scores[kept], vectors[kept], request.k, request.diversity)
        groups = [groups[i] for i in picked]
    return groups


def _hits(
    view: View,
    ranked: _Ranked,
    groups: Sequence[Group],
    background: tuple[float, float] | None,
) -> tuple[Hit, ...]:
    spans = view.spans(ranked.places[[group.kept for group in groups]])
    labels, scores = ranked.labels, ranked.scores.tolist()
    hits = []
    for group, (start_s, end_s) in zip(groups, spans, strict=True):
        label, score = labels[group.kept], scores[group.kept]
        folded = tuple(labels[i].key for i in group.folded) if group.folded else ()
        share = calibrated(score, background)
        hits.append(Hit(label.key, score, share, start_s, end_s, _metadata(label.metadata), folded))
    return tuple(hits)


def _metadata(text: str) -> dict[str, Any]:
    """What a caller stored; most store nothing, and that need not be parsed."""
    if text == "{}":
        return {}
    found: dict[str, Any] = _parse(text)[0] if text.startswith("{") else json.loads(text)
    return found
