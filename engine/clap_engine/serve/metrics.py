"""Counts and durations of requests, as Prometheus reads them.

In:  the route, status and seconds of each request; gauges that are asked when they are read.
Out: the text exposition format, version 0.0.4.
Knows nothing about HTTP frameworks or models.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters of one server; safe in many threads."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """`gauges`: name -> (what it is, how to ask for it)."""
        self._gauges = dict(gauges)
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, tuple[list[int], float]] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        """One request has ended."""
        place = bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._requests[route, status] = self._requests.get((route, status), 0) + 1
            counts, total = self._seconds.get(route) or ([0] * (len(BUCKETS_S) + 1), 0.0)
            counts[place] += 1
            self._seconds[route] = counts, total + seconds

    def text(self) -> str:
        """Everything, by name."""
        with self._lock:
            requests = sorted(self._requests.items())
            seconds = [(route, list(c), total) for route, (c, total) in self._seconds.items()]
        lines = ["# HELP clap_requests_total Requests by route and status.",
                 "# TYPE clap_requests_total counter"]  # fmt: skip
        lines += [
            f'clap_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in requests
        ]
        lines += ["# HELP clap_request_seconds Seconds from the head of a request to its response.",
                  "# TYPE clap_request_seconds histogram"]  # fmt: skip
        for route, counts, total in sorted(seconds):
            below = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
                below += count
                lines.append(f'clap_request_seconds_bucket{{route="{route}",le="{bound}"}} {below}')
            lines.append(f'clap_request_seconds_sum{{route="{route}"}} {total:.6f}')
            lines.append(f'clap_request_seconds_count{{route="{route}"}} {below}')
        for name, (what, ask) in sorted(self._gauges.items()):
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name} {ask():g}"]
        return "\n".join(lines) + "\n"
