"""Where the time of one request went, stage by stage.

In:  the moments at which stages end; milliseconds measured elsewhere.
Out: milliseconds by stage, and their total.
Knows nothing about what the stages do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from clap_engine.deadline import Deadline


class Clock:
    """Milliseconds by stage, in the order in which they first ended; runs when it is made.

    The end of a stage is also where a request may stop: each lap looks at the deadline.
    """

    def __init__(
        self, before: Mapping[str, float] | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """`before` are stages that had ended already; the total includes them."""
        self.deadline = deadline or Deadline()
        self.has_turn = False  # whether the request holds a slot of its embedder's lane of words
        self.ms = dict(before or {})
        self._before = sum(self.ms.values())
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> float:
        """All time since the last lap belongs to `stage`; the milliseconds since then."""
        now = time.perf_counter()
        ms = (now - self._last) * 1e3
        self.ms[stage] = self.ms.get(stage, 0.0) + ms
        self._last = now
        self.deadline.check()
        return ms

    def split(self, stages: Mapping[str, float]) -> None:
        """These stages, measured elsewhere, took the time since the last lap."""
        self.ms.update(stages)
        self._last = time.perf_counter()
        self.deadline.check()

    def stop(self) -> None:
        """Note the total."""
        self.ms["total"] = self._before + (time.perf_counter() - self._start) * 1e3
