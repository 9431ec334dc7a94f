"""A collection: sounds on disk that are found by words, by example or by vector.

In:  a folder, an embedder; sources to add, keys to remove, queries.
Out: reports and search results.
Knows nothing about how sounds or texts become vectors, nor how rows are laid out on disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from clap_engine import backups, census, compaction, filters, folders, grain, planner, probes, tune
from clap_engine.allow import AllowSets
from clap_engine.backups import BackupReport
from clap_engine.catalogue import Catalogue
from clap_engine.compaction import CompactReport
from clap_engine.errors import (
    ClosedError,
    CollectionError,
    ForkedError,
    IntegrityError,
    NotFoundError,
)
from clap_engine.ingest import AddReport, Embedder, Ingest, items
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.planner import Plan, Shortlist
from clap_engine.query import AnyQuery, Clip, Near, Query, Text
from clap_engine.questions import TimedEmbedder
from clap_engine.records import Granularity, NewClip
from clap_engine.request import checked
from clap_engine.search import Explanation, Hit, Search, SearchResult
from clap_engine.states import States
from clap_engine.tune import TuneReport
from clap_engine.writer import Writer

__all__ = [
    "AddReport", "BackupReport", "Clip", "Collection", "CompactReport", "Embedder", "Explanation",
    "Hit", "Near", "Plan", "Query", "SearchResult", "Text", "TimedEmbedder", "TuneReport",
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
        granularity: Granularity | None = None,
        calibration: Mapping[str, float] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Collection:
        """Open the collection at `path`; it must exist unless `create=True`.

        A new one finds clips by their windows (granularity "window", the default), by one mean of
        these ("clip"), or by the means first and then the windows ("both"). That stays: another
        `granularity` than the collection's is refused, None takes what is there.

        Without an embedder it can be inspected and searched by vector. `calibration` defaults to
        the embedder's own; `text_mean` and `text_std` (or `audio_mean`, `audio_std` for queries
        by example) are the background that turns a score into a probability;
        `shortlist_per_sqrt_row` is how long a shortlist this space needs.
        """
        folder = Path(path)
        folders.check_granularity(granularity, None, folder)
        if create and read_only:
            raise CollectionError("create=True and read_only=True exclude each other; drop one")
        if create:
            if embedder is None:
                raise CollectionError("a new collection needs an embedder to bind to; give one")
            folders.create(folder, embedder, granularity or "window")
        elif not folder.is_dir():
            raise NotFoundError(f"{folder} does not exist; create=True makes a new collection")
        # Files are opened by name for as long as it is open, whatever the working directory then.
        return cls(folder.absolute(), embedder, read_only, calibration, limits, granularity)

    def __init__(
        self,
        folder: Path,
        embedder: Embedder | None,
        read_only: bool,
        calibration: Mapping[str, float] | None,
        limits: Limits,
        granularity: Granularity | None = None,
    ) -> None:
        """Use open()."""
        self.path = folder
        self._embedder = embedder
        self._read_only = read_only
        self._limits = limits
        self._pid = os.getpid()
        self._closed = False
        known = dict(calibration or getattr(embedder, "calibration", None) or {})
        self._states = States(folder, read_only=read_only, per_sqrt_row=planner.measured(known))
        self._allow = AllowSets(self._states, folder, read_only=read_only)
        self._writer = Writer(folder, self._states, read_only=read_only)
        try:
            folders.check_granularity(granularity, self._states.reader.granularity, folder)
            if embedder is not None:
                folders.check_space(self._states.identity, embedder, folder)
            self._search = Search(self._states, self._allow, embedder, known)
            try:
                self._states.refresh()
            except IntegrityError as error:
                # Open all the same: verify() can say more, and the clip may be replaced.
                log.warning("%s", error)
            self._writer.repair()
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
        differ from those before them. `shortlist` is how many windows are scored exactly (of
        granularity "both": of how many clips all are): a number, "all", or None for the
        planner's choice. With `explain` the result says which
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
        return census.of(self.path, self._states, self._writer)

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
            limits=self._limits, guard=self._writer.guard, root=root, progress=progress,
        )  # fmt: skip
        report = run.run(items(sources, keys, metadata))
        self._writer.rebuild_if_due()
        return report

    def put(self, clips: Sequence[NewClip]) -> None:
        """Store clips whose vectors are ready, in one durable commit; see ingest for what is due.

        A clip whose key is there already is replaced.
        """
        writer = self._open_writer()
        with self._writer.guard:
            self._check_open()
            writer.put([grain.kept(clip, writer.granularity) for clip in clips])
        self._writer.rebuild_if_due()

    def remove(self, key: str) -> bool:
        """Remove a clip for good; False when there is none of that key."""
        writer = self._open_writer()
        with self._writer.guard:
            self._check_open()
            was_there = isinstance(key, str) and writer.remove(key)
        if was_there:
            self._writer.count_removal()
        return was_there

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
        with self._writer.guard:
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
        graph_s: float = 300.0,
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
        with self._writer.guard:
            self._check_open()
            writer.put_tuning(report.tuning)
        # What is being built was begun for the plan before.
        if tune.is_short_of(view, report.tuning) or self._writer.is_rebuilding:
            self._writer.rebuild()
        return report

    def rebuild(self, *, wait: bool = True) -> int:
        """Write a new generation of the derived files from what is committed now; its number.

        Searches, adds and removals go on meanwhile. With `wait=False` it is written in the
        background, as is done where more than 5 % of the windows are not in one; the number is
        then that of the generation that serves until it is there.
        """
        self._open_writer()
        if wait:
            return self._writer.rebuild()
        self._writer.rebuild_soon()
        return self._states.refresh().number

    def compact(self) -> CompactReport:
        """Give the space of removed clips back: from the derived files, then from the database.

        Searches go on meanwhile, also in other processes; adds and removals wait while the
        database is written anew, which takes room for two more copies of it.
        """
        self._open_writer()
        return compaction.compact(self.path, self._states, self._writer)

    def backup(self, folder: str | os.PathLike[str]) -> BackupReport:
        """Copy what is committed now to `folder`, new or empty, while reading and writing go on.

        The copy is a collection like any other, checked from end to end before it gets that name;
        a backup that was cut off leaves none. IntegrityError where this one is damaged.
        """
        self._check_open()
        return backups.backup(self.path, folder, self._check_open)

    def close(self, *, wait: bool = True) -> None:
        """Give the lock and the connections back; a second call does nothing.

        Derived files that are being rebuilt in the background are finished first; with
        `wait=False` the rebuild ends, and the older ones serve on.
        """
        if os.getpid() != self._pid:
            return  # the connections belong to the parent: closing them here could harm it
        with self._writer.guard:
            self._closed = True
        self._writer.close(wait=wait)
        self._allow.close()
        self._states.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)

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
        return self._writer.open()
