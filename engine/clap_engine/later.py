"""A piece of work in a thread of its own, and what came of it.

In:  a function without arguments.
Out: its value, or what it raised, in the thread that asks.
Knows nothing about what is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """Begins at once. Whoever never asks for the result is not told of an error."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clap-engine-load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._values.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def result(self) -> T:
        """The value, once it is there; raises what the work raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._values[0]
