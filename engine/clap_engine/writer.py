"""The writing side of an open collection: its lock, its connection, and rebuilds in the background.

In:  a collection's folder and the states that its readers see.
Out: the connection to write by, once the lock is held; new generations of the derived files.
Knows nothing about sounds, queries or what is written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clap_engine import marker, planner, storage
from clap_engine.catalogue import Catalogue
from clap_engine.deadline import Deadline
from clap_engine.errors import ClosedError, CollectionError, LockedError
from clap_engine.folders import LOCK
from clap_engine.states import DATABASE, States

log = logging.getLogger("clap_engine")

# To look whether a rebuild is due takes up to 1 ms, a removal 3 ms.
REMOVALS_A_LOOK = 64
# A rebuild takes a core from those who add. While they add so fast that the next one is due at
# once, it waits for this many times what the last one took.
REST = 3.0
_LOOK_S = 0.2
# A graph takes .3 ms a row, so rows that come this fast outgrow it by a quarter while it is built:
# it waits until fewer come. Without it a generation takes 15 us a row, and is written whenever
# the rows outside it are as many as those in it.
FLOOD_ROWS_S = 800.0


class Writer:
    """The one writer of a collection. The lock is taken by the first write and kept till close().

    `guard` is held while the connection is used. A generation takes minutes at a million rows, so
    it is built without the guard, from a connection of its own, by one thread at a time: whoever
    asks to wait for it, or a thread in the background.
    """

    def __init__(self, folder: Path, states: States, *, read_only: bool) -> None:
        self.guard = threading.RLock()
        self.error = ""  # why the last rebuild failed; empty once one succeeded
        self._folder = folder
        self._states = states
        self._read_only = read_only
        self._lock = storage.FileLock(folder / LOCK)
        self._catalogue: Catalogue | None = None
        self._building = threading.Lock()  # held by the one rebuild there is
        self._turn = threading.Lock()  # held while a thread begins or decides to end
        self._run: _Run | None = None
        self._is_closing = False
        self._closing = threading.Event()  # ends a rebuild that somebody waits for
        self._removals = 0

    def open(self, deadline: Deadline | None = None) -> Catalogue:
        """The writing connection; the first call takes the lock."""
        if self._read_only and marker.is_marked(self._folder):
            raise marker.refusal(self._folder)
        if self._read_only:
            raise CollectionError(f"{self._folder} is open with read_only=True; open it without")
        with (deadline or Deadline()).holding(self.guard):
            if self._catalogue is None:
                self._lock.acquire()
                try:
                    with self._states.guard:  # it may have been migrated until now
                        self._states.reader.check_identity()
                    self._catalogue = Catalogue(self._folder / DATABASE, read_only=False)
                except BaseException:
                    self._lock.release()
                    raise
            return self._catalogue

    @property
    def is_rebuilding(self) -> bool:
        """Whether a generation is being built now."""
        return self._building.locked()

    def rebuild(self, deadline: Deadline | None = None) -> int:
        """Write a new generation from what is committed now, in this thread; its number.

        One that is under way in the background ends: what it would publish is older.
        """
        catalogue, deadline = self.open(deadline), deadline or Deadline()
        if (run := self._run) is not None:
            run.end()
        with deadline.holding(self._building):
            return self._build(catalogue, self._closing, deadline=deadline)

    @contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """The guard, if it is to be had in time."""
        with deadline.holding(self.guard):
            deadline.check()
            yield

    def rebuild_if_due(self) -> None:
        """Begin a new generation in the background where the tail has grown too long."""
        with self._turn:
            if self._run is None and not self._is_closing and self._is_due():
                self._start()

    def count_removal(self) -> None:
        """A clip was removed: look now and then whether a rebuild is due."""
        self._removals += 1
        if self._removals % REMOVALS_A_LOOK == 0:
            self.rebuild_if_due()

    def rebuild_soon(self) -> None:
        """Begin a new generation in the background, unless one is under way."""
        self.open()
        with self._turn:
            if self._run is not None:
                self._run.hurry.set()
            elif not self._is_closing:
                self._start()

    def join(self) -> None:
        """Wait until nothing is due to be rebuilt in the background."""
        while (run := self._run) is not None:
            run.hurry.set()
            run.join()

    def repair(self) -> None:
        """Replace a damaged generation, if this process may write and nobody else does."""
        if self._read_only or not self._states.is_damaged:
            return
        try:
            self._lock.acquire(timeout_s=0)
        except LockedError:
            return  # the writer will; until then all rows are served from the truth
        try:
            self.rebuild()
        except storage.StorageError as error:
            log.warning("the derived files of %s can't be rebuilt: %s", self._folder, error)
        finally:
            self._release()

    def close(self, *, wait: bool) -> None:
        """Give lock and connection back; a rebuild under way is waited for, or ended."""
        with self._turn:
            self._is_closing = True
            run = self._run
        try:
            if run is not None and wait:
                log.info("%s is closed once its derived files are rebuilt", self._folder)
                run.hurry.set()
                run.join()
        finally:  # also when Ctrl-C ended the waiting
            self._closing.set()
            if run is not None:
                run.end()
                run.join()
            with self._building, self.guard:
                self._release()

    def _release(self) -> None:
        with self.guard:
            if self._catalogue is not None:
                self._catalogue.close()
                self._catalogue = None
            self._lock.release()

    def _is_due(self) -> bool:
        view = self._states.refresh()
        is_short = bool(len(view.base)) and self._states.lacks_graph(view)
        return is_short or planner.is_generation_due(len(view.base), view.stale)

    def _start(self) -> None:
        run = _Run(self._in_background)
        try:
            run.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self._failed(error)
        else:
            self._run = run

    def _in_background(self, run: _Run) -> None:
        """Build generations until none is due; what goes wrong is tried again after a commit."""
        try:
            while True:
                with_graph = self._settle(run)
                began_s = time.monotonic()
                with self._building:
                    self._build(self.open(), run.stop, with_graph=with_graph)
                with self._turn:
                    if not self._is_due():
                        self._run = None
                        return
                run.rest(REST * (time.monotonic() - began_s))
        except ClosedError:
            log.info("a rebuild of %s was ended", self._folder)
        except Exception as error:  # noqa: BLE001 (a thread has no caller who could be told)
            self._failed(error)
        with self._building, self._turn:  # after the `rebuild` that may have ended it
            self._run = None
            if not run.stop.is_set() or self._is_closing:
                return
            try:  # more may have been committed meanwhile
                if self._is_due():
                    self._start()
            except Exception as error:  # noqa: BLE001 (as above)
                self._failed(error)

    def _settle(self, run: _Run) -> bool:
        """Wait while rows pour in; whether few enough come now for a graph to be worth building."""
        view = self._states.refresh()
        while self._states.is_graph_due(view) and not run.hurry.wait(_LOOK_S) and _is_awaited():
            before, view = view.rows, self._states.refresh()
            if view.rows - before < FLOOD_ROWS_S * _LOOK_S:
                break
            if view.stale > len(view.base):
                return False
        return True

    def _build(
        self,
        catalogue: Catalogue,
        stop: threading.Event,
        *,
        with_graph: bool = True,
        deadline: Deadline | None = None,
    ) -> int:
        def check() -> None:
            if deadline is not None:
                deadline.check()
            if stop.is_set() or not _is_awaited():
                raise ClosedError(
                    f"the rebuild of {self._folder} was ended; its older derived files serve on"
                )

        number = self._states.rebuild(catalogue, self.guard, check, with_graph=with_graph)
        self.error = ""
        return number

    def _failed(self, error: Exception) -> None:
        # What was added is safe without it, and found: the tail is only slower.
        self.error = str(error)
        log.warning("the derived files of %s stay as they were: %s", self._folder, error)


class _Run(threading.Thread):
    """A thread that rebuilds. No daemon: these are killed at exit, in the midst of native code."""

    def __init__(self, work: Callable[[_Run], None]) -> None:
        super().__init__(name="clap-engine-rebuild")
        self.stop = threading.Event()
        self.hurry = threading.Event()  # somebody waits: no rests
        self._work = work

    def run(self) -> None:
        self._work(self)

    def end(self) -> None:
        """Ask it to end soon."""
        self.stop.set()
        self.hurry.set()

    def rest(self, seconds: float) -> None:
        """Leave the machine to others, unless somebody waits or the interpreter is ending."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and _is_awaited():
            if self.hurry.wait(min(left_s, _LOOK_S)):
                return


def _is_awaited() -> bool:
    """Whether anything but rebuilds is left that runs: an interpreter waits for all threads."""
    return any(
        thread.is_alive() and not thread.daemon and not isinstance(thread, _Run)
        for thread in threading.enumerate()
    )
