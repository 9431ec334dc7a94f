"""Counts and durations of requests, as Prometheus reads them; of all processes of a server.

In:  the route, status and seconds of each request; gauges that are asked when they are read.
Out: the text exposition format, version 0.0.4.
Knows nothing about HTTP frameworks or models.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from clap_engine.arrays import Float64

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Names of handlers, and what they answer; what is neither is counted as the last of each.
ROUTES = (
    "search", "embeddings", "audio_embeddings", "classify", "models", "about", "clip_map",
    "clip_audio", "health", "ready", "metrics", "openapi", "page", "none",
)  # fmt: skip
STATUSES = (
    200, 206, 304, 400, 401, 403, 404, 405, 408, 413, 415, 416, 421, 499, 503, 504, 500,
)  # fmt: skip
_SUMMED = ("clap_text_in_flight", "clap_audio_in_flight", "clap_decoders_replaced_total")
RESTARTED = "clap_workers_restarted_total"

Gauges = Mapping[str, tuple[str, Callable[[], float]]]


class Tally:
    """Counts of several processes, in memory that they share after fork(); a row for each.

    A row outlives its process: whoever takes its place counts on, so that no count ever falls.
    """

    def __init__(self, processes: int = 1) -> None:
        parts = (len(ROUTES) * len(STATUSES), len(ROUTES) * (len(BUCKETS_S) + 2), len(_SUMMED))
        self._ends = np.cumsum(parts).tolist()
        width = self._ends[-1] + 1  # and how often the process was replaced
        self._memory = mmap.mmap(-1, 8 * processes * width)
        self._rows: Float64 = np.frombuffer(self._memory, np.float64).reshape(processes, width)

    def row(self, slot: int) -> tuple[Float64, Float64, Float64]:
        """Views of one process: requests [R, S], seconds [R, buckets + 2], gauges."""
        return self._parts(self._rows[slot])

    def total(self) -> tuple[Float64, Float64, Float64]:
        """The sums of all."""
        return self._parts(self._rows.sum(axis=0))

    @property
    def restarted(self) -> int:
        """Processes that were replaced."""
        return int(self._rows[:, -1].sum())

    def replaced(self, slot: int) -> None:
        """The process of this row ended, and another takes its place."""
        self._rows[slot, -1] += 1

    def _parts(self, row: Float64) -> tuple[Float64, Float64, Float64]:
        first, second, third = self._ends
        requests = row[:first].reshape(len(ROUTES), len(STATUSES))
        seconds = row[first:second].reshape(len(ROUTES), len(BUCKETS_S) + 2)
        return requests, seconds, row[second:third]


class Metrics:
    """Counters of one process among those that share a tally; safe in many threads."""

    def __init__(self, gauges: Gauges, tally: Tally | None = None, slot: int = 0) -> None:
        """`gauges`: name -> (what it is, how to ask for it)."""
        self._gauges = dict(gauges)
        self._tally = tally or Tally()
        self._lock = threading.Lock()
        self._requests, self._seconds, self._own = self._tally.row(slot)
        self._before = [
            value if name.endswith("_total") else 0.0
            for name, value in zip(_SUMMED, self._own.tolist(), strict=True)
        ]
        self._own[:] = self._before

    def observe(self, route: str, status: int, seconds: float) -> None:
        """One request has ended."""
        at = ROUTES.index(route) if route in ROUTES else -1
        what = STATUSES.index(status) if status in STATUSES else -1
        place = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._requests[at, what] += 1
            self._seconds[at, place] += 1
            self._seconds[at, -1] += seconds
            self._tell()

    def text(self) -> str:
        """Everything, by name."""
        with self._lock:
            self._tell()
        requests, seconds, gauges = self._tally.total()
        lines = ["# HELP clap_requests_total Requests by route and status.",
                 "# TYPE clap_requests_total counter"]  # fmt: skip
        lines += [
            f'clap_requests_total{{route="{route}",status="{status}"}} {int(requests[at, what])}'
            for at, route in enumerate(ROUTES)
            for what, status in enumerate(STATUSES)
            if requests[at, what]
        ]
        lines += ["# HELP clap_request_seconds Seconds from the head of a request to its response.",
                  "# TYPE clap_request_seconds histogram"]  # fmt: skip
        for at, route in enumerate(ROUTES):
            lines += _histogram(route, seconds[at])
        summed = dict(zip(_SUMMED, gauges.tolist(), strict=True))
        for name, (what_it_is, ask) in sorted(self._gauges.items()):
            kind = "counter" if name.endswith("_total") else "gauge"
            value = summed[name] if name in summed else ask()
            lines += [f"# HELP {name} {what_it_is}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        lines += [f"# HELP {RESTARTED} Serving processes that ended and were replaced.",
                  f"# TYPE {RESTARTED} counter",
                  f"{RESTARTED} {self._tally.restarted}"]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _tell(self) -> None:
        """What is asked of this process, where the others see it."""
        for at, name in enumerate(_SUMMED):
            if name in self._gauges:
                self._own[at] = self._before[at] + self._gauges[name][1]()


def _histogram(route: str, counts: Float64) -> Iterator[str]:
    """The lines of one route: what is below each bound, the sum, how many."""
    if not counts[:-1].any():
        return
    below = 0
    for bound, count in zip((*BUCKETS_S, "+Inf"), counts[:-1].tolist(), strict=True):
        below += int(count)
        yield f'clap_request_seconds_bucket{{route="{route}",le="{bound}"}} {below}'
    yield f'clap_request_seconds_sum{{route="{route}"}} {counts[-1]:.6f}'
    yield f'clap_request_seconds_count{{route="{route}"}} {below}'
