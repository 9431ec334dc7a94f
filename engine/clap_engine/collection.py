"""A collection: sounds on disk that are found by words, by example or by vector.

In:  a folder, an embedder; sources to add, keys to remove, queries.
Out: reports and search results.
Knows nothing about how sounds or texts become vectors, nor how rows are laid out on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clap_engine import compaction, filters, folders, grain, marker, probes, trials, tune
from clap_engine.backups import BackupReport
from clap_engine.catalogue import Catalogue
from clap_engine.compaction import CompactReport
from clap_engine.deadline import Deadline, InTime, Timeout
from clap_engine.errors import CollectionError, DeadlineError, NotFoundError
from clap_engine.events import told
from clap_engine.ingest import AddReport, Embedder, Ingest, items
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.planner import Plan
from clap_engine.query import AnyQuery, Clip, Near, Query, Text
from clap_engine.questions import TimedEmbedder
from clap_engine.reading import Reading
from clap_engine.records import Granularity, NewClip
from clap_engine.request import checked
from clap_engine.search import Explanation, Hit, SearchResult
from clap_engine.snapshots import SnapshotReport
from clap_engine.tune import TuneReport

__all__ = [
    "AddReport", "BackupReport", "Clip", "Collection", "CompactReport", "Embedder", "Explanation",
    "Hit", "Near", "Plan", "Query", "SearchResult", "SnapshotReport", "Text", "TimedEmbedder",
    "TuneReport",
]  # fmt: skip


class Collection(Reading):
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
        watch: bool = False,
    ) -> Collection:
        """Open the collection at `path`; it must exist unless `create=True`.

        A new one finds clips by their windows (granularity "window", the default), by one mean of
        these ("clip"), or by the means first and then the windows ("both"). That stays: another
        `granularity` than the collection's is refused, None takes what is there.

        With `read_only` nothing is changed; a snapshot is opened that way whatever is asked for,
        and then nothing is written anywhere. Readers of a live collection share memory with its
        writer by files beside the database, so they must be able to write there.

        With `watch`, for readers alone, a thread looks for what is newer: a commit, a generation of
        the derived files, another snapshot that `path` leads to by now. It is opened beside what
        serves and takes over between two requests; searches neither look themselves nor wait.

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
        read_only = read_only or marker.is_marked(folder)
        if watch and not read_only:
            raise CollectionError("watch=True is for readers; open it with read_only=True")
        # Files are opened by name for as long as it is open, whatever the working directory then.
        return cls(folder.absolute(), embedder, read_only, calibration, limits, granularity, watch)

    def add(
        self,
        sources: Iterable[Any],
        keys: Iterable[str] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        progress: Callable[[int, str], None] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        timeout_s: Timeout = None,
    ) -> AddReport:
        """Embed and store sounds; one whose key is there already is replaced, or skipped unchanged.

        A key defaults to the POSIX path relative to `root`, or as given without one. Sounds that
        fail are reported, not raised. `progress(done, key)` is called once for each source, when
        its clip is durable. Stored metadata stays where none is given. Where `timeout_s` are
        over, DeadlineError is raised, whose `report` says what was added: whole clips alone.
        """
        if self._embedder is None:
            raise CollectionError("this collection was opened without an embedder; it can't add")
        run = Ingest(
            self._open_writer(), self._embedder,
            limits=self._limits, guard=self._writer.guard, root=root, progress=progress,
            deadline=Deadline.of(timeout_s),
        )  # fmt: skip
        with told(self._embedder, "add") as sizes:
            report = run.run(items(sources, keys, metadata))
            sizes.update(added=report.added, updated=report.updated, failed=len(report.failed))
        self._writer.rebuild_if_due()
        return report

    def put(self, clips: Sequence[NewClip], *, timeout_s: Timeout = None) -> None:
        """Store clips whose vectors are ready, in one durable commit; see ingest for what is due.

        A clip whose key is there already is replaced. On DeadlineError none of them is stored.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        writer = self._open_writer(deadline)
        kept = [grain.kept(clip, writer.granularity) for clip in deadline.checked(clips)]
        with self._writer.held(deadline):
            self._check_open()
            writer.put(InTime(kept, deadline))
        self._writer.rebuild_if_due()

    def remove(self, key: str, *, timeout_s: Timeout = None) -> bool:
        """Remove a clip for good; False when there is none of that key.

        On DeadlineError it is still there.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        writer = self._open_writer(deadline)
        with self._writer.held(deadline):
            self._check_open()
            was_there = isinstance(key, str) and writer.remove(key)
        if was_there:
            self._writer.count_removal()
        return was_there

    def declare_filters(self, fields: Iterable[str], *, timeout_s: Timeout = None) -> None:
        """Index these fields for filters, such as "year" or "artist.name", and no others.

        Filters on other fields work as well; finding what a selective one lets through takes
        longer then, for the first search after a change. The declaration stays with the
        collection. FilterError for a name that no filter could use. On DeadlineError the
        declaration before stays.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        if isinstance(fields, str):
            raise CollectionError("one field was given where a list is wanted; write [field]")
        wanted = [filters.field_of(name) for name in fields]
        writer = self._open_writer(deadline)
        with self._writer.held(deadline), writer.ending(deadline.check):
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
        memory_bytes: int | None = None,
        timeout_s: Timeout = None,
    ) -> TuneReport:
        """Measure which plan finds `target` of the true k best clips soonest, and keep it.

        The sampled queries are `queries` (20 to 1000; texts or vectors of the kind that will be
        asked), else texts that the clips carry and stored windows, see probes. `budget_ms` is the
        median that a search may take, without embedding; where the target can't be had in it,
        the best recall within it is taken, and the report's `is_met` is False. `graph_s` bounds
        what building graphs to try may take, `memory_bytes` what the index may keep in memory (1.6
        GB, or what the smallest graph takes). `progress(share done, what)` is called as it goes.

        The plan is durable before the index is rebuilt for it, which is done at once where the
        index lacks what the plan needs. Both are the collection's own: they outlive this process.

        `timeout_s` is looked at between two parts of it, and graphs that would take longer are not
        begun. On DeadlineError the plan before stays; where it is over once the new one is
        durable, the index is rebuilt in the background.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        self._check_open()
        trials.checked(target, budget_ms, memory_bytes)
        checked(self._limits, k=k)
        writer = self._open_writer(deadline)
        view, search = self._states.refresh(), self._loans.now.search
        if not view.rows:
            raise CollectionError(f"{self.path} is empty; add sounds before it is tuned")
        if queries is None:
            asked = probes.sampled(self._states, view, self._embedder, seed)
        else:
            asked = probes.given(search.vectors(queries), seed)
        deadline.check()
        dim = self._states.identity.dim
        rungs = getattr(self._embedder, "ladder", None) or tune.COARSE_DIMS
        report = tune.tune(
            view, asked, target=target, budget_ms=budget_ms, k=k, seed=seed,
            ladder=(*rungs, dim), default=search.default_plan(view, k),
            graph_s=graph_s if (left_s := deadline.remaining_s) is None else min(graph_s, left_s),
            memory_bytes=memory_bytes, progress=deadline.following(progress),
        )  # fmt: skip
        with self._writer.held(deadline):
            self._check_open()
            writer.put_tuning(report.tuning)
        # What is being built was begun for the plan before.
        if tune.is_short_of(view, report.tuning) or self._writer.is_rebuilding:
            try:
                self._writer.rebuild(deadline)
            except DeadlineError:
                self._writer.rebuild_soon()
        return report

    def rebuild(self, *, wait: bool = True, timeout_s: Timeout = None) -> int:
        """Write a new generation of the derived files from what is committed now; its number.

        Searches, adds and removals go on meanwhile. With `wait=False` it is written in the
        background, as is done where more than 5 % of the windows are not in one; the number is
        then that of the generation that serves until it is there. On DeadlineError nothing was
        replaced.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        self._open_writer(deadline)
        if wait:
            return self._writer.rebuild(deadline)
        self._writer.rebuild_soon()
        return self._states.refresh().number

    def compact(self, *, timeout_s: Timeout = None) -> CompactReport:
        """Give the space of removed clips back: from the derived files, then from the database.

        Searches go on meanwhile, also in other processes; adds and removals wait while the
        database is written anew, which takes room for two more copies of it. On DeadlineError
        each of the two was done whole or not at all.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        self._open_writer(deadline)
        return compaction.compact(self.path, self._states, self._writer, deadline)

    def __enter__(self) -> Collection:
        return self

    def _open_writer(self, deadline: Deadline | None = None) -> Catalogue:
        """The writing connection; the first call takes the lock."""
        self._check_open()
        return self._writer.open(deadline)
