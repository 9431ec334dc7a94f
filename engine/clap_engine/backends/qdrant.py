"""Clips in a collection of Qdrant: a graph on the prefix, rescored by the full vectors.

In:  qdrant://[:API_KEY@]HOST:PORT/COLLECTION, qdrant+https:// the same, qdrant+local:FOLDER.
Out: a backend over that collection.
Knows nothing about payloads or models; the one module that talks to qdrant_client.

qdrant+local: is the client's own stand-in for a server: it scans all rows, and is for tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from clap_engine import filters
from clap_engine.arrays import Float32
from clap_engine.backends import base, qdrant_points
from clap_engine.backends.base import BackendError, BackendHit, ClipRows, Space
from clap_engine.errors import (
    ClapError,
    ClosedError,
    CollectionError,
    DependencyError,
    NotFoundError,
)
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.planner import Shortlist

_LOCAL_NAME = "windows"
_TIMEOUT_S = 60
# A batch of 512-d points in JSON stays far below a server's limit of 32 MB a request.
_POINTS_AT_ONCE = 256


class QdrantBackend:
    """Safe in many threads against a server."""

    space: Space

    @classmethod
    def open(cls, url: str, space: Space | None, create: bool) -> QdrantBackend:
        """The backend at `url`; see clap_engine.backends."""
        try:
            import qdrant_client
        except ImportError as error:
            raise DependencyError(
                "qdrant-client is not installed; run: pip install 'clap-engine[qdrant]'"
            ) from error
        parts = urlsplit(url)
        if parts.scheme == "qdrant+local":
            name, folder = _LOCAL_NAME, qdrant_points.folder_of(url)
            if folder == ":memory:":
                client = qdrant_client.QdrantClient(":memory:")
            else:
                client = qdrant_client.QdrantClient(path=folder)
        else:
            name, way = parts.path.strip("/"), "https" if parts.scheme.endswith("https") else "http"
            if not name or "/" in name or parts.hostname is None:
                raise CollectionError(f"{parts.scheme}:// needs HOST:PORT/COLLECTION after it")
            client = qdrant_client.QdrantClient(
                url=f"{way}://{parts.hostname}:{parts.port or 6333}",
                api_key=unquote(parts.password) if parts.password else None,
                timeout=_TIMEOUT_S,
                check_compatibility=False,
            )
        backend = cls(client, unquote(name), is_local=parts.scheme == "qdrant+local")
        try:
            backend.bind(space, create)
        except BaseException:
            backend.close()
            raise
        return backend

    def __init__(self, client: Any, name: str, *, is_local: bool) -> None:
        """Use open()."""
        from qdrant_client import models

        self._m: Any = models
        self._client = client
        self._name = name
        self._is_local = is_local
        self._is_closed = False

    def bind(self, space: Space | None, create: bool) -> None:
        """Find or make the collection, and learn its space."""
        with self._translated():
            if not self._client.collection_exists(self._name):
                if not create or space is None:
                    raise NotFoundError(f"Qdrant has no {self._name}; create=True makes it")
                self._create(space)
            known = self._client.get_collection(self._name).config.metadata
        self.space = base.space_from(json.dumps(known), f"Qdrant's {self._name}", space)

    def _create(self, space: Space) -> None:
        m, dot = self._m, self._m.Distance.DOT
        self._client.create_collection(
            self._name,
            vectors_config={
                "prefix": m.VectorParams(size=PREFIX_DIM, distance=dot),
                # No graph on these: they score the shortlist alone, read from the disk.
                "full": m.VectorParams(
                    size=space.dim,
                    distance=dot,
                    datatype=m.Datatype.FLOAT16,
                    on_disk=True,
                    hnsw_config=m.HnswConfigDiff(m=0),
                ),
            },
            on_disk_payload=True,
            metadata=json.loads(space.to_json()),
        )
        if not self._is_local:  # which has no indexes, and warns
            keywords = m.KeywordIndexParams(type="keyword", prefix=True, on_disk=True)
            self._client.create_payload_index(self._name, qdrant_points.TOKENS, keywords)
            self._client.create_payload_index(self._name, "key", "keyword")

    def upsert(self, clips: Sequence[ClipRows]) -> None:
        """Store clips, clip by clip; old windows beyond the new ones go last."""
        m, batch = self._m, []
        checked = base.check_clips(clips, self.space.dim)
        for clip, text in checked:
            batch += [
                m.PointStruct(id=id, vector=vectors, payload=payload)
                for id, vectors, payload in qdrant_points.points(clip, text)
            ]
        with self._translated():
            for start in range(0, len(batch), _POINTS_AT_ONCE):
                self._client.upsert(self._name, batch[start : start + _POINTS_AT_ONCE], wait=True)
            for clip, _ in checked:
                self._drop([clip.key], first=len(clip.vectors))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these clips."""
        with self._translated():
            self._drop(list(keys), first=0)

    def _drop(self, keys: list[str], first: int) -> None:
        m = self._m
        which = m.FieldCondition(key="key", match=m.MatchAny(any=keys))
        later = m.FieldCondition(key="window", range=m.Range(gte=first))
        if keys:
            self._client.delete(
                self._name, m.FilterSelector(filter=m.Filter(must=[which, later])), wait=True
            )

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
            rows = self._client.count(self._name, exact=False).count
            return qdrant_points.search(
                self._find, rows, self.space, prefix, full, k, wanted, shortlist
            )

    def _find(
        self, prefix: Float32, full: Float32, shortlist: int | None, limit: int, wanted: Any
    ) -> list[tuple[float, dict[str, Any]]]:
        m = self._m
        near = None
        if shortlist is not None:
            near = m.Prefetch(
                query=prefix.tolist(),
                using="prefix",
                limit=shortlist,
                filter=wanted,
                params=m.SearchParams(hnsw_ef=shortlist),
            )
        found = self._client.query_points(
            self._name,
            query=full.tolist(),
            using="full",
            limit=limit,
            prefetch=near,
            query_filter=None if near else wanted,
            # The client's own mode is always exact, and warns.
            search_params=None if near or self._is_local else m.SearchParams(exact=True),
            with_payload=["key", "window", "start_s", "end_s", "metadata"],
        )
        return [(point.score, point.payload) for point in found.points]

    def count(self) -> int:
        """Clips."""
        m = self._m
        first = m.FieldCondition(
            key=qdrant_points.TOKENS, match=m.MatchValue(value=qdrant_points.FIRST)
        )
        with self._translated():
            found = self._client.count(self._name, count_filter=m.Filter(must=[first]), exact=True)
            return int(found.count)

    def close(self) -> None:
        """Close the client."""
        self._is_closed = True
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from qdrant_client.http.exceptions import ApiException

        if self._is_closed:
            raise ClosedError("the backend was closed; open it again")
        try:
            yield
        except ClapError:
            raise
        except (ApiException, OSError, RuntimeError, ValueError) as error:
            raise BackendError(f"Qdrant: {str(error).strip() or type(error).__name__}") from error
