"""How long two engines take for a text and for a window, side by side in one process.

In:  two engines.
Out: `Timing`s by what was timed.
Knows nothing about sets or figures.

Calls come in short bursts, one engine after the other, so that what else the machine does falls on
both alike; the first burst of each is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from clap_engine.comparison.results import Timing
from clap_engine.deadline import Deadline
from clap_engine.engine import Engine

BURST, MIN_BURSTS, MAX_BURSTS = 5, 3, 20
# Of each kind of call, both engines together; at least MIN_BURSTS are made all the same.
BUDGET_S = 3.0


def timings(a: Engine, b: Engine, deadline: Deadline) -> dict[str, Timing]:
    """Milliseconds of a short text that was not asked before, and of a window of noise."""

    def window(engine: Engine) -> Callable[[int], object]:
        spec = engine.bundle.manifest.audio
        length = round(spec.rate_hz * spec.window_s)
        sound = (0.1 * np.random.default_rng(0).standard_normal(length)).astype(np.float32)
        return lambda number: engine.embed_windows((sound, spec.rate_hz), timeout_s=deadline)

    def text(engine: Engine) -> Callable[[int], object]:
        return lambda number: engine.embed_text(f"take {number} of a banjo", timeout_s=deadline)

    return {
        "text": bursts(text(a), text(b), deadline),
        "window": bursts(window(a), window(b), deadline),
    }


def bursts(a: Callable[[int], object], b: Callable[[int], object], deadline: Deadline) -> Timing:
    """Medians of both; each call gets a number of its own."""
    times: tuple[list[float], list[float]] = [], []
    begun, number = time.perf_counter(), 0
    for burst in range(MAX_BURSTS + 1):
        for call, kept in zip((a, b), times, strict=True):
            for _ in range(BURST):
                deadline.check()
                number += 1
                before = time.perf_counter()
                call(number)
                if burst:
                    kept.append(1000 * (time.perf_counter() - before))
        if burst >= MIN_BURSTS and time.perf_counter() - begun > BUDGET_S:
            break
    return Timing(float(np.median(times[0])), float(np.median(times[1])), len(times[0]))
