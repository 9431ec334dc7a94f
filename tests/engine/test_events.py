"""Events: what is told of each call, nothing private among it; no callback can break a call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sounds import noise
from tiny_bundle import RATE_HZ, WINDOW_S, make_bundle

from clap_engine.engine import Engine
from clap_engine.errors import (
    AudioError,
    DeadlineError,
    DependencyError,
    OverloadedError,
    TextError,
)
from clap_engine.events import CallEvent, Event, Observer, RecallEvent, TowerEvent
from clap_engine.limits import Limits
from clap_engine.loading import load

WINDOW = round(RATE_HZ * WINDOW_S)
SECRET = "a dog barks"
CLIP = (noise(1, 3 * WINDOW), RATE_HZ)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


class Listener:
    """Keeps what it is told; `seen` waits until that is so much."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._more:
            self.events.append(event)
            self._more.notify_all()

    def calls(self, verb: str) -> list[CallEvent]:
        return [e for e in self.events if isinstance(e, CallEvent) and e.verb == verb]

    def seen(self, kind: type[Event], count: int) -> list[Any]:
        def found() -> list[Any]:
            return [event for event in self.events if isinstance(event, kind)]

        with self._more:
            assert self._more.wait_for(lambda: len(found()) >= count, 30)
        return found()


def opened(tiny: Path, on_event: Callable[[Event], object], **options: Any) -> Engine:
    return load(tiny, precision="fp32", threads=1, on_event=on_event, **options)


def test_each_call_is_told_once_with_stages_and_sizes(tiny: Path, tmp_path: Path) -> None:
    told = Listener()
    with opened(tiny, told) as engine:
        engine.embed_text([SECRET, "rain"])
        engine.embed_text(SECRET)
        engine.embed_audio([CLIP, CLIP])
        with engine.collection(tmp_path / "secret.clap", create=True) as sounds:
            sounds.add([CLIP], keys=["secret key"])
            sounds.search(SECRET, k=1)
            sounds.search_batch([SECRET, "rain"], k=1)
    first, second = told.calls("embed_text")
    assert (first.lane, first.outcome, first.is_ok) == ("text", "ok", True)
    assert (first.sizes, second.sizes) == ({"texts": 2, "cached": 0}, {"texts": 1, "cached": 1})
    assert list(first.stages_ms) == ["tokenize", "text"]
    assert 0 < sum(first.stages_ms.values()) <= first.total_ms
    (audio,) = told.calls("embed_audio")
    assert audio.sizes == {"clips": 2, "windows": 6}
    assert list(audio.stages_ms) == ["decode", "audio"]
    assert [event.sizes for event in told.calls("add")] == [{"added": 1, "updated": 0, "failed": 0}]
    (search,) = told.calls("search")
    assert search.lane == "search"
    assert search.sizes == {"queries": 1, "hits": 1, "rows": 3}
    assert {"refresh", "shortlist", "rerank", "hydrate"} <= set(search.stages_ms)
    assert [event.sizes["queries"] for event in told.calls("search_batch")] == [2]
    assert {e.tower for e in told.events if isinstance(e, TowerEvent)} == {"text", "audio"}
    # Not the words, nor a key, nor a path.
    everything = " ".join(str(asdict(event)) for event in told.events)
    assert not any(word in everything for word in (SECRET, "secret", str(tmp_path)))


@pytest.mark.parametrize(
    ("verb", "use", "error"),
    [
        ("embed_text", lambda engine: engine.embed_text(" "), TextError),
        ("embed_text", lambda engine: engine.embed_text("a dog", timeout_s=0), DeadlineError),
        ("embed_windows", lambda engine: engine.embed_windows(b"no sound"), AudioError),
    ],
)
def test_what_failed_is_told_by_the_name_of_its_error(
    tiny: Path, verb: str, use: Callable[[Engine], object], error: type[Exception]
) -> None:
    told = Listener()
    with opened(tiny, told) as engine, pytest.raises(error):
        use(engine)
    assert [event.outcome for event in told.calls(verb)] == [error.__name__]


def test_being_turned_away_is_told(tiny: Path) -> None:
    told, inside, go = Listener(), threading.Event(), threading.Event()

    def clips() -> Any:
        inside.set()
        assert go.wait(20)
        yield CLIP

    with opened(tiny, told, limits=Limits(max_in_flight=1, max_waiting=0)) as engine:
        worker = threading.Thread(target=engine.embed_audio, args=(clips(),))
        worker.start()
        assert inside.wait(20)
        with pytest.raises(OverloadedError):
            engine.embed_audio([CLIP])
        go.set()
        worker.join(20)
    assert [event.outcome for event in told.calls("embed_audio")] == ["OverloadedError", "ok"]


