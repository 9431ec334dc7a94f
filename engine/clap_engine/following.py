"""Following: what is newer takes over while requests go on, asked for or by a watch.

In:  the path of a collection, which may lead to another snapshot later; what serves now.
Out: the newest state in its place, opened to the end before anybody is sent there.
Knows nothing about queries, or how a place is read.

What is newer is opened beside what serves, and takes over only where it is whole and of the same
embedding space; whatever else is found is said, and what serves goes on. No request waits for it,
but for hnswlib, which holds the interpreter's lock while it loads a graph: 0.5 to 1 s a million
rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clap_engine import storage
from clap_engine.errors import ClapError, SpaceMismatchError
from clap_engine.serving import Loans, Serving, Terms
from clap_engine.states import DATABASE

log = logging.getLogger("clap_engine")

# Half of what an add may take to be seen by other processes.
WATCH_S = 0.05
# How often a generation may be replaced while it is opened ahead.
_TRIES = 3


class Follower:
    """Brings one reader's loans up to date."""

    def __init__(self, path: Path, terms: Terms, loans: Loans) -> None:
        self._path = path
        self._terms = terms
        self._loans = loans
        self._turn = threading.Lock()  # held while one looks
        self._watch: _Watch | None = None

    def refresh(self) -> bool:
        """Serve what is newest by now; whether it is other than what served before."""
        with self._turn:
            now = self._loans.now
            if self._terms.read_only:
                # What serves holds its database open, so no other file can have its number.
                if storage.file_identity(self._path / DATABASE) != now.identity:
                    self._exchange(now)
                    return True
                if now.marker is not None:
                    return False
                for _ in range(_TRIES):
                    # One that can't be opened is gone by now, or damaged: then follow() says so.
                    with suppress(ClapError):
                        now.states.look_ahead()
                        break
            before = now.states.view
            return now.states.follow() is not before

    @property
    def is_busy(self) -> bool:
        """Whether something is being opened, or looked for."""
        return self._turn.locked()

    @property
    def is_watching(self) -> bool:
        """Whether a watch was begun."""
        return self._watch is not None

    def start(self) -> None:
        """Look for what is newer for as long as it is open; searches leave that to the watch."""
        self._loans.now.states.is_led = True
        self._watch = _Watch(self.refresh)
        self._watch.start()

    def stop(self) -> None:
        """End the watch; a second call does nothing."""
        if self._watch is not None:
            self._watch.end()

    def _exchange(self, now: Serving) -> None:
        found = Serving.at(self._path, self._terms, is_strict=True)
        was, due = found.states.identity, now.states.identity
        if (was.space_id, was.dim) != (due.space_id, due.dim):
            found.close()
            raise SpaceMismatchError(
                f"{self._path} leads to a collection of {was.bundle_id} (space "
                f"{was.space_id[:12]}) by now, where one of space {due.space_id[:12]} was opened; "
                "open it again with that bundle"
            )
        found.states.is_led = now.states.is_led
        self._loans.replace(found)
        log.info("%s leads to %s, which serves from now on", self._path, found.folder)


class _Watch(threading.Thread):
    """Calls again and again; what goes wrong is said once, and tried again."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="clap-engine-watch", daemon=True)
        self._work = work
        self._ended = threading.Event()
        self._said = ""

    def run(self) -> None:
        while not self._ended.wait(WATCH_S):
            try:
                self._work()
                self._said = ""
            except (ClapError, OSError) as error:
                self._say(str(error))
            except Exception as error:  # noqa: BLE001 (a thread has no caller who could be told)
                self._say(repr(error))

    def end(self) -> None:
        """Ask it to end, and wait until it did."""
        self._ended.set()
        self.join()

    def _say(self, text: str) -> None:
        if text != self._said and not self._ended.is_set():
            log.warning("what served goes on serving: %s", text)
        self._said = text
