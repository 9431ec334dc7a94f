"""One search: query -> shortlist -> exact scores -> clips with their spans and metadata.

In:  a text, a clip or a vector; the states of a collection; an embedder.
Out: hits, best first, with the plan, the generation and the milliseconds of each stage.
Knows nothing about adding, locks or files.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from clap_engine import planner
from clap_engine.arrays import Float32, Int64, check_array, flush_denormals, l2_normalize
from clap_engine.errors import ArrayError, CollectionError, IntegrityError
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.index.view import View
from clap_engine.ingest import Embedder
from clap_engine.limits import Limits
from clap_engine.planner import Plan, Shortlist
from clap_engine.states import States

# A hit may be removed between ranking and reading its record; then the search starts again.
_OPTIMISTIC_TRIES = 3


@dataclass(frozen=True)
class Clip:
    """A query by example: any source that the embedder takes."""

    source: Any


@dataclass(frozen=True)
class Hit:
    """One clip found; the span is its best window, `calibrated` a probability or None."""

    key: str
    score: float
    calibrated: float | None
    start_s: float
    end_s: float
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, ties by key; how they were found and in which state."""

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]
    plan: Plan
    generation: int
    space_id: str


@runtime_checkable
class TimedEmbedder(Protocol):
    """An embedder that can say where the time of a text went."""

    def embed_text_timed(self, texts: list[str], /) -> tuple[Float32, Mapping[str, float]]:
        """(embeddings [N, D], milliseconds of each stage, such as tokenize and text)."""
        ...


Query: TypeAlias = "str | Clip | npt.NDArray[Any]"


