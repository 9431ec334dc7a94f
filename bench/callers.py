"""Many callers of one engine: words to hits, repeated words, texts and searches beside audio.

In:  a `Trial`: vectors, a tuned collection of them.
Out: queries a second, p50 and p99; ratios that are due.
Knows nothing about peers.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.collection import Collection
from clap_engine.engine import Engine
from clap_engine.loading import load
from contender import K
from contest import BURST, alone
from stolen import in_slices
from trial import Trial, percentiles
from vectors import BUNDLE

CALLERS = (1, 4, 16)
# Where each thread that calls begins to count: no text is asked twice, or it would be remembered.
_MILLIONS = itertools.count(1)


def callers(trial: Trial) -> dict[str, Any]:
    """New words to hits by 1, 4 and 16 threads; the value is p99 of four over p50 of one."""
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(trial.prepare(), read_only=True) as collection,
        alone(trial.lock),
    ):
        texts = _texts(trial)
        ask: Callable[[int], Any] = lambda number: collection.search(  # noqa: E731
            next_of(texts, number), k=K
        )
        _run(ask, 1, 0.5)
        timed = in_slices({f"callers_{n}": _slices(ask, n) for n in CALLERS}, trial.seconds / 2)
        found = {
            name: {**percentiles(ms), "qps": len(ms) / counts["seconds"], **counts}
            for name, (ms, counts) in timed.items()
        }
        right = _agree(collection, engine, texts)
    return {
        **found, "is_right": right,
        "value": found["callers_4"]["p99_ms"] / found["callers_1"]["p50_ms"],
    }  # fmt: skip


def repeat(trial: Trial) -> dict[str, Any]:
    """Words that were asked before, against searches by their vectors, in alternating bursts."""
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(trial.prepare(), read_only=True) as collection,
        alone(trial.lock),
    ):
        texts = _texts(trial)[: 20 * BURST]
        rows = [engine.embed_text(text)[0] for text in texts]
        taken: dict[str, list[float]] = {"words": [], "vector": []}
        is_same = True
        for turn in range(6):
            for start in range(0, len(texts), BURST):
                part = slice(start, start + BURST)
                ways: list[tuple[str, list[Any]]] = [("words", texts[part]), ("vector", rows[part])]
                # What comes second finds caches warm: each way is second as often.
                for name, queries in ways if (turn + start // BURST) % 2 else ways[::-1]:
                    for query in queries:
                        begun = time.perf_counter()
                        collection.search(query, k=K)
                        taken[name].append(1e3 * (time.perf_counter() - begun))
        for text, row in zip(texts[:20], rows[:20], strict=True):
            is_same &= _keys(collection, text) == _keys(collection, row)
        stats = engine.stats().text_cache
    figures = {name: percentiles(ms) for name, ms in taken.items()}
    return {
        **figures, "hits": stats.hits, "misses": stats.misses, "is_right": is_same,
        "value": figures["words"]["p50_ms"] / figures["vector"]["p50_ms"],
    }  # fmt: skip


def beside_audio(trial: Trial) -> dict[str, Any]:
    """One caller's texts while four others embed sounds all the time, against texts alone.

    With the interpreter's lock held by native code, nothing would be computed beside it: the value
    is what the text tower gets done by two threads over one.
    """
    with load(BUNDLE, threads=1) as engine, alone(trial.lock):
        engine.warm()
        texts = _texts(trial)
        seconds = trial.seconds / 4
        clip = _clip(engine)
        idle, _ = _timed(lambda number: engine.embed_text(next_of(texts, number)), seconds)
        stop = threading.Event()
        workers = [
            threading.Thread(target=_until, args=(stop, lambda: engine.embed_windows(clip)))
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        busy, _ = _timed(lambda number: engine.embed_text(next_of(texts, number)), seconds)
        waited = engine.stats().lanes["text"].queued
        stop.set()
        for worker in workers:
            worker.join()
        text, audio, windows = engine._text_encoder(), engine._audio_encoder(), _windows(engine)
        log_mel = {"log_mel": audio._mel(windows)}
        graph = audio._tower.session()
        works: dict[str, Callable[[int], Any]] = {
            "text": lambda number: text.encode([next_of(texts, number)]),
            "audio": lambda number: audio.encode(windows),
            "audio_graph": lambda number: graph.run(["embedding"], log_mel),
            "log_mel": lambda number: audio._mel(windows),
        }
        scaling = {}
        for name, work in works.items():
            one, two = (len(_run(work, count, seconds / 2)) for count in (1, 2))
            scaling[name] = two / one
    return {
        "idle": percentiles(idle), "busy": percentiles(busy), "texts_that_queued": waited,
        "two_threads_over_one": scaling, "is_right": waited == 0, "value": scaling["text"],
    }  # fmt: skip


def beside_indexing(trial: Trial) -> dict[str, Any]:
    """Words to hits while the same process indexes sounds into the collection, against alone."""
    folder = trial.copy("beside-indexing")
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(folder) as collection,
        alone(trial.lock),
    ):
        engine.warm()
        texts, seconds = _texts(trial), trial.seconds / 4
        clip = _clip(engine)
        ask: Callable[[int], Any] = lambda number: collection.search(  # noqa: E731
            next_of(texts, number), k=K
        )
        _run(ask, 1, 0.5)
        idle, calm = _timed(ask, seconds)
        stop, added = threading.Event(), [0]

        def index() -> None:
            number = 0
            while not stop.is_set():
                keys = [f"new {number + i}" for i in range(32)]
                added[0] += collection.add([clip] * 32, keys=keys).added
                number += 32

        worker = threading.Thread(target=index)
        worker.start()
        busy, rough = _timed(ask, seconds)
        stop.set()
        worker.join()
    found = {"idle": percentiles(idle) | calm, "busy": percentiles(busy) | rough}
    return {
        **found, "windows_added": added[0], "is_right": added[0] > 0,
        "value": found["busy"]["p99_ms"] / found["idle"]["p99_ms"],
    }  # fmt: skip


def next_of(texts: list[str], number: int) -> str:
    """A text that was not asked before, of the usual length."""
    return f"{texts[number % len(texts)]} {number}"


def _texts(trial: Trial) -> list[str]:
    """The captions that the queries were made of, or words of their kind."""
    path: Path = trial.vectors.folder / "queries.txt"
    if path.is_file():
        return path.read_text().splitlines()
    things = ("banjo", "church organ", "dog", "drum", "violin", "siren", "rain")
    return [f"a {how} {what}" for what in things for how in ("slow", "bright", "distant")]


def _timed(work: Callable[[int], Any], seconds: float) -> tuple[list[float], dict[str, Any]]:
    """Milliseconds of one caller, of seconds that nobody took from, and how many those were."""
    return in_slices({"": _slices(work, 1)}, seconds)[""]


def _run(work: Callable[[int], Any], count: int, seconds: float) -> list[float]:
    """Milliseconds of each call, by `count` threads that call again and again."""
    return _slices(work, count)(seconds)


def _slices(work: Callable[[int], Any], count: int) -> Callable[[float], list[float]]:
    """The same, to be called with seconds, again and again; no number is given to `work` twice."""
    numbers = [next(_MILLIONS) * 1_000_000 for _ in range(count)]

    def run(seconds: float) -> list[float]:
        taken: list[list[float]] = [[] for _ in range(count)]
        end = time.perf_counter() + seconds

        def call(thread: int) -> None:
            while (begun := time.perf_counter()) < end:
                work(numbers[thread])
                numbers[thread] += 1
                taken[thread].append(1e3 * (time.perf_counter() - begun))

        threads = [threading.Thread(target=call, args=(thread,)) for thread in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [ms for some in taken for ms in some]

    return run


def _until(stop: threading.Event, work: Callable[[], Any]) -> None:
    while not stop.is_set():
        work()


def _windows(engine: Engine) -> Any:
    spec = engine.bundle.manifest.audio
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((1, spec.window_samples))).astype(np.float32)


def _clip(engine: Engine) -> tuple[Any, int]:
    return _windows(engine)[0], engine.bundle.manifest.audio.rate_hz


def _keys(collection: Collection, query: Any) -> list[str]:
    return [hit.key for hit in collection.search(query, k=K).hits]


def _agree(collection: Collection, engine: Engine, texts: list[str]) -> bool:
    """Whether words find what their vector finds."""
    return all(
        _keys(collection, text) == _keys(collection, engine.embed_text(text)[0])
        for text in texts[:20]
    )