def test_a_callback_that_raises_breaks_no_call_and_is_logged_once(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("no such gauge")

    with caplog.at_level(logging.ERROR, "clap_engine"), opened(tiny, broken) as engine:
        for _ in range(3):
            assert engine.embed_text(SECRET).shape == (1, engine.dim)
    assert [r.levelname for r in caplog.records].count("ERROR") == 1
    assert "no such gauge" in caplog.text


def test_live_recall_of_an_exact_plan_is_one(tiny: Path, tmp_path: Path) -> None:
    told = Listener()
    with (
        opened(tiny, told, live_recall=1.0) as engine,
        engine.collection(tmp_path / "c", create=True) as sounds,
    ):
        clips = [(noise(i, WINDOW), RATE_HZ) for i in range(40)]
        sounds.add(clips, keys=[f"k{i}" for i in range(40)])
        sounds.search(SECRET, k=10)
        (event,) = told.seen(RecallEvent, 1)
        assert (event.recall, event.k, event.rows) == (1.0, 10, 40)
        assert event.ms > 0
        with pytest.raises(DeadlineError):
            sounds.search(SECRET, timeout_s=0)
        sounds.search(SECRET, k=10, where={"key": "k7"})
        assert [event.recall for event in told.seen(RecallEvent, 2)] == [1.0, 1.0]


def test_live_recall_sees_what_a_short_plan_misses(tiny: Path, tmp_path: Path) -> None:
    """Its control: a shortlist of one window by two dims can't find the true ten."""
    told = Listener()
    with (
        opened(tiny, told, live_recall=1.0) as engine,
        engine.collection(tmp_path / "c", create=True) as sounds,
    ):
        clips = [(noise(i, WINDOW), RATE_HZ) for i in range(200)]
        sounds.add(clips, keys=[f"k{i}" for i in range(200)])
        sounds.rebuild()
        found = sounds.search(SECRET, k=3, shortlist=3)
        (event,) = told.seen(RecallEvent, 1)
        truth = sounds.search(SECRET, k=3, shortlist="all")
        shared = {hit.key for hit in found.hits} & {hit.key for hit in truth.hits}
        assert event.recall == len(shared) / 3


def test_live_recall_is_one_at_a_time_and_a_share(tiny: Path) -> None:
    from clap_engine.live_recall import LiveRecall

    told = Listener()
    recall = LiveRecall(Observer(told, live_recall=1.0))
    assert recall.is_drawn()
    assert not recall.is_drawn()  # one is under way
    go = threading.Event()

    def exact() -> list[str]:
        assert go.wait(20)
        return ["a", "b"]

    recall.repeat(["a"], exact, k=2, rows=9, index="flat", source="default")
    assert not recall.is_drawn()
    go.set()
    (event,) = told.seen(RecallEvent, 1)
    assert event.recall == 0.5
    rare = LiveRecall(Observer(told, live_recall=0.05))
    drawn = 0
    for _ in range(4000):
        if rare.is_drawn():
            drawn += 1
            rare.drop()
    assert 100 < drawn < 320  # 200 expected, 8 standard deviations


@pytest.mark.parametrize(
    "wrong", [{"live_recall": 2, "on_event": print}, {"live_recall": 0.5}, {"idle_unload_s": 0}]
)
def test_settings_are_checked(tiny: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        load(tiny, threads=1, **wrong)


# Adapters, with the real libraries


def _played(tiny: Path, on_event: Callable[[Event], object], folder: Path) -> None:
    with (
        opened(tiny, on_event, live_recall=1.0) as engine,
        engine.collection(folder, create=True) as sounds,
    ):
        sounds.add([CLIP], keys=["a"])
        for _ in range(3):
            engine.embed_text(SECRET)
        with pytest.raises(TextError):
            engine.embed_text(" ")
        sounds.search(SECRET)
        sounds._loans.now.search._recall._is_free.acquire(timeout=30)  # the repeated one has ended


def test_prometheus(tiny: Path, tmp_path: Path) -> None:
    client = pytest.importorskip("prometheus_client")
    from clap_engine.adapters.prometheus import PrometheusEvents

    registry = client.CollectorRegistry()
    _played(tiny, PrometheusEvents(registry), tmp_path / "c")

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"clap_engine_{name}", labels)

    texts = {"verb": "embed_text", "lane": "text"}
    assert value("call_seconds_count", **texts, outcome="ok") == 3
    assert value("call_seconds_count", **texts, outcome="TextError") == 1
    assert value("call_seconds_sum", **texts, outcome="ok") > 0
    assert value("wait_seconds_count", lane="text") == 4
    assert value("items_total", verb="embed_text", kind="texts") == 3
    assert value("stage_seconds_total", verb="search", stage="rerank") > 0
    assert value("stage_seconds_total", verb="search", stage="total") is None
    assert value("tower_loaded", tower="text") == 1
    assert value("live_recall_count", index="exact", source="default") in (1, None)
    exposed = client.generate_latest(registry).decode()
    assert "clap_engine_live_recall_bucket" in exposed
    assert SECRET not in exposed


def test_opentelemetry(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from clap_engine.adapters.otel import OtelEvents

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    _played(tiny, OtelEvents(provider.get_meter("test")), tmp_path / "c")
    data: Any = reader.get_metrics_data()
    points = {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    calls = {
        (p.attributes["verb"], p.attributes["outcome"]): p
        for p in points["clap_engine.call.duration"]
    }
    assert calls["embed_text", "ok"].count == 3
    assert calls["embed_text", "TextError"].attributes["error.type"] == "TextError"
    assert calls["search", "ok"].sum > 0
    items = {
        (p.attributes["verb"], p.attributes["kind"]): p.value for p in points["clap_engine.items"]
    }
    assert items["embed_text", "texts"] == 3
    assert {p.attributes["tower"]: p.value for p in points["clap_engine.tower.loaded"]} == {
        "text": 1, "audio": 1,
    }  # fmt: skip
    assert sum(p.count for p in points["clap_engine.live_recall"]) == 1
    assert SECRET not in data.to_json()
    provider.shutdown()


def test_a_missing_library_gives_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from clap_engine.adapters.otel import OtelEvents
    from clap_engine.adapters.prometheus import PrometheusEvents

    for name, adapter, extra in (
        ("prometheus_client", PrometheusEvents, "prometheus"),
        ("opentelemetry", OtelEvents, "otel"),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DependencyError, match=f"clap-engine\\[{extra}\\]"):
            adapter()
