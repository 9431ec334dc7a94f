"""A collection under asyncio: the same verbs, awaited.

In:  an open collection, the threads of its engine.
Out: what `Collection` gives, without blocking the event loop.
Knows nothing about how clips are found or kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from clap_engine.answers.async_face import AsyncAnswers
from clap_engine.collection import (
    AddReport,
    BackupReport,
    Collection,
    CompactReport,
    SearchResult,
    SnapshotReport,
    TuneReport,
)
from clap_engine.deadline import Timeout
from clap_engine.query import AnyQuery, Clip, terms_of
from clap_engine.records import NewClip
from clap_engine.workers import Workers

if TYPE_CHECKING:
    from clap_engine.stored import ClipVectors, StoredClip


class AsyncCollection(AsyncAnswers):
    """An open collection whose verbs are awaited.

    Searches run in the lane of what they embed first: a query by example never holds up one by
    words. Additions run one after the other; so does what keeps the collection in shape, which
    goes on to its end when nobody awaits it any more.
    """

    def __init__(self, collection: Collection, workers: Workers) -> None:
        self.collection = collection
        self._workers = workers

    @property
    def _answering(self) -> Collection:
        return self.collection

    @property
    def path(self) -> Path:
        """The collection's folder."""
        return self.collection.path

    @property
    def is_snapshot(self) -> bool:
        """As `Collection.is_snapshot`."""
        return self.collection.is_snapshot

    async def search(
        self, query: AnyQuery, k: int = 10, *, timeout_s: Timeout = None, **options: Any
    ) -> SearchResult:
        """The k best clips for one query, as `Collection.search`."""
        return await self._workers.bounded(
            _lane_of([query]), self.collection.search, query, k, timeout_s=timeout_s, **options
        )

    async def search_batch(
        self, queries: Iterable[AnyQuery], k: int = 10, *, timeout_s: Timeout = None, **options: Any
    ) -> list[SearchResult]:
        """What `search` finds for each query, as `Collection.search_batch`."""
        queries = queries if isinstance(queries, (str, bytes)) else list(queries)
        return await self._workers.bounded(
            _lane_of(queries), self.collection.search_batch, queries, k, timeout_s=timeout_s,
            **options,
        )  # fmt: skip

    async def add(
        self,
        sources: Iterable[Any],
        keys: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        progress: Callable[[int, str], None] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        timeout_s: Timeout = None,
    ) -> AddReport:
        """Embed and store sounds, as `Collection.add`; `progress` is called in another thread."""
        return await self._workers.bounded(
            "add", self.collection.add, sources, keys, metadata, progress, root=root,
            timeout_s=timeout_s,
        )  # fmt: skip

    async def put(self, clips: Sequence[NewClip], *, timeout_s: Timeout = None) -> None:
        """Store clips whose vectors are ready, as `Collection.put`."""
        await self._workers.bounded("add", self.collection.put, clips, timeout_s=timeout_s)

    async def remove(self, key: str, *, timeout_s: Timeout = None) -> bool:
        """Remove a clip for good; False when there is none of that key."""
        return await self._workers.bounded("add", self.collection.remove, key, timeout_s=timeout_s)

    async def count(self) -> int:
        """Clips: what `len` gives for a `Collection`."""
        return await self._workers.run("search", self.collection.__len__)

    async def contains(self, key: str) -> bool:
        """Whether there is a clip of that key: what `in` gives for a `Collection`."""
        return await self._workers.run("search", self.collection.__contains__, key)

    async def keys(self) -> list[str]:
        """Every key, sorted."""
        return await self._workers.run("search", self.collection.keys)

    async def clip(self, key: str) -> StoredClip | None:
        """The clip of that key, without its vectors; None when there is none."""
        return await self._workers.run("search", self.collection.clip, key)

    async def clip_vectors(
        self, keys: Sequence[str] | None = None, *, most: int = 2000, seed: int = 0
    ) -> ClipVectors:
        """Mean vectors [N, D] of these clips or of a sample, as `Collection.clip_vectors`."""
        return await self._workers.run(
            "search", self.collection.clip_vectors, keys, most=most, seed=seed
        )

    async def info(self) -> dict[str, Any]:
        """What the collection is and holds, as JSON values."""
        return await self._workers.run("upkeep", self.collection.info)

    async def verify(self, *, timeout_s: Timeout = None) -> list[str]:
        """Read every byte again; what is wrong with it, empty when nothing is."""
        return await self._workers.bounded("upkeep", self.collection.verify, timeout_s=timeout_s)

    async def refresh(self) -> bool:
        """Serve what is newest now, as `Collection.refresh`."""
        return await self._workers.run("upkeep", self.collection.refresh)

    async def declare_filters(self, fields: Iterable[str], *, timeout_s: Timeout = None) -> None:
        """Index these fields for filters, as `Collection.declare_filters`."""
        await self._workers.bounded(
            "upkeep", self.collection.declare_filters, fields, timeout_s=timeout_s
        )

    async def tune(
        self, target: float = 0.99, *, timeout_s: Timeout = None, **options: Any
    ) -> TuneReport:
        """Measure which plan finds `target` soonest, and keep it, as `Collection.tune`."""
        return await self._workers.bounded(
            "upkeep", self.collection.tune, target, timeout_s=timeout_s, **options
        )

    async def rebuild(self, *, wait: bool = True, timeout_s: Timeout = None) -> int:
        """Write a new generation of the derived files; its number."""
        return await self._workers.bounded(
            "upkeep", self.collection.rebuild, wait=wait, timeout_s=timeout_s
        )

    async def compact(self, *, timeout_s: Timeout = None) -> CompactReport:
        """Give the space of removed clips back, as `Collection.compact`."""
        return await self._workers.bounded("upkeep", self.collection.compact, timeout_s=timeout_s)

    async def backup(
        self, folder: str | os.PathLike[str], *, timeout_s: Timeout = None
    ) -> BackupReport:
        """Copy what is committed now to `folder`, as `Collection.backup`."""
        return await self._workers.bounded(
            "upkeep", self.collection.backup, folder, timeout_s=timeout_s
        )

    async def snapshot(
        self, folder: str | os.PathLike[str], *, timeout_s: Timeout = None, **options: Any
    ) -> SnapshotReport:
        """Copy what is committed now as a snapshot, as `Collection.snapshot`."""
        return await self._workers.bounded(
            "upkeep", self.collection.snapshot, folder, timeout_s=timeout_s, **options
        )

    async def close(self, *, wait: bool = True) -> None:
        """Give the lock and the connections back, as `Collection.close`."""
        await self._workers.run("upkeep", self.collection.close, wait=wait)

    async def __aenter__(self) -> AsyncCollection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(wait=error is None)

    def __repr__(self) -> str:
        return f"<Async{repr(self.collection)[1:]}"


def _lane_of(queries: Any) -> str:
    """Which towers these queries need first; what is no query is refused by the search."""
    if isinstance(queries, (str, bytes)):
        return "search"
    terms = [
        term for query in queries if not isinstance(query, np.ndarray) for term in terms_of(query)
    ]
    if any(isinstance(term, Clip) for term in terms):
        return "audio"
    return "text" if terms else "search"
