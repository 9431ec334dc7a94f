"""The progress line: one line, on a terminal only, redrawn no more often than it must."""

from __future__ import annotations

from typing import Any

import pytest

from clap_engine.progress import ProgressLine


class _Terminal:
    """A stream that says it is a terminal and keeps what it is given."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_is_one_line_and_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal: Any = _Terminal()
    ticks = iter(range(100))
    with ProgressLine(3, stream=terminal, clock=lambda: float(next(ticks))) as line:
        for done in (1, 2, 3):
            line(done, f"clip {done}")
    assert terminal.text.count("\n") == 1
    assert "3/3" in terminal.text
    with ProgressLine(3) as line:
        line(1, "clip")
    assert capsys.readouterr().err == ""


def test_progress_is_redrawn_at_most_ten_times_a_second() -> None:
    terminal: Any = _Terminal()
    clock = iter(x / 1000 for x in range(10_000))
    with ProgressLine(1000, stream=terminal, clock=lambda: next(clock)) as line:
        for done in range(1, 1001):
            line(done)
    assert terminal.text.count("\r") <= 12
