"""A collection: sounds on disk that are found by words, by example or by vector.

In:  a folder, an embedder; sources to add, keys to remove, queries.
Out: reports and search results.
Knows nothing about how sounds or texts become vectors, nor how rows are laid out on disk.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from types import TracebackType
from typing import Any

from clap_engine import planner, storage
from clap_engine.catalogue import FORMAT, Catalogue
from clap_engine.errors import (
    ClosedError,
    CollectionError,
    ForkedError,
    IntegrityError,
    LockedError,
    NotFoundError,
    RebuildWarning,
    SpaceMismatchError,
)
from clap_engine.index import coarse
from clap_engine.ingest import AddReport, Embedder, Ingest, Item
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.planner import Plan, Shortlist
from clap_engine.records import Identity
from clap_engine.search import Clip, Hit, Query, Search, SearchResult, TimedEmbedder
from clap_engine.states import DATABASE, States

__all__ = [
    "AddReport", "Clip", "Collection", "Embedder", "Hit", "Plan", "SearchResult", "TimedEmbedder",
]  # fmt: skip

log = logging.getLogger("clap_engine")

_LOCK = "writer.lock"


class Collection:
    """An open collection: searches from many threads, one writing process at a time.

    The first write takes the writer's lock and keeps it until close().
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        create: bool = False,
        read_only: bool = False,
        calibration: Mapping[str, float] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Collection:
        """Open the collection at `path`; it must exist unless `create=True`.

        Without an embedder it can be inspected and searched by vector. `calibration` defaults to
        the embedder's own; `text_mean` and `text_std` (or `audio_mean`, `audio_std` for queries
        by example) are the background that turns a score into a probability;
        `shortlist_per_sqrt_row` is how long a shortlist this space needs.
        """
        folder = Path(path)
        if create and read_only:
            raise CollectionError("create=True and read_only=True exclude each other; drop one")
        if create:
            if embedder is None:
                raise CollectionError("a new collection needs an embedder to bind to; give one")
            _create(folder, embedder)
        elif not folder.is_dir():
            raise NotFoundError(f"{folder} does not exist; create=True makes a new collection")
        return cls(folder, embedder, read_only, calibration, limits)

    def __init__(
        self,
        folder: Path,
        embedder: Embedder | None,
        read_only: bool,
        calibration: Mapping[str, float] | None,
        limits: Limits,
    ) -> None:
        """Use open()."""
        self.path = folder
        self._embedder = embedder
        self._read_only = read_only
        self._limits = limits
        self._pid = os.getpid()
        self._closed = False
        known = dict(calibration or getattr(embedder, "calibration", None) or {})
        self._write_guard = threading.RLock()  # the writing connection and the file lock
        self._file_lock = storage.FileLock(folder / _LOCK)
        self._writer: Catalogue | None = None
        self._states = States(folder, read_only=read_only, per_sqrt_row=planner.measured(known))
        try:
            if embedder is not None:
                _check_space(self._states.identity, embedder, folder)
            self._search = Search(self._states, embedder, known, limits)
            try:
                self._states.refresh()
            except IntegrityError as error:
                # Open all the same: verify() can say more, and the clip may be replaced.
                log.warning("%s", error)
            self._repair()
        except BaseException:
            self.close()
            raise

    def search(self, query: Query, k: int = 10, *, shortlist: Shortlist = None) -> SearchResult:
        """The k best clips for a text, a Clip or a vector [D].

        `shortlist` is how many windows are scored exactly: a number, "all", or None for the
        planner's choice.
        """
        self._check_open()
        return self._search.run(query, k, shortlist)

    def __len__(self) -> int:
        """Clips."""
        self._check_open()
        with self._states.guard:
            return self._states.reader.state().clips

    def __contains__(self, key: object) -> bool:
        self._check_open()
        with self._states.guard:
            return isinstance(key, str) and self._states.reader.find(key) is not None

    def keys(self) -> list[str]:
        """Every key, sorted."""
        self._check_open()
        with self._states.guard:
            return self._states.reader.keys()

    def info(self) -> dict[str, Any]:
        """What the collection is and holds, as JSON values."""
        self._check_open()
        with self._states.held() as view:
            state, duration_s = self._states.reader.state(), self._states.reader.duration_s()
        identity = self._states.identity
        files = [file for file in self.path.rglob("*") if file.is_file()]
        return {
            "path": os.fspath(self.path),
            "format": FORMAT,
            "bundle_id": identity.bundle_id,
            "revision": identity.revision,
            "space_id": identity.space_id,
            "dim": identity.dim,
            "created_s": identity.created_s,
            "clips": state.clips,
            "windows": state.windows,
            "duration_s": duration_s,
            "size_bytes": sum(file.stat().st_size for file in files),
            "generation": view.number,
            "tail_rows": len(view.tail),
            "removed_rows": view.dead,
            "index": "hnsw" if view.coarse is not None else "flat",
            "hnswlib": coarse.is_available(),
        }

    def verify(self) -> list[str]:
        """Read every byte again; what is wrong with it, empty when nothing is."""
        self._check_open()
        return self._states.problems()

    def add(
        self,
        sources: Iterable[Any],
        keys: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        progress: Callable[[int, str], None] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
    ) -> AddReport:
        """Embed and store sounds; one whose key is there already is replaced, or skipped unchanged.

        A key defaults to the POSIX path relative to `root`, or as given without one. Sounds that
        fail are reported, not raised. `progress(done, key)` is called once for each source, when
        its clip is durable. Stored metadata stays where none is given.
        """
        if self._embedder is None:
            raise CollectionError("this collection was opened without an embedder; it can't add")
        run = Ingest(
            self._open_writer(), self._embedder,
            limits=self._limits, guard=self._write_guard, root=root, progress=progress,
        )  # fmt: skip
        report = run.run(_items(sources, keys, metadata))
        self._rebuild_if_due()
        return report

    def remove(self, key: str) -> bool:
        """Remove a clip for good; False when there is none of that key."""
        writer = self._open_writer()
        with self._write_guard:
            self._check_open()
            return isinstance(key, str) and writer.remove(key)

    def rebuild(self) -> int:
        """Write a new generation of the derived files now; its number."""
        writer = self._open_writer()
        with self._write_guard:
            self._check_open()
            return self._states.rebuild(writer)

    def close(self) -> None:
        """Give the lock and the connections back; a second call does nothing."""
        if os.getpid() != self._pid:
            return  # the connections belong to the parent: closing them here could harm it
        with self._write_guard:
            self._closed = True
            self._states.close()
            if self._writer is not None:
                self._writer.close()
            self._file_lock.release()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._states.identity.bundle_id}"
        return f"<Collection {os.fspath(self.path)}, {state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} was closed; open the collection again")
        if os.getpid() != self._pid:
            raise ForkedError(
                f"{self.path} was opened before fork(); open it again in the child, "
                "or start processes with 'spawn'"
            )

    def _open_writer(self) -> Catalogue:
        """The writing connection; the first call takes the lock."""
        self._check_open()
        if self._read_only:
            raise CollectionError(f"{self.path} is open with read_only=True; open it without")
        with self._write_guard:
            if self._writer is None:
                self._file_lock.acquire()
                self._writer = Catalogue(self.path / DATABASE, read_only=False)
            return self._writer

    def _rebuild_if_due(self) -> None:
        view = self._states.refresh()
        if planner.is_generation_due(len(view.base), view.stale):
            try:
                self.rebuild()
            except (storage.StorageError, IntegrityError) as error:
                # What was added is safe without it, and found: the tail is only slower.
                text = f"the derived files of {self.path} stay as they were: {error}"
                log.warning("%s", text)
                warnings.warn(text, RebuildWarning, stacklevel=3)

    def _repair(self) -> None:
        """Replace a damaged generation, if this process may write and nobody else does."""
        if self._read_only or not self._states.is_damaged:
            return
        try:
            self._file_lock.acquire(timeout_s=0)
        except LockedError:
            return  # the writer will; until then all rows are served from the truth
        try:
            self.rebuild()
        except storage.StorageError as error:
            log.warning("the derived files of %s can't be rebuilt: %s", self.path, error)
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._file_lock.release()


