"""Lanes: how many calls of one kind run at once, who waits, and who is turned away.

In:  a lane's slots and how many may wait; calls with their deadlines.
Out: a turn for each, first come first served, or OverloadedError at once.
Knows nothing about what the calls do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass

from clap_engine.deadline import Deadline
from clap_engine.errors import OverloadedError


@dataclass(frozen=True)
class LaneStats:
    """A lane at one moment, and what it has seen so far."""

    slots: int
    running: int
    waiting: int
    entered: int
    queued: int  # of those that entered, how many had to wait
    refused: int


class Lane:
    """`slots` calls at once and a queue of at most `max_waiting`. Safe in many threads.

    A slot that comes free is handed to whoever has waited longest, so that nobody is overtaken.
    """

    def __init__(self, name: str, slots: int, max_waiting: int) -> None:
        self.name = name
        self.slots = slots
        self.max_waiting = max_waiting
        self._guard = threading.Lock()
        self._free = slots
        self._queue: deque[_Waiter] = deque()
        self._entered = self._queued = self._refused = 0

    def enter(self, deadline: Deadline, *, is_patient: bool = False) -> float:
        """Take a slot; the seconds that it was waited for. Give it back by `leave`.

        DeadlineError when the deadline comes first; OverloadedError, at once, when too many wait
        already, unless the call `is_patient`.
        """
        with self._guard:
            if self._free and not self._queue:
                self._free -= 1
                self._entered += 1
                return 0.0
            if len(self._queue) >= self.max_waiting and not is_patient:
                self._refused += 1
                raise OverloadedError(
                    f"{self.slots} {self.name} calls run and {len(self._queue)} wait; "
                    f"{self.max_waiting} may wait (max_waiting): try again later, or allow more "
                    "in Limits"
                )
            waiter = self._queue_up()
        waited_s = self._wait(waiter, deadline)
        with self._guard:
            self._entered += 1
            self._queued += 1
        return waited_s

    def leave(self) -> None:
        """Give the slot back."""
        with self._guard:
            self._hand_on()

    def give_way(self, deadline: Deadline) -> float:
        """Let those who wait go first, where anybody does; the seconds until it is our turn again.

        On DeadlineError the slot is gone: do not `leave`.
        """
        if not self._queue:
            return 0.0
        with self._guard:
            if not self._queue:
                return 0.0
            waiter = self._queue_up()
            self._hand_on()
        return self._wait(waiter, deadline)

    def stats(self) -> LaneStats:
        """Counts as of now."""
        with self._guard:
            return LaneStats(
                self.slots, self.slots - self._free, len(self._queue), self._entered, self._queued,
                self._refused,
            )  # fmt: skip

    def _queue_up(self) -> _Waiter:
        waiter = _Waiter()
        self._queue.append(waiter)
        return waiter

    def _hand_on(self) -> None:
        if self._queue:
            waiter = self._queue.popleft()
            waiter.has_slot = True
            waiter.wake()
        else:
            self._free += 1

    def _wait(self, waiter: _Waiter, deadline: Deadline) -> float:
        began_s = time.perf_counter()
        deadline.watch(waiter.wake)
        try:
            while not waiter.has_slot:  # a wait may end a moment too soon
                waiter.wait(deadline.remaining_s)
                deadline.check()
        except BaseException:  # also Ctrl-C: nobody may keep a slot that is not used
            self._withdraw(waiter)
            raise
        finally:
            deadline.unwatch(waiter.wake)
        return time.perf_counter() - began_s

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._guard:
            if waiter.has_slot:
                self._hand_on()
            else:
                self._queue.remove(waiter)


class _Waiter:
    """One call in the queue. It waits for a bare lock: an Event takes ten times as long to wake."""

    __slots__ = ("_bell", "has_slot")

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self.has_slot = False

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was woken already
            self._bell.release()

    def wait(self, seconds: float | None) -> None:
        self._bell.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
