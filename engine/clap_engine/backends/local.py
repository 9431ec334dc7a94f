"""A collection on this machine as a backend.

In:  a folder.
Out: a backend over the collection there.
Knows nothing about how a collection stores or finds rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clap_engine.arrays import Float32
from clap_engine.backends.base import BackendHit, ClipRows, Space, check_clips, check_query
from clap_engine.collection import Collection
from clap_engine.errors import CollectionError
from clap_engine.index.vectors import pack
from clap_engine.planner import Shortlist
from clap_engine.records import NewClip


class LocalBackend:
    """Safe in many threads, as its collection is; one process writes."""

    @classmethod
    def open(cls, url: str, space: Space | None, create: bool) -> LocalBackend:
        """The collection in the folder `url`, made if it is missing and `create` says so."""
        embedder = None if space is None else _Given(space)
        return cls(Collection.open(url, embedder=embedder, create=create))

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        facts = collection.info()
        self.space = Space(facts["space_id"], facts["dim"], facts["bundle_id"], facts["revision"])

    def upsert(self, clips: Sequence[ClipRows]) -> None:
        """Store clips in one durable commit; each takes the place of the one of its key."""
        self.collection.put(
            [
                NewClip(
                    clip.key,
                    clip.path,
                    None,
                    None,
                    "",
                    clip.duration_s,
                    text,
                    pack(clip.vectors),
                    clip.spans,
                )
                for clip, text in check_clips(clips, self.space.dim)
            ]
        )

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these clips, each in a commit of its own."""
        for key in keys:
            self.collection.remove(key)

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
        _, full = check_query(prefix, full, self.space.dim, k)
        found = self.collection.search(full, k, where=where, shortlist=shortlist)
        return [
            BackendHit(hit.key, hit.score, hit.start_s, hit.end_s, hit.metadata)
            for hit in found.hits
        ]

    def count(self) -> int:
        """Clips."""
        return len(self.collection)

    def close(self) -> None:
        """Close the collection."""
        self.collection.close()


class _Given:
    """Stands where a collection wants an embedder: it names the space, and embeds nothing."""

    def __init__(self, space: Space) -> None:
        self.space_id, self.dim = space.space_id, space.dim
        self.bundle_id, self.revision = space.bundle_id, space.revision
        self.ladder: tuple[int, ...] = ()

    def embed_text(self, texts: list[str]) -> Float32:
        raise CollectionError("a backend has no model; embed the text first")

    def embed_windows(self, source: Any) -> tuple[Float32, Any, float]:
        raise CollectionError("a backend has no model; embed the sound first")