def _create(folder: Path, embedder: Embedder) -> None:
    """Make an empty collection, whole or not at all; one that is there stays as it is."""
    database = folder / DATABASE
    try:
        Catalogue(database, read_only=True).close()
        return
    except NotFoundError:  # also when its making was cut off
        pass
    if folder.exists() and not folder.is_dir():
        raise CollectionError(f"{folder} is a file; give a folder for the collection")
    ours = (_LOCK, DATABASE)
    if folder.is_dir():
        strange = [entry.name for entry in folder.iterdir() if not entry.name.startswith(ours)]
        if strange:
            raise CollectionError(
                f"{folder} holds other files ({strange[0]}); give a new or empty folder"
            )
    storage.make_dir(folder, parents=True)
    lock = storage.FileLock(folder / _LOCK)
    lock.acquire()
    try:
        Catalogue.create(
            database,
            bundle_id=embedder.bundle_id,
            revision=embedder.revision,
            space_id=embedder.space_id,
            dim=embedder.dim,
        )
        storage.fsync_dir(folder)
    finally:
        lock.release()


def _check_space(identity: Identity, embedder: Embedder, folder: Path) -> None:
    """SpaceMismatchError unless the embedder's vectors belong into this collection."""
    if (embedder.space_id, embedder.dim) != (identity.space_id, identity.dim):
        raise SpaceMismatchError(
            f"{folder} was made with {identity.bundle_id} (space {identity.space_id[:12]}), "
            f"this is {embedder.bundle_id} (space {embedder.space_id[:12]}); "
            "open it with that bundle, or index the sounds into a new collection"
        )
    if embedder.revision != identity.revision:
        log.info(
            "%s was made with revision %s of %s; %s has the same embedding space",
            folder, identity.revision[:12], identity.bundle_id, embedder.revision[:12],
        )  # fmt: skip


def _items(
    sources: Iterable[Any],
    keys: Iterable[str] | None,
    metadata: Iterable[Mapping[str, Any] | None] | None,
) -> Iterator[Item]:
    """Sources with their keys and metadata, refused unless there are as many of each."""
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise CollectionError("one sound was given where a list is wanted; write [sound]")
    rest: list[tuple[str, Iterator[Any]]] = []
    for name, values in (("keys", keys), ("metadata", metadata)):
        if values is None:
            continue
        if isinstance(values, (str, Mapping)):
            raise CollectionError(f"{name} must be a list, one for each sound")
        if isinstance(values, Sized) and isinstance(sources, Sized) and len(values) != len(sources):
            raise CollectionError(f"{len(values)} {name} were given for {len(sources)} sounds")
        rest.append((name, iter(values)))
    return _joined(sources, rest)


def _joined(sources: Iterable[Any], rest: list[tuple[str, Iterator[Any]]]) -> Iterator[Item]:
    for number, source in enumerate(sources):
        facts: dict[str, Any] = {"keys": None, "metadata": None}
        for name, values in rest:
            try:
                facts[name] = next(values)
            except StopIteration:
                raise CollectionError(f"there are only {number} {name}; give one a sound") from None
        yield Item(source, facts["keys"], facts["metadata"])
