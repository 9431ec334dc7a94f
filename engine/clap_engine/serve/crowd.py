"""Whether more comes than can be done, as told from how much came and how much is done.

In:  the moments at which calls come and end, how long they took; whether many wait then.
Out: whether it is crowded.
Knows nothing about what the calls are, or who is refused.
"""

from __future__ import annotations

from collections import deque
from statistics import median

# So many times what can be done in a look: at 70 % of the peak, chance alone brings as many as can
# be done, and four times that brings 2.8 times as many.
RUSH = 1.5
# The looks of which the best counts, those after which a queue has not ended by itself, and the
# calls whose median says how long one takes: a pause of the machine lengthens few of them.
KEPT, STANDING, TIMED = 100, 15, 32


class Crowd:
    """Counts over looks of so many seconds; used under its owner's lock."""

    def __init__(self, look_s: float, threads: int = 1) -> None:
        """`threads` is how many calls run at once."""
        self._look_s, self._threads = look_s, threads
        self._look = 0  # the number of the look that is being counted
        self._came = self._came_before = self._done = 0
        self._best: deque[int] = deque(maxlen=KEPT)
        self._taken_s: deque[float] = deque(maxlen=TIMED)
        self._can_be_done = 0.0
        self._many_since: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether far more come than can be done, or many have waited for a long time."""
        since = self._many_since
        if since is not None and self._look - since >= STANDING:
            return True
        most = RUSH * self._can_be_done
        return bool(most) and max(self._came, self._came_before) > most

    def came(self, now_s: float, is_many: bool) -> None:
        """A call came; whether many wait."""
        self._turn(now_s, is_many)
        self._came += 1

    def done(self, now_s: float, is_many: bool, taken_s: float) -> None:
        """A call was done, and took so long; whether many wait."""
        self._turn(now_s, is_many)
        self._done += 1
        self._taken_s.append(taken_s)

    def _turn(self, now_s: float, is_many: bool) -> None:
        look = int(now_s / self._look_s)
        if look != self._look:
            if self._done:
                self._best.append(self._done)
            if self._taken_s:
                # What was done at best is too little where little came, and what could be done by
                # each thread alone is too much where they share the cores: the higher one counts.
                alone = self._threads * self._look_s / max(median(self._taken_s), 1e-6)
                self._can_be_done = max(alone, *self._best, 0)
            self._came_before = self._came if look == self._look + 1 else 0
            self._came = self._done = 0
            self._look = look
        if not is_many:
            self._many_since = None
        elif self._many_since is None:
            self._many_since = look
