"""What serves: one opened place, and the exchange of one for another while requests go on.

In:  a collection's folder; a place that shall take over.
Out: states, filters and searches of one place, lent to each request for as long as it lasts.
Knows nothing about where a newer place may be found, or when.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clap_engine import folders, marker, planner, storage
from clap_engine.allow import AllowSets
from clap_engine.errors import ClosedError, ForkedError, IntegrityError
from clap_engine.ingest import Embedder
from clap_engine.limits import Limits
from clap_engine.records import Granularity
from clap_engine.search import Search
from clap_engine.states import DATABASE, States

log = logging.getLogger("clap_engine")

# How often a place may be exchanged while it is opened, before that is given up.
_TRIES = 5


@dataclass(frozen=True)
class Terms:
    """How a place is opened, each time that is done."""

    embedder: Embedder | None
    calibration: Mapping[str, float]
    limits: Limits
    granularity: Granularity | None
    read_only: bool


class Serving:
    """One opened place; a snapshot stays readable even where its files have lost their names."""

    def __init__(self, folder: Path, terms: Terms, like: Serving | None = None) -> None:
        """Open `folder`; `like` is the same snapshot, opened before, whose memory is shared."""
        self.folder = folder
        is_fixed = marker.is_marked(folder)
        self.marker = marker.read(folder, folder / DATABASE) if is_fixed else None
        self.identity = storage.file_identity(folder / DATABASE)
        self.states = States(
            folder, read_only=terms.read_only, per_sqrt_row=planner.measured(terms.calibration)
        )
        self.allow = AllowSets(self.states, folder, read_only=terms.read_only)
        try:
            granularity = self.states.reader.granularity
            folders.check_granularity(terms.granularity, granularity, folder)
            if terms.embedder is not None:
                folders.check_space(self.states.identity, terms.embedder, folder)
            if is_fixed:
                self.allow.open()  # by name, which may be another's later
            if like is not None:
                self.states.adopt(like.states.view)
            self.search = Search(
                self.states, self.allow, terms.embedder, terms.calibration, terms.limits
            )
        except BaseException:
            self.close()
            raise

    @classmethod
    def at(cls, path: Path, terms: Terms, *, is_strict: bool = False) -> Serving:
        """Open what `path` leads to by now, all of it from one and the same place.

        With `is_strict` what is damaged is refused, also where searches could do with the rest.
        """
        for _ in range(_TRIES):
            found = cls(path.resolve(), terms)
            try:
                found._begin(is_strict)
                if storage.file_identity(path / DATABASE) == found.identity:
                    return found
            except BaseException:
                found.close()
                raise
            found.close()
        raise IntegrityError(f"{path} changes too fast to be opened; try again")

    def _begin(self, is_strict: bool) -> None:
        try:
            self.states.refresh()
        except IntegrityError as error:
            if is_strict:
                raise
            # Open all the same: verify() can say more, and the clip may be replaced.
            log.warning("%s", error)
        if is_strict and self.states.is_damaged:
            raise IntegrityError(
                f"the derived files of {self.folder} are damaged; take the snapshot again"
            )

    def problems(self, check: Callable[[], None] = lambda: None) -> list[str]:
        """What is wrong on disk, all of it read again; empty when nothing is.

        `check` is called now and then and ends it by what it raises.
        """
        found = []
        if self.marker is not None:
            found = marker.problems(self.folder, self.folder / DATABASE)
        return [*found, *self.states.problems(check)]

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self.allow.close()
        self.states.close()


class Loans:
    """Lends what serves now. What was replaced is closed once the last who has it returns it."""

    def __init__(self, first: Serving) -> None:
        self._guard = threading.Lock()
        self._users: dict[Serving, int] = {first: 0}
        self._now = first
        self._is_closed = False

    @property
    def now(self) -> Serving:
        """What serves; for calls that outlast no exchange, see lent()."""
        return self._now

    @property
    def are_out(self) -> bool:
        """Whether any request is under way."""
        return any(self._users.values())

    @contextmanager
    def lent(self) -> Iterator[Serving]:
        """What serves now, open for as long as the body runs."""
        with self._guard:
            serving = self._now
            self._users[serving] += 1
        try:
            yield serving
        finally:
            with self._guard:
                self._users[serving] -= 1
                is_last = self._is_over(serving)
            if is_last:
                serving.close()

    def replace(self, serving: Serving) -> None:
        """Let this one serve from now on; who holds the one before goes on with it."""
        with self._guard:
            if self._is_closed:
                serving.close()
                raise ClosedError(f"{serving.folder} was closed; open the collection again")
            before, self._now = self._now, serving
            self._users[serving] = 0
            is_last = self._is_over(before)
        if is_last:
            before.close()

    def forked(self, terms: Terms, is_busy: bool) -> Loans:
        """The same in a child of fork(): connections of its own, the memory that the parent loaded.

        ForkedError for what is no snapshot, and where a request was under way or, if `is_busy`,
        something was being opened: that may have held a lock of the graph or of SQLite, which
        nobody in the child would ever give back.
        """
        then = self._now
        if then.marker is None:
            raise ForkedError(
                f"{then.folder} was opened before fork(); open it again in the child, "
                "or start processes with 'spawn'"
            )
        if is_busy or self.are_out:
            raise ForkedError(
                f"{then.folder} was being searched or swapped at the fork(); open it again in the "
                "child, or fork while nothing is under way"
            )
        found = Serving(then.folder, terms, like=then)
        if found.marker != then.marker:
            found.close()
            raise ForkedError(
                f"another snapshot has taken the place of {then.folder} since the fork(); "
                "open it again in the child"
            )
        found.states.refresh()
        return Loans(found)

    def close(self) -> None:
        """Close all of them; requests under way are told."""
        with self._guard:
            self._is_closed = True
            held = [*self._users]
        for serving in held:
            serving.close()

    def _is_over(self, serving: Serving) -> bool:
        """Whether it was replaced and nobody has it any more; then it is forgotten."""
        if serving is self._now or self._users[serving]:
            return False
        del self._users[serving]
        return True
