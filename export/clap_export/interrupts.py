"""Ctrl-C between steps: work in hand is finished and kept, then the run stops.

In:  a block of steps.
Out: `check()` raises KeyboardInterrupt at the next place where nothing is lost.
Knows nothing about what is done in the block.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Remembers that Ctrl-C came."""

    def __init__(self) -> None:
        self.came = False

    def check(self) -> None:
        """KeyboardInterrupt if Ctrl-C came since the block began."""
        if self.came:
            raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Interrupts]:
    """Ctrl-C is only noted in this block; a second one stops at once.

    Outside the main thread, where Python takes no signals, nothing changes.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.came = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
