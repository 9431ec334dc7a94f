"""Clips in a shard of Qdrant within this process: the engine itself, without a server.

In:  qdrant+edge:FOLDER.
Out: a backend over the shard there.
Knows nothing about payloads or models; the one module that talks to qdrant_edge.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clap_engine import filters, storage
from clap_engine.arrays import Float32
from clap_engine.backends import base, qdrant_points
from clap_engine.backends.base import BackendError, BackendHit, ClipRows, Space
from clap_engine.errors import ClapError, ClosedError, DependencyError, NotFoundError
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.planner import Shortlist

_SPACE, _SHARD, _LOCK = "space.json", "shard", "writer.lock"


class QdrantEdgeBackend:
    """One process at a time, which a lock sees to; searches from many threads."""

    @classmethod
    def open(cls, url: str, space: Space | None, create: bool) -> QdrantEdgeBackend:
        """The backend at `url`; see clap_engine.backends."""
        try:
            import qdrant_edge
        except ImportError as error:
            raise DependencyError(
                "qdrant-edge-py is not installed; run: pip install 'clap-engine[qdrant]'"
            ) from error
        folder = Path(qdrant_points.folder_of(url))
        if not (folder / _SPACE).is_file() and (not create or space is None):
            raise NotFoundError(f"there is no shard in {folder}; create=True makes one")
        storage.make_dir(folder, parents=True)
        lock = storage.FileLock(folder / _LOCK)
        lock.acquire()
        try:
            return cls(qdrant_edge, folder, space, lock)
        except BaseException:
            lock.release()
            raise

    def __init__(
        self, edge: Any, folder: Path, space: Space | None, lock: storage.FileLock
    ) -> None:
        """Use open()."""
        self._m = edge
        self._lock = lock
        self._guard = threading.RLock()
        said = folder / _SPACE
        self._shard: Any = None
        with self._translated(is_open=True):
            if said.is_file():
                text = said.read_text("utf-8")
                self.space = base.space_from(text, f"the shard in {folder}", space)
                self._shard = edge.EdgeShard.load(str(folder / _SHARD))
            elif space is not None:
                # Its making was cut off if a shard is there: what it holds was never reported.
                storage.remove_tree(folder / _SHARD)
                self.space = space
                self._shard = self._create(folder / _SHARD)
                storage.write_atomic(said, space.to_json().encode())

    def _create(self, folder: Path) -> Any:
        m, dot = self._m, self._m.Distance.Dot
        storage.make_dir(folder)
        full = m.EdgeVectorParams(
            self.space.dim,
            dot,
            datatype=m.VectorStorageDatatype.Float16,
            hnsw_config=m.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        )
        vectors = {"prefix": m.EdgeVectorParams(PREFIX_DIM, dot), "full": full}
        shard = m.EdgeShard.create(str(folder), m.EdgeConfig(vectors=vectors))
        for name in (qdrant_points.TOKENS, "key"):
            keywords = m.KeywordIndexParams(prefix=name == qdrant_points.TOKENS)
            shard.update(m.UpdateOperation.create_field_index(name, keywords))
        return shard

    def upsert(self, clips: Sequence[ClipRows]) -> None:
        """Store clips; old windows beyond the new ones go last. Flushed to the disk."""
        m = self._m
        checked = base.check_clips(clips, self.space.dim)
        batch = [
            m.Point(*point) for clip, text in checked for point in qdrant_points.points(clip, text)
        ]
        with self._guard, self._translated():
            if batch:
                self._shard.update(m.UpdateOperation.upsert_points(batch))
            for clip, _ in checked:
                self._drop([clip.key], first=len(clip.vectors))
            self._shard.flush()

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these clips. Flushed to the disk."""
        with self._guard, self._translated():
            self._drop(list(keys), first=0)
            self._shard.flush()

    def _drop(self, keys: list[str], first: int) -> None:
        m = self._m
        which = m.FieldCondition(key="key", match=m.MatchAny(any=keys))
        later = m.FieldCondition(key="window", range=m.RangeFloat(gte=float(first)))
        if keys:
            chosen = m.Filter(must=[which, later])
            self._shard.update(m.UpdateOperation.delete_points_by_filter(chosen))

    def optimize(self) -> None:
        """Build the graph over what was added since; until then those rows are scanned."""
        with self._guard, self._translated():
            self._shard.optimize()

    def search(
        self,
        prefix: Float32,
        full: Float32,
        k: int,
        where: Mapping[str, Any] | None = None,
        *,
        shortlist: Shortlist = None,
    ) -> list[BackendHit]:
        """See VectorBackend."""
        prefix, full = base.check_query(prefix, full, self.space.dim, k)
        wanted = None if where is None else qdrant_points.compiled(filters.parse(where), self._m)
        with self._translated():
            rows = self._shard.count(self._m.CountRequest(exact=False))
            return qdrant_points.search(
                self._find, rows, self.space, prefix, full, k, wanted, shortlist
            )

    def _find(
        self, prefix: Float32, full: Float32, shortlist: int | None, limit: int, wanted: Any
    ) -> list[tuple[float, dict[str, Any]]]:
        m = self._m
        near = []
        if shortlist is not None:
            query = m.Query.Nearest(prefix.tolist(), using="prefix")
            params = m.SearchParams(hnsw_ef=shortlist)
            near = [m.Prefetch(limit=shortlist, query=query, filter=wanted, params=params)]
        request = m.QueryRequest(
            limit=limit,
            query=m.Query.Nearest(full.tolist(), using="full"),
            prefetches=near,
            filter=None if near else wanted,
            params=m.SearchParams(exact=True),
            with_payload=["key", "window", "start_s", "end_s", "metadata"],
        )
        return [(point.score, point.payload) for point in self._shard.query(request)]

    def count(self) -> int:
        """Clips."""
        m = self._m
        match = m.MatchValue(value=qdrant_points.FIRST)
        first = m.Filter(must=[m.FieldCondition(key=qdrant_points.TOKENS, match=match)])
        with self._translated():
            return int(self._shard.count(m.CountRequest(exact=True, filter=first)))

    def close(self) -> None:
        """Close the shard and give its lock back."""
        with self._guard:
            if self._shard is not None:
                self._shard.close()
                self._shard = None
            self._lock.release()

    @contextmanager
    def _translated(self, *, is_open: bool = False) -> Iterator[None]:
        if self._shard is None and not is_open:
            raise ClosedError("the backend was closed; open it again")
        try:
            yield
        except (ClapError, OSError):
            raise
        except Exception as error:  # the library raises nothing narrower
            raise BackendError(f"Qdrant's shard: {error}") from error
