"""Two contenders in one process, in alternating bursts: their times, and the ratio.

In:  two functions of the same input, and inputs.
Out: `Summary` of each, `Result` with the ratio; everything in the benchmark's `extra_info`.
Knows nothing about embeddings, torch or what is raced.

In alternating bursts, because a shared machine drifts by a third within minutes: both contenders
then meet the same drift. A burst is ten calls, as a service under load makes them: within it each
works with the caches that its own size leaves it. Strict turns are measured as well: there each
call first finds its memory pushed out by the other side's, which costs the smaller one more.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

BURST = 10
# OpenMP's threads spin for some milliseconds after torch has answered, on cores that are ours then.
SETTLE_S = 0.02

Input = TypeVar("Input")
Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


@dataclass(frozen=True)
class Summary:
    """What n measurements come to; `unit` is ms, s or "x real time" (where more is better)."""

    unit: str
    n: int
    p50: float
    p99: float
    best: float

    @classmethod
    def of(cls, values: Sequence[float], unit: str) -> Summary:
        """Percentiles of `values`; the 99th is on the bad side, whichever that is."""
        more_is_better = unit.startswith("x")
        return cls(
            unit=unit,
            n=len(values),
            p50=float(np.percentile(values, 50)),
            p99=float(np.percentile(values, 1 if more_is_better else 99)),
            best=float(max(values) if more_is_better else min(values)),
        )


@dataclass(frozen=True)
class Result(Generic[Ours, Theirs]):
    """Seconds of each round on the clock and on the processor; the last answers of both.

    `turns` are the same of strict turns, clock only: (ours, peer).
    """

    ours_s: list[float]
    peer_s: list[float]
    ours_processor_s: list[float]
    peer_processor_s: list[float]
    ours: Ours
    peer: Theirs
    turns: tuple[list[float], list[float]]
    last: Any  # the input of the last answers

    @property
    def ratio(self) -> float:
        """How many times longer the peer's median is."""
        return float(np.median(self.peer_s) / np.median(self.ours_s))

    @property
    def processor_ratio(self) -> float:
        """The same of processor time, which a neighbour's load hardly moves."""
        return float(np.median(self.peer_processor_s) / np.median(self.ours_processor_s))

    @property
    def ratio_by_turns(self) -> float:
        """How many times longer the peer's median is when the two take strict turns."""
        ours_s, peer_s = self.turns
        return float(np.median(peer_s) / np.median(ours_s))


class _Times:
    """Seconds of one contender's rounds."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Time the block, all of this process' threads together."""
        start, processor = time.perf_counter(), time.process_time()
        yield
        self.clock.append(time.perf_counter() - start)
        self.processor.append(time.process_time() - processor)


def race(
    benchmark: Any,
    ours: Callable[[Input], Ours],
    peer: Callable[[Input], Theirs],
    inputs: Sequence[Input],
    *,
    rounds: int,
    burst: int = BURST,
) -> Result[Ours, Theirs]:
    """`rounds` of both on inputs[0], inputs[1], ... (round and round), in bursts; then in turns.

    The peer runs in the fixture's untimed setup, so that its own statistics are ours alone.
    """
    ours_s, peer_s = _Times(), _Times()
    turns: tuple[list[float], list[float]] = ([], [])
    last: list[Theirs] = []

    def given(number: int) -> Input:
        return inputs[number % len(inputs)]

    def peers(count: int) -> None:
        for _ in range(count):
            value = given(len(peer_s.clock))
            with peer_s.taken():
                answer = peer(value)
            last[:] = [answer]

    def turn() -> tuple[tuple[Input], dict[str, Any]]:
        number = len(ours_s.clock)
        if number % burst == 0:
            peers(burst)
        return (given(number),), {}

    def timed(value: Input) -> Ours:
        with ours_s.taken():
            return ours(value)

    # What one side left in memory must not be walked through in the other's time.
    gc.collect()
    gc.freeze()
    try:
        answer = benchmark.pedantic(timed, setup=turn, rounds=rounds, warmup_rounds=burst)
        for number in range(max(1, rounds // 4) if burst > 1 else 0):
            for side, run in zip(turns, (ours, peer), strict=True):
                time.sleep(SETTLE_S)
                start = time.perf_counter()
                run(given(number))
                side.append(time.perf_counter() - start)
        last[:] = [peer(given(len(ours_s.clock) - 1))]
    finally:
        gc.unfreeze()
    # With --benchmark-disable there is one round and no warm-up.
    kept = slice(burst if len(ours_s.clock) > burst else 0, None)
    if burst == 1:
        turns = (ours_s.clock[kept], peer_s.clock[kept])
    return Result(
        ours_s.clock[kept], peer_s.clock[kept], ours_s.processor[kept], peer_s.processor[kept],
        answer, last[0], turns, given(len(ours_s.clock) - 1),
    )  # fmt: skip


def note(
    benchmark: Any,
    what: str,
    peer_name: str,
    ours: Summary,
    peer: Summary,
    ratio: float,
    *,
    goal: float | None = None,
    threads: int = 1,
    **facts: Any,
) -> None:
    """One row of the table, into `extra_info`; `facts` are what else was found."""
    benchmark.extra_info.update(
        what=what,
        peer_name=peer_name,
        ours=asdict(ours),
        peer=asdict(peer),
        ratio=ratio,
        goal=goal,
        threads=threads,
        load_average=list(os.getloadavg()),
        **facts,
    )


def milliseconds(seconds: Sequence[float]) -> Summary:
    """Seconds -> their summary in milliseconds."""
    return Summary.of([1e3 * value for value in seconds], "ms")


def check_goal(ratio: float, goal: float, smoke: bool) -> None:
    """AssertionError where a ratio that must be reached is not; a smoke run times nothing."""
    assert smoke or ratio >= goal, f"{ratio:.2f} times the peer's speed; at least {goal:g} is due"
