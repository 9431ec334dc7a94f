"""When a call must end: by the clock, or because somebody called it off.

In:  seconds, or a `Deadline` that several calls share.
Out: DeadlineError, raised in the thread that works, at the next point where it may stop.
Knows nothing about what the work is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar, overload

from clap_engine.errors import DeadlineError

T = TypeVar("T")


# How often it is looked at while a lock is waited for, which no cancelling wakes.
_LOOK_S = 0.05


class Lockable(Protocol):
    """A lock of threading."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:
        """Take it; whether that was possible in time."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Deadline:
    """Seconds that a call may take, counted from now; any thread may cancel it before."""

    __slots__ = ("_end_s", "_guard", "_is_cancelled", "_watchers", "timeout_s")

    def __init__(self, timeout_s: float | None = None) -> None:
        """None never ends by itself. ValueError unless seconds are a number, 0 or more."""
        self.timeout_s = timeout_s
        self._end_s = math.inf
        if timeout_s is not None:
            is_number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
            if not is_number or not timeout_s >= 0:
                raise ValueError(
                    f"timeout_s is {timeout_s!r}; give seconds, 0 or more, a Deadline or None"
                )
            self._end_s = time.monotonic() + timeout_s
        self._is_cancelled = False
        self._guard = threading.Lock()
        self._watchers: list[Callable[[], None]] = []

    @classmethod
    def of(cls, timeout: Timeout) -> Deadline:
        """The deadline itself, or a new one that begins now."""
        return timeout if isinstance(timeout, Deadline) else cls(timeout)

    def part(self, timeout_s: float | None = None) -> Deadline:
        """One with seconds of its own, which is over when this one is; for as long as that is kept.

        Cancelling it leaves this one as it is.
        """
        left_s = self.remaining_s
        if timeout_s is None or (left_s is not None and left_s < timeout_s):
            timeout_s = left_s
        found = Deadline(timeout_s)
        self.watch(found.cancel)
        return found

    @property
    def remaining_s(self) -> float | None:
        """Seconds left, 0 when it is over, None where it never ends by itself."""
        if self._is_cancelled:
            return 0.0
        if self._end_s == math.inf:
            return None
        return max(0.0, self._end_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether `check` would raise."""
        return self._is_cancelled or time.monotonic() >= self._end_s

    def check(self) -> None:
        """DeadlineError once it is over."""
        if self._is_cancelled:
            raise DeadlineError("the call was cancelled; nothing was half done")
        if self._end_s != math.inf and time.monotonic() >= self._end_s:
            raise DeadlineError(
                f"the call took longer than its timeout_s of {self.timeout_s:g} s; allow more, or "
                "ask for less"
            )

    def checked(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; each is handed on only while there is time."""
        for item in items:
            self.check()
            yield item

    def following(
        self, progress: Callable[[float, str], None] | None = None
    ) -> Callable[[float, str], None]:
        """The same progress, which ends what tells of it once this is over."""

        def told(share: float, what: str) -> None:
            self.check()
            if progress is not None:
                progress(share, what)

        return told

    @contextmanager
    def holding(self, lock: Lockable) -> Iterator[None]:
        """The lock for the length of the block; DeadlineError where it is not free in time."""
        is_held = False
        while not is_held:
            left_s = self.remaining_s
            is_held = lock.acquire(timeout=_LOOK_S if left_s is None else min(left_s, _LOOK_S))
            if not is_held:
                self.check()
        try:
            yield
        finally:
            lock.release()

    def cancel(self) -> None:
        """End it now, from any thread; what waits for a turn is woken."""
        with self._guard:
            self._is_cancelled = True
            watchers, self._watchers = self._watchers, []
        for wake in watchers:
            wake()

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it is cancelled; at once if it was."""
        with self._guard:
            if not self._is_cancelled:
                self._watchers.append(wake)
                return
        wake()

    def unwatch(self, wake: Callable[[], None]) -> None:
        """Take a `watch` back."""
        with self._guard:
            if wake in self._watchers:
                self._watchers.remove(wake)


Timeout = float | Deadline | None


class InTime(Sequence[T]):
    """The same items; going through them ends once there is no time left."""

    def __init__(self, items: Sequence[T], deadline: Deadline) -> None:
        self._items, self._deadline = items, deadline

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        self._deadline.check()
        return self._items[at]

    def __iter__(self) -> Iterator[T]:
        return self._deadline.checked(self._items)


def within(
    embedder: T, deadline: Deadline, *, is_patient: bool = False, has_turn: bool = False
) -> T:
    """The embedder for the length of one call, where it can end one; else as it is.

    With `is_patient` it waits for its turn however many wait already; with `has_turn` the caller
    holds a slot of its `words` lane, in which texts are embedded then.
    """
    bind: Callable[..., T] | None = getattr(embedder, "within", None)
    if bind is None:
        return embedder
    turn = {"has_turn": True} if has_turn else {}
    return bind(deadline, is_patient=is_patient, **turn)
