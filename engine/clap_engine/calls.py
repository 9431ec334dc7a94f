"""One call from its door to its end: admitted to a lane, bounded by a deadline, told to observers.

In:  a verb, its lane and its deadline.
Out: the deadline to check; stages and sizes become an event when the call ends.
Knows nothing about what is done meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from clap_engine.deadline import Deadline
from clap_engine.events import CallEvent, Observer
from clap_engine.lanes import Lane


class Call:
    """`with Call(...) as call:` holds a slot of the lane; what is noted is told at the end."""

    __slots__ = (
        "_at_once", "_began_s", "_holds", "_lane", "_observer", "_told_as", "_verb", "_wait_s",
        "deadline", "is_patient", "sizes", "stages_ms",
    )  # fmt: skip

    def __init__(
        self,
        verb: str,
        lane: Lane,
        deadline: Deadline,
        observer: Observer,
        *,
        is_patient: bool = False,
        at_once: bool = True,
        told_as: str | None = None,
    ) -> None:
        """With `at_once` false the slot is taken by `take_turn`, after what needs none.

        `told_as` is the lane in its event, where that is not the lane's own name.
        """
        self._told_as = told_as or lane.name
        self._at_once = at_once
        self.deadline = deadline
        self.is_patient = is_patient
        self.stages_ms: Mapping[str, float] = {}
        self.sizes: Mapping[str, int] = {}
        self._verb = verb
        self._lane = lane
        self._observer = observer
        self._wait_s = self._began_s = 0.0
        self._holds = False

    @property
    def wait_ms(self) -> float:
        """Milliseconds spent in the queue."""
        return self._wait_s * 1e3

    def take_turn(self) -> None:
        """Take a slot of the lane, after those who came before; a second time it does nothing."""
        self.deadline.check()
        if self._holds:
            return
        self._wait_s += self._lane.enter(self.deadline, is_patient=self.is_patient)
        self._holds = True

    def give_way(self) -> None:
        """Between two parts of a long call: end if time is up, else let those who wait go first."""
        self.deadline.check()
        if not self._holds:
            return
        self._holds = False  # on an error the slot is gone
        self._wait_s += self._lane.give_way(self.deadline)
        self._holds = True

    def __enter__(self) -> Call:
        self._began_s = time.perf_counter()
        try:
            if self._at_once:
                self.take_turn()
        except BaseException as error:
            self._tell(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._holds:
            self._lane.leave()
        self._tell(error)

    def _tell(self, error: BaseException | None) -> None:
        if not self._observer.is_on:
            return
        outcome = "ok" if error is None else type(error).__name__
        total_ms = (time.perf_counter() - self._began_s) * 1e3
        stages, sizes = dict(self.stages_ms), dict(self.sizes)
        self._observer.tell(
            CallEvent(self._verb, self._told_as, outcome, total_ms, self.wait_ms, stages, sizes)
        )
