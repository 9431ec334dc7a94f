"""A progress line for a terminal: how much is done, how fast, how long it takes still.

In:  how many items there are, and a call per item.
Out: one line on a stream, rewritten in place; nothing where the stream is no terminal.
Knows nothing about what the items are.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

# A terminal needs no more than this; redrawing per clip would cost a few per cent.
REDRAW_S = 0.1


class ProgressLine:
    """`with ProgressLine(total) as line: line(done, label)`; silent unless the stream is a TTY."""

    def __init__(
        self,
        total: int,
        *,
        unit: str = "clips",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._clock = clock
        self._start = clock()
        self._drawn = float("-inf")

    def __call__(self, done: int, label: str = "") -> None:
        """`done` items of the total are finished; `label` names the latest."""
        now = self._clock()
        if not self._shown or (now - self._drawn < REDRAW_S and done < self._total):
            return
        self._drawn = now
        elapsed_s = now - self._start
        rate = done / elapsed_s if elapsed_s > 0 else 0.0
        left = f"{(self._total - done) / rate:.0f} s left" if rate > 0 else "starting"
        width = shutil.get_terminal_size().columns
        filled = 20 * done // max(self._total, 1)
        bar = "#" * filled + "." * (20 - filled)
        text = f"[{bar}] {done}/{self._total}  {rate:.1f} {self._unit}/s  {left}  {label}"
        self._stream.write("\r" + text[: width - 1].ljust(width - 1))
        self._stream.flush()

    def of(self, done: int, total: int) -> None:
        """As a call, where the total becomes known as it goes; 0 as long as it isn't."""
        self._total = max(done, total)
        self(done)

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown and self._drawn > float("-inf"):
            self._stream.write("\n")
            self._stream.flush()
