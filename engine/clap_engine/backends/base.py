"""What every backend takes and gives, and the checks at its door.

In:  clips with the vectors of their windows; unit queries with their prefix.
Out: checked, frozen values; the shortlists to try; the best clips among rows.
Knows nothing about any engine.

A row is a window. Its id is `row_id(key, window)`, the window counted from 0 in its clip. Hits
count clips, each with its best window: a backend widens its shortlist until k clips are found
or all rows were seen, as a collection does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from clap_engine import planner
from clap_engine.arrays import Float32, Float64, check_array
from clap_engine.errors import ArrayError, ClapError, CollectionError, SpaceMismatchError
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.ingest import HasSpace, Item, key_of, metadata_text
from clap_engine.limits import DEFAULT_LIMITS
from clap_engine.matryoshka import truncate
from clap_engine.planner import Shortlist

FORMAT = 1
_UNIT_TOLERANCE = 1e-3


class BackendError(ClapError, ConnectionError):
    """An engine can't be reached, refused an operation, or isn't what a backend needs."""


@dataclass(frozen=True)
class Space:
    """The embedding space whose vectors a backend holds."""

    space_id: str
    dim: int
    bundle_id: str = ""
    revision: str = ""

    @classmethod
    def of(cls, embedder: HasSpace) -> Space:
        """The space of an engine."""
        return cls(embedder.space_id, embedder.dim, embedder.bundle_id, embedder.revision)

    def to_json(self) -> str:
        """What an engine keeps beside the rows, to be asked before any is read or written."""
        return json.dumps({"clap_engine": FORMAT, "prefix_dim": PREFIX_DIM, **vars(self)})


def space_from(text: str | None, where: str, wanted: Space | None) -> Space:
    """The space that `to_json` said; SpaceMismatchError unless it is `wanted`, if one is."""
    try:
        known = json.loads(text or "null")
        is_ours = (known.pop("clap_engine"), known.pop("prefix_dim")) == (FORMAT, PREFIX_DIM)
        found = Space(**known)
    except (AttributeError, KeyError, TypeError, ValueError):
        is_ours = False
    if not is_ours:
        raise CollectionError(
            f"{where} is there, and clap-engine did not make it, or another release did; "
            "give another name"
        )
    if wanted is not None and (wanted.space_id, wanted.dim) != (found.space_id, found.dim):
        raise SpaceMismatchError(
            f"{where} holds {found.dim} dims of {found.bundle_id or 'a bundle'} (space "
            f"{found.space_id[:12]}); these are {wanted.dim} dims of space "
            f"{wanted.space_id[:12]}: open it with that bundle, or give another name"
        )
    return found


@dataclass(frozen=True)
class ClipRows:
    """One clip: vectors float32 [W, D] unit rows, spans in seconds [W, 2], one a window."""

    key: str
    vectors: Float32
    spans: Float64
    metadata: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None
    duration_s: float = 0.0


@dataclass(frozen=True)
class BackendHit:
    """One clip found; the span is its best window."""

    key: str
    score: float
    start_s: float
    end_s: float
    metadata: dict[str, Any]


class VectorBackend(Protocol):
    """Clips on some engine. Every write is there for the next search when it returns."""

    @property
    def space(self) -> Space:
        """What was fixed when the backend was made."""
        ...

    def upsert(self, clips: Sequence[ClipRows]) -> None:
        """Store clips; one whose key is there is replaced with all its windows."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these clips; a key that isn't there is passed over."""
        ...

    def search(
        self,
        prefix: Float32,
        full: Float32,
        k: int,
        where: Mapping[str, Any] | None = None,
        *,
        shortlist: Shortlist = None,
    ) -> list[BackendHit]:
        """The k best clips for a unit query [D] and its unit prefix [32]; ties by key.

        `where` is a filter as a collection takes it; FilterError says what the engine can't
        express. `shortlist` is how many windows are scored exactly: a number, "all", or None.
        """
        ...

    def count(self) -> int:
        """Clips."""
        ...

    def close(self) -> None:
        """Give connections back; a second call does nothing."""
        ...


