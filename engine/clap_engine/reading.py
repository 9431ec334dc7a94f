"""A collection as it is read: searches, what is stored, copies, following what is newer.

In:  a place that is opened; queries, keys.
Out: search results, records, reports.
Knows nothing about what is written, or how.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from clap_engine import backups, census, planner, snapshots, stored
from clap_engine.answers.draft import Facts
from clap_engine.answers.face import AnswerFace
from clap_engine.backups import BackupReport
from clap_engine.deadline import Deadline, Timeout
from clap_engine.errors import ClosedError, CollectionError
from clap_engine.following import Follower
from clap_engine.ingest import Embedder
from clap_engine.limits import Limits
from clap_engine.planner import Shortlist
from clap_engine.query import AnyQuery
from clap_engine.records import Granularity
from clap_engine.request import checked
from clap_engine.search import SearchResult
from clap_engine.serving import Loans, Serving, Terms
from clap_engine.snapshots import SnapshotReport
from clap_engine.states import States
from clap_engine.stored import ClipVectors, StoredClip
from clap_engine.writer import Writer


class Reading(AnswerFace):
    """An open collection, as far as it is read: from many threads at once."""

    def __init__(
        self,
        folder: Path,
        embedder: Embedder | None,
        read_only: bool,
        calibration: Mapping[str, float] | None,
        limits: Limits,
        granularity: Granularity | None = None,
        watch: bool = False,
    ) -> None:
        """Use open()."""
        self.path = folder
        self._embedder = embedder
        self._read_only = read_only
        self._limits = limits
        self._pid = os.getpid()
        self._closed = False
        known = dict(calibration or getattr(embedder, "calibration", None) or {})
        self._terms = Terms(embedder, known, limits, granularity, read_only)
        serving = Serving.at(folder, self._terms)
        self._loans = Loans(serving)
        self._follower = Follower(folder, self._terms, self._loans)
        self._fork_guard = threading.Lock()
        self._writer = Writer(serving.folder, serving.states, read_only=read_only)
        try:
            self._writer.repair()
            if watch:
                self._follower.start()
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
        timeout_s: Timeout = None,
    ) -> SearchResult:
        """The k best clips for a text, a Clip, a stored clip Near(key), a Query or a vector [D].

        `where` is a filter such as {"year": {">=": 1970}} on metadata, key, path and duration_s;
        FilterError says what is wrong with it. Hits below `min_score` or below the probability
        `min_calibrated` are left out. `collapse` is a cosine: a clip that is more alike than that
        to a better hit is named among its duplicates. `diversity`, 0 to 1, prefers hits that
        differ from those before them. `shortlist` is how many windows are scored exactly (of
        granularity "both": of how many clips all are): a number, "all", or None for the
        planner's choice. With `explain` the result says which
        plan ran and why, stage by stage. DeadlineError where it takes longer than `timeout_s`.
        """
        self._check_open()
        request = checked(
            self._limits, k=k, shortlist=shortlist, where=where, min_score=min_score,
            min_calibrated=min_calibrated, collapse=collapse, diversity=diversity,
            explain=explain, timeout_s=timeout_s,
        )  # fmt: skip
        with self._loans.lent() as now:
            return now.search.run(query, request)

    def search_batch(
        self, queries: Iterable[AnyQuery], k: int = 10, **options: Any
    ) -> list[SearchResult]:
        """What `search` finds for each query, with the same options, all in one state.

        Texts are embedded together and scans are shared; a result's milliseconds hold its share.
        """
        self._check_open()
        if isinstance(queries, (str, bytes)):
            raise CollectionError("one query was given where a list is wanted; write [query]")
        request = checked(self._limits, k=k, **options)
        with self._loans.lent() as now:
            return now.search.run_batch(list(queries), request)

    def _answer_facts(self) -> Facts:
        """What a question's reader needs to know."""
        self._check_open()
        with self._loans.lent() as now, now.states.guard:
            return Facts(tuple(now.states.reader.filter_fields()), self.__contains__)

    def __len__(self) -> int:
        """Clips."""
        self._check_open()
        with self._loans.lent() as now, now.states.guard:
            return now.states.reader.state().clips

    def __contains__(self, key: object) -> bool:
        self._check_open()
        with self._loans.lent() as now, now.states.guard:
            return isinstance(key, str) and now.states.reader.find(key) is not None

    def keys(self) -> list[str]:
        """Every key, sorted."""
        self._check_open()
        with self._loans.lent() as now, now.states.guard:
            return now.states.reader.keys()

    def clip(self, key: str) -> StoredClip | None:
        """The clip of that key, without its vectors; None when there is none."""
        self._check_open()
        with self._loans.lent() as now:
            return stored.clip(now.states, key)

    def clip_vectors(
        self, keys: Sequence[str] | None = None, *, most: int = 2000, seed: int = 0
    ) -> ClipVectors:
        """Mean vectors [N, D] of the clips of these keys, or of a sample of at most `most`."""
        self._check_open()
        with self._loans.lent() as now:
            if keys is None:
                return stored.sample(now.states, most, seed)
            return stored.vectors(now.states, keys)

    def info(self) -> dict[str, Any]:
        """What the collection is and holds, as JSON values."""
        self._check_open()
        with self._loans.lent() as now:
            return census.of(self.path, now.states, self._writer)

    def verify(self, *, timeout_s: Timeout = None) -> list[str]:
        """Read every byte again; what is wrong with it, empty when nothing is.

        Searches go on meanwhile. `timeout_s` is looked at between two parts of it.
        """
        deadline = Deadline.of(timeout_s)
        deadline.check()
        self._check_open()
        with self._loans.lent() as now:
            return now.problems(deadline.check)

    def refresh(self) -> bool:
        """Serve what is newest now; whether that is other than what served before.

        For a snapshot that is the one which its path leads to by now: requests under way go on with
        the one before. A live collection shows its last commit to each search in any case.
        IntegrityError, SpaceMismatchError: what is there can't take over, and what served goes on.
        """
        self._check_open()
        return self._follower.refresh()

    def backup(self, folder: str | os.PathLike[str], *, timeout_s: Timeout = None) -> BackupReport:
        """Copy what is committed now to `folder`, new or empty, while reading and writing go on.

        The copy is a collection like any other, checked from end to end before it gets that name;
        a backup that was cut off, by DeadlineError too, leaves none. IntegrityError where this one
        is damaged.
        """
        check = self._in_time(timeout_s)
        with self._loans.lent() as now:
            return backups.backup(now.folder, folder, check)

    def snapshot(
        self,
        folder: str | os.PathLike[str],
        *,
        link: str | os.PathLike[str] | None = None,
        timeout_s: Timeout = None,
    ) -> SnapshotReport:
        """Copy what is committed now to `folder`, new or empty, as a snapshot: it never changes.

        It holds no removed row, its derived files lack none, and each byte was checked before it
        got its name. Opening it writes nothing, so it serves from a read-only mount and to other
        users, and many processes share its memory. `link`, a symbolic link, is switched to it in
        one step. Reading and writing go on meanwhile. IntegrityError where this one is damaged;
        on DeadlineError nothing is there, and the link leads where it led.
        """
        check = self._in_time(timeout_s)
        per_sqrt_row = planner.measured(self._terms.calibration)
        with self._loans.lent() as now:
            return snapshots.take(
                now.folder, folder, link=link, per_sqrt_row=per_sqrt_row, check=check
            )

    @property
    def is_snapshot(self) -> bool:
        """Whether this is one that never changes."""
        return self._loans.now.marker is not None

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
        self._follower.stop()
        self._loans.close()

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
            self._take_over()

    def _in_time(self, timeout_s: Timeout) -> Callable[[], None]:
        """What ends long work once its time is over or this is closed; called here as well."""
        deadline = Deadline.of(timeout_s)

        def check() -> None:
            self._check_open()
            deadline.check()

        check()
        return check

    def _take_over(self) -> None:
        """In a child of fork(): serve a snapshot from the memory that the parent loaded."""
        with self._fork_guard:
            if os.getpid() != self._pid:
                is_watched = self._follower.is_watching
                self._loans = self._loans.forked(self._terms, self._follower.is_busy)
                self._follower = Follower(self.path, self._terms, self._loans)
                if is_watched:
                    self._follower.start()
                self._pid = os.getpid()

    @property
    def _states(self) -> States:
        """Of what serves now."""
        return self._loans.now.states
