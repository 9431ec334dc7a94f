"""What happened, told to whoever counts: one small frozen object for each call.

In:  a callable of the user's; how calls went.
Out: events to that callable. What it raises is logged once and breaks no call.
Knows nothing about metrics libraries, and never holds a text, a sound, a key or a path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger("clap_engine")


@dataclass(frozen=True)
class CallEvent:
    """One call that ended.

    `outcome` is "ok", or the name of the error: "DeadlineError", "OverloadedError". `stages_ms`
    are milliseconds by stage; `wait_ms` were spent in the queue of the lane. `sizes` counts what
    went in and came out, such as texts, windows, hits.
    """

    verb: str
    lane: str
    outcome: str
    total_ms: float
    wait_ms: float
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """Whether the call returned."""
        return self.outcome == "ok"


@dataclass(frozen=True)
class TowerEvent:
    """A tower ("text", "audio" or "caption") was loaded, or unloaded after an idle time."""

    tower: str
    is_loaded: bool
    ms: float


@dataclass(frozen=True)
class RecallEvent:
    """One search that was repeated exactly: the share of the true k best clips that it had found.

    `index` and `source` are the plan's, `rows` what it counted; `ms` the exact search took.
    """

    recall: float
    k: int
    rows: int
    index: str
    source: str
    ms: float


Event = CallEvent | TowerEvent | RecallEvent
OnEvent = Callable[[Event], object]


class Observer:
    """Hands events to a callable, in the thread where they happen; without one does nothing."""

    def __init__(self, on_event: OnEvent | None = None, *, live_recall: float = 0.0) -> None:
        """`live_recall` is the share of searches to repeat exactly, 0 to 1."""
        if not 0 <= live_recall <= 1:
            raise ValueError(f"live_recall is {live_recall!r}; give a share from 0 to 1")
        if live_recall and on_event is None:
            raise ValueError("live_recall needs on_event: nobody would be told; give both")
        self.live_recall = live_recall
        self._on_event = on_event
        self._has_failed = False

    @property
    def is_on(self) -> bool:
        """Whether anybody listens."""
        return self._on_event is not None

    def tell(self, event: Event) -> None:
        """Give it to the callable; an exception there is logged, the first time."""
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                log.exception("on_event raised; calls go on, and it will not be said again")


@contextmanager
def told(teller: object, verb: str) -> Iterator[dict[str, int]]:
    """Tells the observer of `teller`, if it has one, of a call without a lane; give it sizes."""
    observer: Observer = getattr(teller, "observer", None) or Observer()
    sizes: dict[str, int] = {}
    outcome, began_s = "ok", time.perf_counter()
    try:
        yield sizes
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        total_ms = (time.perf_counter() - began_s) * 1e3
        observer.tell(CallEvent(verb, "", outcome, total_ms, 0.0, {}, sizes))
