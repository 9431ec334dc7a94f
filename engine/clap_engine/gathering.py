"""Calls that come at the same time share a run of the graph.

In:  single items of one shape from many threads; how long the first may wait for company.
Out: each caller's own row of a run that they shared, or the error that it ended with.
Knows nothing about graphs or what the items are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from clap_engine.errors import ClapError

A = TypeVar("A")
B = TypeVar("B")

MAX_GATHERED = 16


class Gatherer(Generic[A, B]):
    """One run at a time of each shape; who comes meanwhile is in the next. Safe in many threads."""

    def __init__(
        self, work: Callable[[Any, Sequence[A]], Sequence[B]], *, latency_budget_ms: float
    ) -> None:
        """`work(shape, items)` gives a row for each of up to MAX_GATHERED items.

        With a budget of 0 nobody waits for company: those share a run who waited for the one
        before.
        """
        if not latency_budget_ms >= 0:
            raise ValueError(f"latency_budget_ms is {latency_budget_ms!r}; give 0 or more, or None")
        self._work = work
        self._budget_s = latency_budget_ms / 1e3
        self._guard = threading.Lock()
        self._waiting: dict[Hashable, list[_Member[A, B]]] = {}  # a key is there: somebody leads

    def run(self, shape: Hashable, item: A) -> B:
        """The item's row; it may be computed by another thread."""
        me: _Member[A, B] = _Member(item)
        with self._guard:
            is_led = shape in self._waiting
            self._waiting.setdefault(shape, []).append(me)
        if is_led:
            me.woken.wait()
        elif self._budget_s:
            time.sleep(self._budget_s)
        if not me.is_done:
            self._lead(shape, me)
        if isinstance(me.error, ClapError):
            # Each thread raises one of its own: a traceback belongs to one thread.
            raise type(me.error)(*me.error.args) from me.error
        if me.error is not None:  # what ended the leader alone, such as Ctrl-C
            return self.run(shape, item)
        return me.rows[0]

    def _lead(self, shape: Hashable, me: _Member[A, B]) -> None:
        """Run what waits now; then somebody of the rest leads, or nobody."""
        with self._guard:
            waiting = self._waiting[shape]
            some, self._waiting[shape] = waiting[:MAX_GATHERED], waiting[MAX_GATHERED:]
        error: BaseException | None = None
        try:
            rows = self._work(shape, [member.item for member in some])
            for member, row in zip(some, rows, strict=True):
                member.rows.append(row)
        except BaseException as raised:
            error = raised
            if not isinstance(raised, ClapError):
                raise
        finally:
            with self._guard:
                rest = self._waiting[shape]
                if rest:
                    rest[0].woken.set()
                else:
                    del self._waiting[shape]
            for member in some:
                member.error, member.is_done = error, True
                member.woken.set()


class _Member(Generic[A, B]):
    """One call: its item, then its row or what went wrong."""

    __slots__ = ("error", "is_done", "item", "rows", "woken")

    def __init__(self, item: A) -> None:
        self.item = item
        self.rows: list[B] = []
        self.error: BaseException | None = None
        self.is_done = False
        self.woken = threading.Event()