class _Clock:
    """Milliseconds by stage, in the order in which they first ended."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """All time since the last lap belongs to `stage`."""
        now = time.perf_counter()
        self.ms[stage] = self.ms.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now

    def split(self, stages: Mapping[str, float]) -> None:
        """These stages, measured elsewhere, took the time since the last lap."""
        self.ms.update(stages)
        self._last = time.perf_counter()

    def stop(self) -> None:
        """Note the total."""
        self.ms["total"] = (time.perf_counter() - self._start) * 1e3


class Search:
    """Searches over the states of one collection; safe in many threads at once."""

    def __init__(
        self,
        states: States,
        embedder: Embedder | None,
        calibration: Mapping[str, float],
        limits: Limits,
    ) -> None:
        self._states = states
        self._embedder = embedder
        self._calibration = calibration
        self._per_sqrt_row = planner.measured(calibration)
        self._limits = limits
        self._dim = states.identity.dim

    def run(self, query: Query, k: int, shortlist: Shortlist) -> SearchResult:
        """The k best clips for a text, a Clip or a vector [D]."""
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self._limits.max_k:
            raise CollectionError(f"k is {k!r}; give 1 to {self._limits.max_k} (max_k)")
        clock = _Clock()
        vector, modality = self._embed(query, clock)
        for _ in range(_OPTIMISTIC_TRIES):
            view = self._states.refresh()
            clock.lap("refresh")
            hits, plan = self._answer(view, vector, modality, k, shortlist, clock)
            if hits is not None:
                break
        else:  # removals keep overtaking: hold the state still
            with self._states.held() as view:
                hits, plan = self._answer(view, vector, modality, k, shortlist, clock)
        clock.stop()
        if hits is None:
            raise IntegrityError(
                "the collection holds windows without a clip; run `clap-engine verify` on it"
            )
        return SearchResult(hits, clock.ms, plan, view.number, self._states.identity.space_id)

    def _embed(self, query: Query, clock: _Clock) -> tuple[Float32, str | None]:
        """Query -> (unit vector [D], its modality if that is known)."""
        if isinstance(query, np.ndarray):
            row = check_array(query, shape=(self._dim,), name="query")
            return self._unit(row), None
        if self._embedder is None:
            raise CollectionError("this collection was opened without an embedder; search a vector")
        if isinstance(query, str):
            if isinstance(self._embedder, TimedEmbedder):
                rows, stages = self._embedder.embed_text_timed([query])
                clock.split(stages)
            else:
                rows = self._embedder.embed_text([query])
                clock.lap("embed")
            return self._unit(check_array(rows, shape=(1, self._dim))[0]), "text"
        if isinstance(query, Clip):
            rows, _, _ = self._embedder.embed_windows(query.source)
            clock.lap("embed")
            rows = check_array(rows, shape=(None, self._dim))
            return self._unit(rows.mean(axis=0, dtype=np.float32)), "audio"
        raise CollectionError(
            f"a query of {type(query).__name__} is unknown; give text, Clip(...) or a vector"
        )

    @staticmethod
    def _unit(row: Float32) -> Float32:
        largest = np.abs(row).max()
        if not largest:
            raise ArrayError("the query is a zero vector; it has no direction to search in")
        # Scaled first, so that tiny or huge entries don't vanish in their squares.
        scaled = row / largest
        return flush_denormals(scaled / np.sqrt(scaled @ scaled))

    def _answer(
        self,
        view: View,
        vector: Float32,
        modality: str | None,
        k: int,
        shortlist: Shortlist,
        clock: _Clock,
    ) -> tuple[tuple[Hit, ...] | None, Plan]:
        """The hits in this view, or None when one of its clips was removed meanwhile."""
        plan = planner.plan(
            view.rows, k, shortlist,
            per_sqrt_row=self._per_sqrt_row,
            has_coarse=view.coarse is not None,
            ladder=(PREFIX_DIM, self._dim),
        )  # fmt: skip
        prefix = l2_normalize(vector[None, :PREFIX_DIM])[0]
        while True:
            if plan.index == "exact":
                positions = view.everything()
            else:
                positions = view.shortlist(prefix, plan.shortlist, use_coarse=plan.index == "hnsw")
            clock.lap("shortlist")
            scores = view.scores(positions, vector)
            clips, places, best = view.best_windows(positions, scores)
            clock.lap("rerank")
            if len(clips) >= k or plan.index == "exact":
                break
            plan = planner.widen(plan)
        hits = self._hydrate(view, clips, places, best, k, modality)
        clock.lap("hydrate")
        return hits, plan

    def _hydrate(
        self,
        view: View,
        clips: Int64,
        places: Int64,
        scores: Float32,
        k: int,
        modality: str | None,
    ) -> tuple[Hit, ...] | None:
        if not len(clips):
            return ()
        last = np.partition(scores, len(scores) - min(k, len(scores)))[-min(k, len(scores)) :].min()
        chosen = np.flatnonzero(scores >= last)  # all that tie with the k-th: keys decide
        with self._states.guard:
            records = self._states.reader.records(clips[chosen].tolist())
            if len(records) < len(chosen):
                return None
        ranked = sorted((-float(scores[i]), records[int(clips[i])].key, int(i)) for i in chosen)[:k]
        spans = view.spans(places[[i for _, _, i in ranked]])
        background = self._background(modality)
        return tuple(
            Hit(
                key,
                -minus,
                calibrated(-minus, background),
                *span,
                _metadata(records[int(clips[i])].metadata),
            )
            for (minus, key, i), span in zip(ranked, spans, strict=True)
        )

    def _background(self, modality: str | None) -> tuple[float, float] | None:
        """Mean and spread of the scores of unrelated pairs, where they are known."""
        mean = self._calibration.get(f"{modality}_mean")
        std = self._calibration.get(f"{modality}_std")
        return None if mean is None or std is None or not std > 0 else (mean, std)


def _metadata(text: str) -> dict[str, Any]:
    """What a caller stored; most store nothing, and that need not be parsed."""
    found: dict[str, Any] = {} if text == "{}" else json.loads(text)
    return found


def calibrated(score: float, background: tuple[float, float] | None) -> float | None:
    """The share of unrelated pairs that score lower; None where their mean and std aren't known."""
    if background is None:
        return None
    mean, std = background
    return 0.5 * (1.0 + math.erf((score - mean) / (std * math.sqrt(2.0))))
