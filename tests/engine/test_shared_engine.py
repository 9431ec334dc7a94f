"""One engine in many threads: equal answers, budgets of threads, close, idling, fork, soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soak
from fake_embedder import child_environment
from sounds import noise
from tiny_bundle import RATE_HZ, WINDOW_S, make_bundle

from clap_engine.arrays import Float32
from clap_engine.engine import Engine
from clap_engine.errors import ClapError, ClosedError, ForkedError
from clap_engine.events import Event, TowerEvent
from clap_engine.loading import load

WINDOW = round(RATE_HZ * WINDOW_S)
THREADS = 16
RUNS = 5000
TEXTS = ["a slow banjo", "rain on a tin roof", "a dog barks", "a fast melody !"]
CLIPS = soak.CLIPS
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    with load(tiny, precision="fp32", threads=1) as opened:
        yield opened


def differing(encode: Callable[[int], Float32], count: int, runs: int) -> int:
    """How many of `runs` answers, by 16 threads at once, differ from one thread's in any bit."""
    wanted = [encode(number).tobytes() for number in range(count)]
    wrong, start = [0] * THREADS, threading.Barrier(THREADS)

    def work(thread: int) -> None:
        start.wait()
        for run in range(runs // THREADS):
            number = (thread + run) % count
            wrong[thread] += encode(number).tobytes() != wanted[number]

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return sum(wrong)


def test_one_session_in_16_threads_is_bitwise_one_thread(engine: Engine) -> None:
    text, audio = engine._text_encoder(), engine._audio_encoder()  # past the cache of texts
    windows = noise(3, 4, WINDOW)
    assert differing(lambda i: text.encode([TEXTS[i]]), len(TEXTS), RUNS) == 0
    assert differing(lambda i: audio.encode(windows[i : i + 1]), len(windows), RUNS // 2) == 0
    assert differing(lambda i: engine.embed_text(TEXTS[i]), len(TEXTS), RUNS) == 0
    assert differing(lambda i: engine.embed_audio([CLIPS[i]]), len(CLIPS), RUNS // 8) == 0


def test_that_test_can_fail(engine: Engine) -> None:
    """Its control: an encoder whose threads share a buffer is caught."""
    text = engine._text_encoder()
    shared = np.zeros((1, engine.dim), np.float32)

    def careless(number: int) -> Float32:
        shared[:] = 0
        shared[:] += text.encode([TEXTS[number]])
        return shared

    assert differing(careless, len(TEXTS), RUNS) > 0


BUDGET = """
import os, sys, time
import numpy as np
from clap_engine.loading import load
with load(sys.argv[1], precision="fp32", threads=int(sys.argv[2])) as engine:
    engine.warm()
    clip = (np.ones(4000, np.float32), 4000)
    for i in range(5):
        engine.embed_text([f"a dog {i}"] * 3)
        engine.embed_audio([clip, clip])
    least, end_s = 999, time.monotonic() + 3
    while time.monotonic() < end_s and least > 2 * int(sys.argv[2]):
        least = min(least, len(os.listdir("/proc/self/task")))  # short-lived ones end
        time.sleep(0.01)
    print(least, {name for name in os.environ if name.endswith("_NUM_THREADS")})
"""


@needs_proc
def test_threads_stay_within_their_budget(tiny: Path) -> None:
    """Law: each of the two towers has n - 1 threads beside the caller's; nothing global changes."""
    environment = {
        name: value
        for name, value in child_environment().items()
        if not name.endswith("_NUM_THREADS")
    } | {"OPENBLAS_NUM_THREADS": "1"}
    counts = {}
    for n in (1, 2, 4):
        told = subprocess.run(
            [sys.executable, "-c", BUDGET, str(tiny), str(n)], env=environment, check=True,
            capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip
        count, names = told.split(maxsplit=1)
        counts[n] = int(count)
        assert names.strip() == "{'OPENBLAS_NUM_THREADS'}"
    # Two more: this thread, and one that importing onnxruntime starts.
    assert all(counts[n] <= 2 * (n - 1) + 2 for n in counts), counts
    assert counts[4] > counts[1]  # the control: it does count the graphs' threads


@pytest.mark.parametrize("round_", range(20))
def test_close_during_runs_ends_cleanly(tiny: Path, round_: int, tmp_path: Path) -> None:
    engine = load(tiny, precision="fp32", threads=1)
    sounds = engine.collection(tmp_path / "c", create=True)
    sounds.add([CLIPS[0]], keys=["a"])
    started, ended = threading.Semaphore(0), list[str]()

    def work(number: int) -> None:
        try:
            for turn in range(10**6):
                if number % 3 == 0:
                    engine.embed_text(f"a dog {turn}")
                elif number % 3 == 1:
                    engine.embed_audio(CLIPS[:2])
                else:
                    sounds.search(f"a dog {turn}")
                started.release()
        except ClosedError:
            ended.append("closed")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        assert started.acquire(timeout=20)
    if round_ % 2:
        sounds.close()
    engine.close()
    engine.close()
    for worker in workers:
        worker.join(20)
    assert ended == ["closed"] * 6
    sounds.close()
    with pytest.raises(ClosedError):
        sounds.search("a dog")


# Idling


def test_an_idle_tower_is_given_back_and_loaded_again(tiny: Path) -> None:
    events: list[Event] = []
    gone = threading.Event()

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, TowerEvent) and not event.is_loaded:
            gone.set()

    with load(tiny, precision="fp32", threads=1, idle_unload_s=0.05, on_event=listen) as engine:
        before = engine._text_encoder().encode(["a dog"])
        assert gone.wait(20)
        assert engine.stats().loaded == ()
        assert engine.embed_text("a dog").tobytes() == before.tobytes()
        engine.embed_audio(CLIPS)
    towers = [e.tower for e in events if isinstance(e, TowerEvent) and e.is_loaded]
    assert towers.count("text") >= 2
    assert threading.active_count() < 20


def test_a_tower_in_use_is_not_given_back(tiny: Path) -> None:
    """Its control: as long as calls come, nothing is unloaded."""
    with load(tiny, precision="fp32", threads=1, idle_unload_s=5.0) as engine:
        first = engine._text_encoder()
        for turn in range(300):
            engine.embed_text(f"a dog {turn}")
        assert engine._text_encoder() is first


def test_unloading_under_load_loses_nothing(tiny: Path) -> None:
    """Towers that go while eight threads use them: each call still ends as it should."""
    wrong: list[object] = []
    with load(tiny, precision="fp32", threads=1, idle_unload_s=0.001) as engine:
        wanted = engine._text_encoder().encode(["a dog"]).tobytes()

        def work() -> None:
            for _ in range(60):
                try:
                    if engine._text_encoder().encode(["a dog"]).tobytes() != wanted:
                        wrong.append("other bits")
                    engine.embed_audio(CLIPS[:1])
                except ClapError as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []


IDLE = """
import asyncio, sys, time
from clap_engine.async_engine import AsyncEngine

async def main(bundle, folder, seconds, is_asked):
    options = {"precision": "fp32", "threads": 2, "idle_unload_s": 3600}
    async with AsyncEngine.load(bundle, **options) as engine:
        async with engine.collection(folder, create=True) as sounds:
            await engine.warm()
            for i in range(5):
                await sounds.search(f"a dog {i}")
            await asyncio.sleep(0.5)
            worked, begun, used = 0.0, time.perf_counter(), time.process_time()
            while time.perf_counter() < begun + seconds:
                if is_asked:
                    before = time.process_time()
                    await sounds.search("a dog " + str(time.time()))
                    worked += time.process_time() - before
                await asyncio.sleep(1.0)
            print((time.process_time() - used - worked) / (time.perf_counter() - begun))

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] == "asked"))
"""


@pytest.mark.parametrize(("how", "most"), [("idle", 0.005), ("asked", 0.05)])
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_who_waits_costs_nothing(
    tiny: Path, tmp_path: Path, how: str, most: float, seconds: int
) -> None:
    """Law: of a core at most .5 % without requests, at one a second 5 % beyond the work."""
    told = subprocess.run(
        [sys.executable, "-c", IDLE, str(tiny), str(tmp_path / "c"), str(seconds), how],
        env=child_environment(), check=True, capture_output=True, text=True, timeout=200,
    ).stdout  # fmt: skip
    assert float(told) <= most


# Fork


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_fork_while_calls_run_and_wait_never_hangs(tiny: Path, is_loaded: bool) -> None:
    """20 forks while other threads hold the lanes: the child works or is told, at once."""
    engine = load(tiny, precision="fp32", threads=1)
    if is_loaded:
        engine.warm()
    stop = threading.Event()

    def clips() -> Iterator[Any]:
        while not stop.wait(0.0005):
            if is_loaded:
                yield CLIPS[0]

    def work() -> None:
        while not stop.is_set():
            if is_loaded:
                engine.embed_text(f"a dog {time.monotonic()}")
            else:
                engine.stats()

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads.append(threading.Thread(target=lambda: engine.embed_audio(clips())))  # type: ignore[call-overload]
    for thread in threads:
        thread.start()
    codes = []
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                code = 9
                try:
                    code = 1 if engine.embed_text("a dog", timeout_s=20).size else 9
                except ForkedError:
                    code = 7
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
        engine.close()
    assert codes == [7 if is_loaded else 1] * 20


# Soak


@needs_proc
@pytest.mark.parametrize(
    ("requests", "stretches", "most_bytes"),
    [(1000, 3, 2 << 20), pytest.param(1_000_000, 1, 10 << 20, marks=pytest.mark.slow)],
)
def test_a_long_run_holds_no_more_than_a_short_one(
    tiny: Path, tmp_path: Path, requests: int, stretches: int, most_bytes: int
) -> None:
    """Law: at most 1 MiB for 10,000 requests, threads and descriptors constant.

    The sample allows the allocator 2 MiB: what 1,000 requests would leak at 2 KiB each. A leak
    adds to every stretch, the allocator's next arena to one of them.
    """
    told = json.loads(
        subprocess.run(
            [sys.executable, soak.__file__, tiny, tmp_path / "c", str(requests), str(stretches)],
            env=child_environment(), check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    threads, descriptors = zip(*told["held"], strict=True)
    assert threads[1] <= threads[0]
    assert descriptors[1] <= descriptors[0]
    assert min(told["grown"]) <= most_bytes
    assert told["leaked"] > most_bytes  # the control: 20 kB a request are seen
