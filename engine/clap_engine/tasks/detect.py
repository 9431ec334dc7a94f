"""When does each label sound: scores over time -> events.

In:  blocks of consecutive frames' probabilities [n, L], in order; thresholds.
Out: `Event`s, each as soon as nothing later can change it.
Knows nothing about models or files. Memory is that of one block and one event a label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from clap_engine.arrays import Float64
from clap_engine.tasks.frames import Block
from clap_engine.tasks.scores import Background
from clap_engine.tasks.settings import DetectSettings


@dataclass(frozen=True)
class Event:
    """A label from `start_s` to `end_s`; `score` is its highest probability, at `peak_s`."""

    label: str
    start_s: float
    end_s: float
    score: float
    peak_s: float


def events(
    blocks: Iterable[Block],
    names: tuple[str, ...],
    frame_s: float,
    background: Background,
    settings: DetectSettings,
) -> Iterator[Event]:
    """Events by the time at which they are over, with silence heard as no label."""
    tracker = Tracker(
        len(names), settings.threshold, settings.release, round(settings.merge_s / frame_s)
    )
    end_s = math.inf

    def told(runs: Iterable[Run]) -> Iterator[Event]:
        for run in runs:
            start_s, until_s = run.first * frame_s, min(run.end * frame_s, end_s)
            if until_s - start_s >= settings.min_duration_s:
                peak_s = min((run.peak_at + 0.5) * frame_s, until_s)
                yield Event(names[run.label], start_s, until_s, run.peak, peak_s)

    for block in blocks:
        scores = background.probabilities(block.cosines)
        scores[block.is_silent] = 0.0
        end_s = math.inf if block.end_s is None else block.end_s
        yield from told(tracker.add(block.first, scores))
    yield from told(tracker.rest())


@dataclass
class Run:
    """One label's frames from `first` to before `end`, and the highest score among them."""

    label: int
    first: int
    end: int
    peak: float
    peak_at: int


class Tracker:
    """Hysteresis over L labels at once: open runs, and closed ones that may still be continued."""

    def __init__(
        self, count: int, threshold: ArrayLike, release: ArrayLike, merge: ArrayLike
    ) -> None:
        """For all labels or for each; `merge` counts the frames between two runs that make one."""
        self._threshold = np.broadcast_to(np.asarray(threshold, np.float64), count)
        self._release = np.broadcast_to(np.asarray(release, np.float64), count)
        self._merge = np.broadcast_to(np.asarray(merge, np.int64), count).tolist()
        self._first = np.full(count, -1)  # of the open run
        self._peak = np.zeros(count)
        self._peak_at = np.zeros(count, np.int64)
        self._closed: dict[int, Run] = {}
        self._next = 0

    def add(self, first: int, scores: Float64) -> list[Run]:
        """Scores [n, L] of the frames from `first` on -> runs that are over."""
        over: list[Run] = []
        heard = scores >= self._release
        for number, (row, is_heard) in enumerate(zip(scores, heard, strict=True), first):
            is_open = self._first >= 0
            if is_open.any() or is_heard.any():
                for label in np.flatnonzero(is_open & ~is_heard).tolist():
                    self._close(label, number, over)
                begins = is_heard & ~is_open
                self._first[begins] = number
                self._peak[begins] = -1.0
                higher = is_heard & (row > self._peak)
                self._peak[higher] = row[higher]
                self._peak_at[higher] = number
            if self._closed:
                over += self._forget(number)
        self._next = first + len(scores)
        return over

    def rest(self) -> list[Run]:
        """What is left at the end of the sound."""
        over: list[Run] = []
        for label in np.flatnonzero(self._first >= 0).tolist():
            self._close(label, self._next, over)
        over += sorted(self._closed.values(), key=lambda run: (run.end, run.label))
        self._closed = {}
        return over

    def _close(self, label: int, end: int, over: list[Run]) -> None:
        """The open run of a label ends; it continues the closed one or takes its place."""
        first, peak = int(self._first[label]), float(self._peak[label])
        self._first[label] = -1
        if peak < self._threshold[label]:
            return
        run = Run(label, first, end, peak, int(self._peak_at[label]))
        last = self._closed.get(label)
        if last is not None and first - last.end <= self._merge[label]:
            run.first = last.first
            if last.peak >= run.peak:
                run.peak, run.peak_at = last.peak, last.peak_at
        elif last is not None:
            over.append(last)
        self._closed[label] = run

    def _forget(self, number: int) -> list[Run]:
        """Closed runs that nothing can continue any more at frame `number`."""
        done = [
            run
            for label, run in self._closed.items()
            if self._first[label] < 0 and number - run.end > self._merge[label]
        ]
        for run in done:
            del self._closed[run.label]
        return done
