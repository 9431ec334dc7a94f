"""A watch on SQLite's log: whether anything may have been committed since one last looked.

In:  the path of a write-ahead log; word of own commits.
Out: whether what was read then still stands.
Knows nothing about SQL, views or who writes.

To ask SQLite takes a lock and a statement: 3 us, and 70 where a search has emptied the caches. One
look at the log's size and time takes 1 and 10. A log that looks as it did was not written to. Only
a commit that was written before the look, and made valid after it, goes unseen that way; so SQLite
is asked again after 50 ms whatever the log looks like, half of what other processes may wait for.
A commit here and there is seen at once. Where another process commits all the time, SQLite is asked
every 25 ms: then few searches bring its commits up, and these bring several up at once. Commits of
this process are told to all who watch the same log in it, and count at once.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from weakref import WeakValueDictionary

# How long a look at the log may stand in for a question to SQLite.
ASK_S = 0.05
# SQLite is asked so often in a row, and then again each time that so long has passed.
IN_A_ROW, EACH_S = 8, 0.025
# File systems note the time of a write in ticks of at most so long: of two writes within one,
# the second may not show.
_TICK_S = 0.05

Stamp = tuple[int, int]
Look = tuple[int, float, Stamp | None]  # no stamp where the log was just written to


class Commits:
    """Those of this process to one log, by whatever connection; one at a time."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self) -> None:
        """Something was committed."""
        self.count += 1


_commits: WeakValueDictionary[str, Commits] = WeakValueDictionary()
_guard = threading.Lock()


def _renew() -> None:
    """In a forked process: whoever held the guard is not here."""
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def log_of(database: Path) -> Path:
    """Where SQLite writes ahead."""
    return database.with_name(database.name + "-wal")


def commits_to(log: Path) -> Commits:
    """The one count that all in this process share who name the same log."""
    with _guard:
        return _commits.setdefault(os.path.realpath(log), Commits())


class LogWatch:
    """Safe in many threads at once."""

    def __init__(self, log: Path) -> None:
        self._log = os.fspath(log)
        self._own = commits_to(log)
        self._last: Look | None = None
        self._left: tuple[float, float] = (IN_A_ROW, 0.0)  # how often it may be asked, as of when

    def is_quiet(self) -> bool:
        """Whether nothing was committed since the look that was kept last, or nobody may ask."""
        last = self._last
        if last is None:
            return False
        told, look_s, stamp = last
        now_s = time.monotonic()
        if told != self._own.count or now_s - look_s >= ASK_S:
            return False
        return self._left_at(now_s) < 1 or _stamp(self._log) == stamp

    def look(self) -> Look:
        """A look to keep, taken before SQLite is asked."""
        told, look_s, stamp = self._own.count, time.monotonic(), _stamp(self._log)
        is_new = time.time() - 1e-9 * stamp[0] < _TICK_S
        return told, look_s, None if is_new else stamp

    def keep(self, look: Look) -> None:
        """What was committed before this look is known now."""
        self._last = look
        self._left = max(0.0, self._left_at(look[1]) - 1), look[1]

    def _left_at(self, now_s: float) -> float:
        """How often SQLite may be asked by then: a token bucket."""
        left, since_s = self._left
        return min(IN_A_ROW, left + (now_s - since_s) / EACH_S)


def _stamp(log: str) -> Stamp:
    """When it was written, and its size; zeros where there is none."""
    try:
        found = os.stat(log)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
