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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from clap_engine import filters, folders, planner, probes, storage, tune
from clap_engine.allow import AllowSets
from clap_engine.catalogue import Catalogue
from clap_engine.errors import (
    ClosedError,
    CollectionError,
    ForkedError,
    IntegrityError,
    LockedError,
    NotFoundError,
    RebuildWarning,
)
from clap_engine.index import coarse
from clap_engine.ingest import AddReport, Embedder, Ingest, items
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.planner import Plan, Shortlist
from clap_engine.query import AnyQuery, Clip, Near, Query, Text
from clap_engine.questions import TimedEmbedder
from clap_engine.records import NewClip
from clap_engine.request import checked
from clap_engine.search import Explanation, Hit, Search, SearchResult
from clap_engine.states import DATABASE, States
from clap_engine.tune import TuneReport

__all__ = [
    "AddReport", "Clip", "Collection", "Embedder", "Explanation", "Hit", "Near", "Plan", "Query",
    "SearchResult", "Text", "TimedEmbedder", "TuneReport",
]  # fmt: skip

log = logging.getLogger("clap_engine")


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
            folders.create(folder, embedder)
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
        self._file_lock = storage.FileLock(folder / folders.LOCK)
        self._writer: Catalogue | None = None
        self._states = States(folder, read_only=read_only, per_sqrt_row=planner.measured(known))
        self._allow = AllowSets(self._states, folder, read_only=read_only)
        try:
            if embedder is not None:
                folders.check_space(self._states.identity, embedder, folder)
            self._search = Search(self._states, self._allow, embedder, known)
            try:
                self._states.refresh()
            except IntegrityError as error:
                # Open all the same: verify() can say more, and the clip may be replaced.
                log.warning("%s", error)
            self._repair()
        except BaseException:
            self.close()
            raise

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        min_calibrated: float | None = None,
        collapse: float | None = None,
        diversity: float = 0.0,
        shortlist: Shortlist = None,
        explain: bool = False,
    ) -> SearchResult:
        """The k best clips for a text, a Clip, a stored clip Near(key), a Query or a vector [D].

        `where` is a filter such as {"year": {">=": 1970}} on metadata, key, path and duration_s;
        FilterError says what is wrong with it. Hits below `min_score` or below the probability
        `min_calibrated` are left out. `collapse` is a cosine: a clip that is more alike than that
        to a better hit is named among its duplicates. `diversity`, 0 to 1, prefers hits that
        differ from those before them. `shortlist` is how many windows are scored exactly: a
        number, "all", or None for the planner's choice. With `explain` the result says which
        plan ran and why, stage by stage.
        """
        self._check_open()
        request = checked(
            self._limits, k=k, shortlist=shortlist, where=where, min_score=min_score,
            min_calibrated=min_calibrated, collapse=collapse, diversity=diversity,
            explain=explain,
        )  # fmt: skip
        return self._search.run(query, request)

    def search_batch(
        self, queries: Iterable[AnyQuery], k: int = 10, **options: Any
    ) -> list[SearchResult]:
        """What `search` finds for each query, with the same options, all in one state.

        Texts are embedded together and scans are shared; a result's milliseconds hold its share.
        """
        self._check_open()
        if isinstance(queries, (str, bytes)):
            raise CollectionError("one query was given where a list is wanted; write [query]")
        return self._search.run_batch(list(queries), checked(self._limits, k=k, **options))

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
            fields, version = self._states.reader.filter_fields(), self._states.reader.format()
            tuning = self._states.tuning
        identity = self._states.identity
        files = [file for file in self.path.rglob("*") if file.is_file()]
        return {
            "path": os.fspath(self.path),
            "format": version,
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
            "filters": fields,
            "prefix_dim": view.prefix_dim,
            "plan": None if tuning is None else asdict(tuning),
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
        report = run.run(items(sources, keys, metadata))
        self._rebuild_if_due()
        return report

    def put(self, clips: Sequence[NewClip]) -> None:
        """Store clips whose vectors are ready, in one durable commit; see ingest for what is due.

        A clip whose key is there already is replaced.
        """
        writer = self._open_writer()
        with self._write_guard:
            self._check_open()
            writer.put(clips)
        self._rebuild_if_due()

    def remove(self, key: str) -> bool:
        """Remove a clip for good; False when there is none of that key."""
        writer = self._open_writer()
        with self._write_guard:
            self._check_open()
            return isinstance(key, str) and writer.remove(key)

    def declare_filters(self, fields: Iterable[str]) -> None:
        """Index these fields for filters, such as "year" or "artist.name", and no others.

        Filters on other fields work as well; finding what a selective one lets through takes
        longer then, for the first search after a change. The declaration stays with the
        collection. FilterError for a name that no filter could use.
        """
        if isinstance(fields, str):
            raise CollectionError("one field was given where a list is wanted; write [field]")
        wanted = [filters.field_of(name) for name in fields]
        writer = self._open_writer()
        with self._write_guard:
            self._check_open()
            writer.index_filters(wanted)

    def tune(
        self,
        target: float = 0.99,
        budget_ms: float | None = None,
        k: int = 10,
        queries: Sequence[AnyQuery] | None = None,
        progress: Callable[[float, str], None] | None = None,
        *,
        seed: int = 0,
        graph_s: float = 60.0,
    ) -> TuneReport:
        """Measure which plan finds `target` of the true k best clips soonest, and keep it.

        The sampled queries are `queries` (20 to 1000; texts or vectors of the kind that will be
        asked), else texts that the clips carry and stored windows, see probes. `budget_ms` is the
        median that a search may take, without embedding; where the target can't be had in it,
        the best recall within it is taken, and the report's `is_met` is False. `graph_s` bounds
        what building graphs to try may take. `progress(share done, what)` is called as it goes.

        The plan is durable before the index is rebuilt for it, which is done at once where the
        index lacks what the plan needs. Both are the collection's own: they outlive this process.
        """
        self._check_open()
        tune.checked(target, budget_ms)
        checked(self._limits, k=k)
        writer = self._open_writer()
        view = self._states.refresh()
        if not view.rows:
            raise CollectionError(f"{self.path} is empty; add sounds before it is tuned")
        if queries is None:
            asked = probes.sampled(self._states, view, self._embedder, seed)
        else:
            asked = probes.given(self._search.vectors(queries), seed)
        dim = self._states.identity.dim
        rungs = getattr(self._embedder, "ladder", None) or tune.COARSE_DIMS
        report = tune.tune(
            view, asked, target=target, budget_ms=budget_ms, k=k, seed=seed,
            ladder=(*rungs, dim), default=self._search.default_plan(view, k), graph_s=graph_s,
            progress=progress or (lambda share, what: None),
        )  # fmt: skip
        with self._write_guard:
            self._check_open()
            writer.put_tuning(report.tuning)
            if tune.is_short_of(view, report.tuning):
                self._states.rebuild(writer)
        return report

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
            self._allow.close()
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
