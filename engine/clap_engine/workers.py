"""Blocking calls under asyncio: a thread pool for each lane, bounded queues, cancellation.

In:  a lane's name, a blocking call, how long it may take.
Out: its result, awaited; when the awaiting task is cancelled, so is the call's deadline.
Knows nothing about what is called.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from clap_engine.deadline import Deadline, Timeout
from clap_engine.errors import ClosedError, DeadlineError, ForkedError, OverloadedError

T = TypeVar("T")


class Workers:
    """Pools of threads by lane; a thread is started when the first call needs it."""

    def __init__(self, sizes: Mapping[str, int], max_waiting: int) -> None:
        self._pools = {name: _Pool(name, size, max_waiting) for name, size in sizes.items()}
        self._pid = os.getpid()
        self._is_closed = False

    async def bounded(
        self, lane: str, work: Callable[..., T], *arguments: Any, timeout_s: Timeout, **options: Any
    ) -> T:
        """`work(..., timeout_s=deadline)`, where the deadline ends with the awaiting task."""
        # Its own, so that cancelling this call ends no other that shares the caller's deadline.
        shared = Deadline.of(timeout_s)
        deadline = Deadline(shared.remaining_s)
        shared.watch(deadline.cancel)
        try:
            begun = self._begun(lane, partial(work, *arguments, timeout_s=deadline, **options))
            return await self._result(begun, deadline)
        finally:
            shared.unwatch(deadline.cancel)

    async def run(self, lane: str, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """`work(...)`; once it has begun it runs to its end, also when nobody awaits it."""
        return await self._result(
            self._begun(lane, partial(work, *arguments, **options)), Deadline()
        )

    async def close(self) -> None:
        """Wait for what runs; what waits is cancelled. A second call does nothing."""
        self._is_closed = True
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        for pool in self._pools.values():
            pool.shut_down()

    def _begun(self, lane: str, work: Callable[[], T]) -> Future[T]:
        if self._is_closed:
            raise ClosedError("this was closed; load the engine again")
        if os.getpid() != self._pid:
            raise ForkedError(
                "this engine was made before fork(), and its threads are not here; load an engine "
                "in the child, or start processes with 'spawn'"
            )
        return self._pools[lane].submit(work)

    async def _result(self, future: Future[T], deadline: Deadline) -> T:
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.wait({waiter}, timeout=deadline.remaining_s)
            if not waiter.done() and future.cancel():
                raise DeadlineError(
                    f"the call waited longer than its timeout_s of {deadline.timeout_s:g} s; "
                    "allow more, or ask for less"
                )
            return await waiter
        except asyncio.CancelledError:
            is_shut_down = self._is_closed and waiter.cancelled()
            deadline.cancel()
            waiter.cancel()
            if is_shut_down:
                raise ClosedError("this was closed before the call began") from None
            raise


class _Pool:
    """Threads of one lane, and how many calls they have been given."""

    def __init__(self, name: str, size: int, max_waiting: int) -> None:
        self._name, self._size, self._most = name, size, size + max_waiting
        self._guard = threading.Lock()
        self._taken = 0
        self._threads: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        with self._guard:
            if self._taken >= self._most:
                raise OverloadedError(
                    f"{self._taken} {self._name} calls run or wait; {self._most - self._size} may "
                    "wait (max_waiting): try again later, or allow more in Limits"
                )
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._size, f"clap-engine-{self._name}")
            future = self._threads.submit(work)
            self._taken += 1
        future.add_done_callback(self._give_back)
        return future

    def _give_back(self, future: Future[Any]) -> None:
        with self._guard:
            self._taken -= 1

    def shut_down(self) -> None:
        with self._guard:
            threads = self._threads
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
