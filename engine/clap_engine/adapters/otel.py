"""Events -> OpenTelemetry: the module that talks to opentelemetry's API.

In:  events; a meter, or the one that your service has configured.
Out: histograms and counters of that meter.
Knows nothing about engines, exporters or the SDK.

    engine = clap_engine.load(on_event=OtelEvents())
"""

from __future__ import annotations

from typing import Any

from clap_engine import __version__
from clap_engine.errors import DependencyError
from clap_engine.events import CallEvent, Event, RecallEvent, TowerEvent


class OtelEvents:
    """An `on_event`. Durations are in seconds, as OpenTelemetry's conventions want."""

    def __init__(self, meter: Any = None, *, prefix: str = "clap_engine") -> None:
        """`meter` is a Meter, None one of the global provider."""
        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise DependencyError(
                f"opentelemetry can't be imported ({error}); run: pip install 'clap-engine[otel]'"
            ) from error
        meter = meter or metrics.get_meter("clap_engine", __version__)
        self._calls = meter.create_histogram(
            f"{prefix}.call.duration", "s", "Duration of a call, waiting included."
        )
        self._waits = meter.create_histogram(
            f"{prefix}.wait.duration", "s", "Time that a call spent in the queue of its lane."
        )
        self._stages = meter.create_histogram(
            f"{prefix}.stage.duration", "s", "Time spent in a stage of a verb."
        )
        self._items = meter.create_counter(
            f"{prefix}.items", "1", "What went in and came out: texts, windows, hits."
        )
        self._loaded = meter.create_up_down_counter(
            f"{prefix}.tower.loaded", "1", "Towers in memory."
        )
        self._recall = meter.create_histogram(
            f"{prefix}.live_recall", "1", "Share of the exact answer that a search had found."
        )

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, CallEvent):
            which = {"verb": event.verb, "lane": event.lane, "outcome": event.outcome}
            if not event.is_ok:
                which["error.type"] = event.outcome
            self._calls.record(event.total_ms / 1e3, which)
            self._waits.record(event.wait_ms / 1e3, {"lane": event.lane})
            for stage, ms in event.stages_ms.items():
                if stage != "total":
                    self._stages.record(ms / 1e3, {"verb": event.verb, "stage": stage})
            for kind, count in event.sizes.items():
                self._items.add(count, {"verb": event.verb, "kind": kind})
        elif isinstance(event, TowerEvent):
            self._loaded.add(1 if event.is_loaded else -1, {"tower": event.tower})
        elif isinstance(event, RecallEvent):
            self._recall.record(event.recall, {"index": event.index, "source": event.source})
