"""How much may be under way: threads for each kind of work, a short queue, and no more.

In:  functions to run; bytes that bodies take.
Out: their results, off the event loop; OverloadedError where there is no room.
Knows nothing about requests or models.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from clap_engine.errors import OverloadedError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Job:
    """Work, whoever waits for it, and since when."""

    future: Future[Any]
    work: Callable[[], Any]
    since_s: float

    def is_older(self, seconds: float) -> bool:
        return time.monotonic() - self.since_s > seconds


class Lane:
    """Threads of their own for one kind of work, so that no other kind waits behind it.

    Where more comes than can be done, every queue is full at last. Served in order, each request
    would then wait for the whole of it; so the newest goes first while the oldest has waited for
    `crowded_s`, and the oldest is refused where there is no room, or after `stale_s`: it has waited
    in vain, the others hardly.
    """

    def __init__(
        self, name: str, threads: int, waiting: int, *, crowded_s: float, stale_s: float
    ) -> None:
        self.name = name
        self.most = threads + waiting
        self._crowded_s, self._stale_s = crowded_s, stale_s
        self._pool = ThreadPoolExecutor(threads, f"clap-engine-{name}")
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._running = 0

    @property
    def in_flight(self) -> int:
        """Calls that run or wait."""
        return self._running + len(self._jobs)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(...)` in one of the threads; OverloadedError if it would have to wait too long."""
        future: Future[T] = Future()
        refused = []
        with self._lock:
            while self._jobs and (
                self.in_flight >= self.most or self._jobs[0].is_older(self._stale_s)
            ):
                refused.append(self._jobs.popleft())
            if self.in_flight >= self.most:
                raise self._refusal()
            self._jobs.append(_Job(future, lambda: work(*args, **kwargs), time.monotonic()))
        for job in refused:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(self._refusal())
        self._pool.submit(self._work)
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.cancelled():  # given up while it waited: its place is free
                with self._lock:
                    self._jobs = deque(job for job in self._jobs if job.future is not future)

    def close(self) -> None:
        """Wait for what runs and waits."""
        self._pool.shutdown(wait=True)

    def _work(self) -> None:
        """Do one job, if the one that this call came with was not refused meanwhile."""
        with self._lock:
            if not self._jobs:
                return
            is_crowded = self._jobs[0].is_older(self._crowded_s)
            job = self._jobs.pop() if is_crowded else self._jobs.popleft()
            self._running += 1
        result: Any = None
        failure: BaseException | None = None
        is_wanted = job.future.set_running_or_notify_cancel()
        try:
            result = job.work() if is_wanted else None
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failure = error
        with self._lock:
            self._running -= 1
        if failure is not None:
            job.future.set_exception(failure)
        elif is_wanted:
            job.future.set_result(result)

    def _refusal(self) -> OverloadedError:
        return OverloadedError(
            f"{self.most} calls for {self.name} are under way, no more are allowed; try again later"
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
