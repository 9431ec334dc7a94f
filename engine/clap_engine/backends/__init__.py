"""Clips on an engine of your choice, past one machine too, behind one interface.

In:  a URL that says which engine, and the embedding space whose vectors belong there.
Out: a `VectorBackend`.
Knows nothing about models, sounds or how an engine stores rows; imports the one asked for alone.
"""

from __future__ import annotations

from clap_engine.backends.base import (
    BackendError,
    BackendHit,
    ClipRows,
    Space,
    VectorBackend,
    clips_of,
    row_id,
)
from clap_engine.errors import CollectionError

__all__ = [
    "BackendError", "BackendHit", "ClipRows", "Space", "VectorBackend", "clips_of", "is_url",
    "open_backend", "row_id",
]  # fmt: skip

_FORMS = (
    "a collection's folder, postgresql://USER@HOST/DATABASE?table=NAME, "
    "qdrant://HOST:PORT/COLLECTION, qdrant+https://, qdrant+local:FOLDER, qdrant+edge:FOLDER"
)


def is_url(place: str) -> bool:
    """Whether this names an engine, not a collection's folder on this machine."""
    return "://" in place or place.startswith(("qdrant+local:", "qdrant+edge:"))


def open_backend(url: str, *, space: Space | None = None, create: bool = False) -> VectorBackend:
    """The backend at `url`; with `create`, made if it is missing, which needs a `space`.

    A path opens a collection on this machine. Raises CollectionError for an unknown form,
    NotFoundError for what is missing, SpaceMismatchError for vectors of another space or dim,
    DependencyError without the engine's client, BackendError where the engine fails.
    """
    scheme = url.split(":")[0] if is_url(url) else ""
    if create and space is None:
        raise CollectionError("create=True needs a space to bind to; give Space.of(engine)")
    if scheme in ("postgresql", "postgres"):
        from clap_engine.backends.pgvector import PgVectorBackend

        return PgVectorBackend.open(url, space, create)
    if scheme == "qdrant+edge":
        from clap_engine.backends.qdrant_edge import QdrantEdgeBackend

        return QdrantEdgeBackend.open(url, space, create)
    if scheme in ("qdrant", "qdrant+https", "qdrant+local"):
        from clap_engine.backends.qdrant import QdrantBackend

        return QdrantBackend.open(url, space, create)
    if scheme:
        raise CollectionError(f"the URL scheme {scheme!r:.40} is unknown; give {_FORMS}")
    from clap_engine.backends.local import LocalBackend

    return LocalBackend.open(url, space, create)