def row_id(key: str, window: int) -> str:
    """The id of a window's row: what follows the last # is always the window."""
    return f"{key}#{window}"


def clips_of(
    keys: Sequence[str],
    vectors: Float32,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    spans: Float64 | None = None,
) -> list[ClipRows]:
    """Rows side by side -> clips: neighbours of one key are its windows, in order.

    vectors [N, D], spans [N, 2]; metadata is that of a clip's first row.
    """
    if not len(keys) == len(vectors) == len(keys if metadata is None else metadata):
        raise CollectionError("keys, vectors and metadata differ in number; give one of each a row")
    found = []
    for key, group in groupby(range(len(keys)), key=lambda i: keys[i]):
        rows = list(group)
        span = np.zeros((len(rows), 2)) if spans is None else spans[rows]
        facts = {} if metadata is None else metadata[rows[0]]
        found.append(ClipRows(key, vectors[rows], span, facts, None, float(span[-1, 1])))
    return found


def check_clips(clips: Sequence[ClipRows], dim: int) -> list[tuple[ClipRows, str]]:
    """The clips as they may be stored, each with its metadata as JSON text."""
    checked = []
    for clip in clips:
        key = key_of(Item(None, clip.key, None), None)
        vectors = check_array(clip.vectors, shape=(None, dim), name=f"vectors of {key!r:.80}")
        spans = np.asarray(clip.spans, np.float64)
        if not len(vectors) or spans.shape != (len(vectors), 2) or not np.isfinite(spans).all():
            raise ArrayError(f"{key!r:.80} has {len(vectors)} windows, spans {list(spans.shape)}")
        if (np.abs(np.einsum("nd,nd->n", vectors, vectors) - 1) > _UNIT_TOLERANCE).any():
            raise ArrayError(f"{key!r:.80} has rows that are not unit vectors; normalise them")
        text = metadata_text(clip.metadata)
        path, duration_s = clip.path, float(clip.duration_s)
        if not np.isfinite(duration_s) or (path is not None and not _is_text(path)):
            raise CollectionError(f"{key!r:.80} has the duration {duration_s}, the path {path!r}")
        checked.append((ClipRows(key, vectors, spans, clip.metadata, path, duration_s), text))
    keys = [clip.key for clip, _ in checked]
    if len(set(keys)) != len(keys):
        raise CollectionError("a key comes twice in one upsert; give each clip once")
    return checked


def _is_text(path: str) -> bool:
    return "\0" not in path and not any("\ud800" <= char <= "\udfff" for char in path)


def check_query(prefix: Float32, full: Float32, dim: int, k: int) -> tuple[Float32, Float32]:
    """The query as unit vectors; ArrayError unless `prefix` is that of `full`."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= DEFAULT_LIMITS.max_k:
        raise CollectionError(f"k is {k!r}; give 1 to {DEFAULT_LIMITS.max_k}")
    full = check_array(full, shape=(dim,), name="full")
    prefix = check_array(prefix, shape=(PREFIX_DIM,), name="prefix")
    if abs(float(full @ full) - 1) > _UNIT_TOLERANCE:
        raise ArrayError("the query is not a unit vector; normalise it")
    if np.abs(prefix - truncate(full, PREFIX_DIM)).max() > _UNIT_TOLERANCE:
        raise ArrayError(f"prefix is not the query's own; give truncate(full, {PREFIX_DIM})")
    return prefix, full


def shortlists(rows: int, k: int, shortlist: Shortlist, dim: int) -> Iterator[int | None]:
    """The lengths to try, each longer than the last; None at the end: all rows, exactly."""
    plan = planner.plan(rows, k, shortlist, has_coarse=True, ladder=(PREFIX_DIM, dim))
    while plan.index != "exact":
        yield plan.shortlist
        plan = planner.widen(plan)
    yield None
