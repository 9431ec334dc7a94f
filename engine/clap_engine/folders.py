"""A collection's folder: made whole or not at all, and bound to one embedding space.

In:  a folder, an embedder.
Out: an empty collection on disk; SpaceMismatchError where an embedder belongs to another one.
Knows nothing about clips, searching or open collections.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clap_engine import schema, storage
from clap_engine.catalogue import Catalogue
from clap_engine.errors import CollectionError, NotFoundError, SpaceMismatchError
from clap_engine.ingest import Embedder
from clap_engine.records import GRANULARITIES, Granularity, Identity
from clap_engine.states import DATABASE

log = logging.getLogger("clap_engine")

LOCK = "writer.lock"


def create(folder: Path, embedder: Embedder, granularity: Granularity = "window") -> None:
    """Make an empty collection, whole or not at all; one that is there stays as it is."""
    database = folder / DATABASE
    try:
        Catalogue(database, read_only=True).close()
        return
    except NotFoundError:  # also when its making was cut off
        pass
    if folder.exists() and not folder.is_dir():
        raise CollectionError(f"{folder} is a file; give a folder for the collection")
    ours = (LOCK, DATABASE)
    if folder.is_dir():
        strange = [entry.name for entry in folder.iterdir() if not entry.name.startswith(ours)]
        if strange:
            raise CollectionError(
                f"{folder} holds other files ({strange[0]}); give a new or empty folder"
            )
    storage.make_dir(folder, parents=True)
    lock = storage.FileLock(folder / LOCK)
    lock.acquire()
    try:
        create_database(database, embedder, granularity)
    finally:
        lock.release()


def create_database(
    path: Path, embedder: Embedder, granularity: Granularity, numbers_after: int = 0
) -> None:
    """An empty catalogue bound to the embedder's space, durable; see schema.create."""
    schema.create(
        path,
        bundle_id=embedder.bundle_id,
        revision=embedder.revision,
        space_id=embedder.space_id,
        dim=embedder.dim,
        granularity=granularity,
        numbers_after=numbers_after,
    )
    storage.fsync_dir(path.parent)


def check_granularity(wanted: object, found: Granularity | None, folder: Path) -> None:
    """CollectionError unless `wanted` is None, or known and what was found; None: not made yet."""
    if wanted is None:
        return
    if wanted not in GRANULARITIES:
        raise CollectionError(f"granularity is {wanted!r}; give {', '.join(GRANULARITIES)} or None")
    if found is not None and wanted != found:
        raise CollectionError(
            f"{folder} was made with granularity {found}, and {wanted} was asked for; open it "
            "without one, or index the sounds into a new collection"
        )


def check_space(identity: Identity, embedder: Embedder, folder: Path) -> None:
    """SpaceMismatchError unless the embedder's vectors belong into this collection."""
    if (embedder.space_id, embedder.dim) != (identity.space_id, identity.dim):
        raise SpaceMismatchError(
            f"{folder} was made with {identity.bundle_id} (space {identity.space_id[:12]}), "
            f"this is {embedder.bundle_id} (space {embedder.space_id[:12]}); "
            "open it with that bundle, or migrate it to this one"
        )
    if embedder.revision != identity.revision:
        log.info(
            "%s was made with revision %s of %s; %s has the same embedding space",
            folder, identity.revision[:12], identity.bundle_id, embedder.revision[:12],
        )  # fmt: skip
