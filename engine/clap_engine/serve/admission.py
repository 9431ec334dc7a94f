"""How much may be under way: threads for each kind of work, a queue, and no more.

In:  functions to run; bytes that bodies take.
Out: their results, off the event loop; OverloadedError where there is no room.
Knows nothing about requests or models.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from clap_engine.deadline import Deadline
from clap_engine.errors import ClosedError, OverloadedError
from clap_engine.serve.crowd import Crowd

P = ParamSpec("P")
T = TypeVar("T")
NEVER = Deadline()


@dataclass(frozen=True)
class Patience:
    """How many may wait in a lane, and for how long; see `Lane`."""

    crowded: int  # in a crowd
    most: int
    stale_s: float  # whoever waited for so long has waited in vain
    look_s: float = 0.1  # over which it is counted how many come, and how many are done


@dataclass(eq=False)
class _Job:
    """Work, whoever waits for it, since when, and until when anybody does."""

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    until: Deadline
    since_s: float

    def is_older(self, seconds: float, now_s: float) -> bool:
        return now_s - self.since_s > seconds

    def end(self, result: Any, failure: BaseException | None) -> None:
        """Tell whoever waits, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._told, result, failure)

    def _told(self, result: Any, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is not None:
            self.future.set_exception(failure)
        else:
            self.future.set_result(result)


class Lane:
    """Threads of their own for one kind of work, so that no other kind waits behind it.

    A moment in which the machine does something else ends by itself: all that came meanwhile is
    served in order. Where more comes than can be done (`Crowd`) each would wait for the whole of
    the queue: it is cut to its newest few, who have hardly waited, and further ones are told at
    the door.
    """

    def __init__(
        self, name: str, threads: int, patience: Patience, crowd: Crowd | None = None
    ) -> None:
        self.name = name
        self.threads = threads
        self._patience = patience
        self._crowd = crowd or Crowd(patience.look_s, threads)
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._running = 0
        self._is_closed = False
        # One token for each job; which job it becomes is decided when a thread is free.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        # Daemons: a server that fails before it closes its lanes must still end.
        self._threads = [
            threading.Thread(target=self._serve, name=f"clap-engine-{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        self._is_started = False

    @property
    def in_flight(self) -> int:
        """Calls that run or wait."""
        return self._running + len(self._jobs)

    async def run(self, work: Callable[..., T], *arguments: Any, until: Deadline = NEVER) -> T:
        """`work(...)` in one of the threads; OverloadedError if it would have to wait too long.

        What was called off, by `until`, is not begun any more.
        """
        loop = asyncio.get_running_loop()
        now_s = time.monotonic()
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(lambda: work(*arguments), loop, future, until, now_s)
        with self._lock:
            if self._is_closed:
                raise ClosedError("the lane is closed; open a server again")
            if not self._is_started:
                self._start()
            self._crowd.came(now_s, self._is_many)
            refused = self._refused(now_s)
            is_full = self._waiting >= self._room
            if not is_full:
                self._jobs.append(job)
        for one in refused:
            one.end(None, self._refusal())
        if is_full:
            raise self._refusal()
        self._tokens.put(True)
        try:
            return await future
        finally:
            if future.cancelled():  # given up while it waited: its place is free
                with self._lock, contextlib.suppress(ValueError):
                    self._jobs.remove(job)

    def check_room(self) -> None:
        """OverloadedError, before anything is read, where it is crowded and enough wait."""
        with self._lock:
            if not self._crowd.is_there or self._waiting < self._room:
                return
            self._crowd.came(time.monotonic(), self._is_many)
        raise self._refusal()

    def close(self) -> None:
        """Wait for what runs and waits."""
        with self._lock:
            self._is_closed = True
            threads = self._threads if self._is_started else []
        for _ in threads:
            self._tokens.put(False)
        for thread in threads:
            thread.join()

    def _start(self) -> None:
        self._is_started = True
        for thread in self._threads:
            thread.start()

    @property
    def _waiting(self) -> int:
        """Calls for which no thread is free."""
        return len(self._jobs) - (self.threads - self._running)

    @property
    def _is_many(self) -> bool:
        return self._waiting > self._patience.crowded

    @property
    def _room(self) -> int:
        return self._patience.crowded if self._crowd.is_there else self._patience.most

    def _refused(self, now_s: float) -> list[_Job]:
        """Take those out who have waited in vain: the oldest, of too many."""
        found = []
        while self._jobs and (
            self._waiting > self._room or self._jobs[0].is_older(self._patience.stale_s, now_s)
        ):
            found.append(self._jobs.popleft())
        return found

    def _serve(self) -> None:
        while self._tokens.get():
            self._work()

    def _work(self) -> None:
        """Do one job, if the one that this token came with was not refused meanwhile."""
        with self._lock:
            if not self._jobs:
                return
            job = self._jobs.popleft()
            self._running += 1
        began_s = time.monotonic()
        result: Any = None
        failure: BaseException | None = None
        try:
            job.until.check()
            result = job.work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failure = error
        now_s = time.monotonic()
        with self._lock:
            self._running -= 1
            self._crowd.done(now_s, self._is_many, now_s - began_s)
        job.end(result, failure)

    def _refusal(self) -> OverloadedError:
        return OverloadedError(
            f"{self.in_flight} calls for {self.name} are under way, no more are allowed; "
            "try again later"
        )


class Budget:
    """Bytes that all requests together may hold; used on the event loop alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """A function that takes so many bytes more; all are given back at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.used + count > self._most:
                raise OverloadedError(f"bodies hold {self.used} bytes of {self._most}; try later")
            self.used += count
            taken += count

        try:
            yield take
        finally:
            self.used -= taken
