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

    Outside the main thread, where Python takes no signals, and where Ctrl-C is ignored or not
    Python's to handle, nothing changes.
    """
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before in (None, signal.SIG_IGN):
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.came = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
