"""A watch on SQLite's log: whether anything may have been committed since one last looked.

In:  the path of a write-ahead log; word of own commits.
Out: whether what was read then still stands.
Knows nothing about SQL, views or who writes.

To ask SQLite takes a lock and a statement: 3 us, and 70 where a search has emptied the caches. One
look at the log's size and time takes 1 and 10. A log that looks as it did was not written to. Only
a commit that was written before the look, and made valid after it, goes unseen that way; so SQLite
is asked again after 50 ms whatever the log looks like, half of what other processes may wait for.
Own commits are told, and count at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

# How long a look at the log may stand in for a question to SQLite.
ASK_S = 0.05
# File systems note the time of a write in ticks of at most so long: of two writes within one,
# the second may not show.
_TICK_S = 0.05

Stamp = tuple[int, int]
Look = tuple[int, float, Stamp]


class LogWatch:
    """Safe in many threads at once, as long as `tell` is called by one at a time."""

    def __init__(self, log: Path) -> None:
        self._log = os.fspath(log)
        self._told = 0  # own commits
        self._last: Look | None = None

    def tell(self) -> None:
        """Something was committed here."""
        self._told += 1

    def is_quiet(self) -> bool:
        """Whether nothing was committed since the look that was kept last."""
        last = self._last
        if last is None:
            return False
        told, look_s, stamp = last
        return (
            told == self._told and time.monotonic() - look_s < ASK_S and _stamp(self._log) == stamp
        )

    def look(self) -> Look | None:
        """A look to keep, taken before SQLite is asked; None where the log was just written to."""
        told, look_s, stamp = self._told, time.monotonic(), _stamp(self._log)
        return None if time.time() - 1e-9 * stamp[0] < _TICK_S else (told, look_s, stamp)

    def keep(self, look: Look | None) -> None:
        """What was committed before this look is known now."""
        self._last = look


def _stamp(log: str) -> Stamp:
    """When it was written, and its size; zeros where there is none."""
    try:
        found = os.stat(log)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
