"""Events -> Prometheus: the module that talks to prometheus_client.

In:  events; the registry that your service exposes.
Out: histograms, counters and gauges in that registry.
Knows nothing about engines or how metrics are scraped.

    engine = clap_engine.load(on_event=PrometheusEvents())
"""

from __future__ import annotations

from typing import Any

from clap_engine.errors import DependencyError
from clap_engine.events import CallEvent, Event, RecallEvent, TowerEvent

# Seconds: a repeated query takes half a millisecond, an hour of audio some ten seconds.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
BUCKETS_RECALL = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


class PrometheusEvents:
    """An `on_event`. One for each registry; several engines may share it."""

    def __init__(self, registry: Any = None, *, prefix: str = "clap_engine") -> None:
        """`registry` is a CollectorRegistry, None the client's default."""
        try:
            import prometheus_client as client
        except ImportError as error:
            raise DependencyError(
                f"prometheus_client can't be imported ({error}); run: "
                "pip install 'clap-engine[prometheus]'"
            ) from error
        options: dict[str, Any] = {"registry": registry or client.REGISTRY, "namespace": prefix}
        self._calls = client.Histogram(
            "call_seconds", "Duration of a call, waiting included.",
            ["verb", "lane", "outcome"], buckets=BUCKETS_S, **options,
        )  # fmt: skip
        self._waits = client.Histogram(
            "wait_seconds", "Time that a call spent in the queue of its lane.", ["lane"],
            buckets=BUCKETS_S, **options,
        )  # fmt: skip
        self._stages = client.Counter(
            "stage_seconds", "Time spent in a stage of a verb.", ["verb", "stage"], **options
        )
        self._items = client.Counter(
            "items", "What went in and came out: texts, windows, hits.", ["verb", "kind"],
            **options,
        )  # fmt: skip
        self._loaded = client.Gauge("tower_loaded", "Towers in memory.", ["tower"], **options)
        self._recall = client.Histogram(
            "live_recall", "Share of the exact answer that a search had found.",
            ["index", "source"], buckets=BUCKETS_RECALL, **options,
        )  # fmt: skip

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, CallEvent):
            self._calls.labels(event.verb, event.lane, event.outcome).observe(event.total_ms / 1e3)
            self._waits.labels(event.lane).observe(event.wait_ms / 1e3)
            for stage, ms in event.stages_ms.items():
                if stage != "total":
                    self._stages.labels(event.verb, stage).inc(max(0.0, ms / 1e3))
            for kind, count in event.sizes.items():
                self._items.labels(event.verb, kind).inc(count)
        elif isinstance(event, TowerEvent):
            self._loaded.labels(event.tower).inc(1 if event.is_loaded else -1)
        elif isinstance(event, RecallEvent):
            self._recall.labels(event.index, event.source).observe(event.recall)
