"""AsyncEngine and AsyncCollection: the same answers, cancelling, deadlines, bounded queues."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import noise
from tiny_bundle import (
    RATE_HZ,
    WINDOW_S,
    make_bundle,
    make_files,
    make_manifest,
    resealed,
    write_bundle,
)

import clap_engine
from clap_engine.async_collection import AsyncCollection
from clap_engine.async_engine import AsyncEngine
from clap_engine.collection import Collection
from clap_engine.deadline import Deadline
from clap_engine.engine import Engine
from clap_engine.errors import ClosedError, DeadlineError, ForkedError, OverloadedError, TextError
from clap_engine.limits import Limits
from clap_engine.loading import load
from clap_engine.query import Clip
from clap_engine.workers import Workers

WINDOW = round(RATE_HZ * WINDOW_S)
CLIP = (noise(1, 3 * WINDOW), RATE_HZ)
SOON_S = 20.0
# What the package itself calls on an engine.
INNER = {"calibration", "embed_text_timed", "forget_prompts", "known_text", "within", "words"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


Scenario = Callable[[AsyncEngine], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(tiny: Path) -> Play:
    """Runs a scenario with an engine of its own, two slots and four places to wait."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            limits = Limits(max_in_flight=2, max_waiting=4)
            engine = AsyncEngine.load(tiny, precision="fp32", threads=1, limits=limits)
            async with engine:
                await scenario(engine)

        asyncio.run(asyncio.wait_for(main(), 60))

    return run


class Blocked:
    """Calls of a lane that go on until `end`; each has begun when the constructor returns."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)

    def clips(self) -> Iterator[Any]:
        self.begun.release()
        while not self.go.wait(0.002):
            yield CLIP

    async def start(self, engine: AsyncEngine, count: int, **options: Any) -> list[Any]:
        tasks = [
            asyncio.create_task(engine.embed_audio(self.clips(), **options))  # type: ignore[arg-type]
            for _ in range(count)
        ]
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, timeout=SOON_S)
        return tasks


def test_the_same_rows_as_the_engine(play: Play, tiny: Path) -> None:
    with load(tiny, precision="fp32", threads=1) as plain:
        text, audio = plain.embed_text(["a dog", "rain"]), plain.embed_audio([CLIP])
        vectors, spans, duration_s = plain.embed_windows(CLIP)
        rung = plain.embed_text("a dog", dim=4)

    async def scenario(engine: AsyncEngine) -> None:
        await engine.warm("text")
        assert engine.stats().loaded == ("text",)
        assert np.array_equal(await engine.embed_text(["a dog", "rain"]), text)
        assert np.array_equal(await engine.embed_text("a dog", dim=4), rung)
        assert np.array_equal(await engine.embed_audio([CLIP]), audio)
        (clip,) = await engine.embed_audio([CLIP], windows=True)
        assert np.array_equal(clip.vectors, vectors)
        found = await engine.embed_windows(CLIP)
        assert np.array_equal(found[1], spans)
        assert found[2] == duration_s
        many = await asyncio.gather(*(engine.embed_text("a dog") for _ in range(5)))
        assert all(np.array_equal(row, text[:1]) for row in many)

    play(scenario)


def test_every_verb_has_its_twin() -> None:
    """What users call on an engine or a collection can be awaited, with its `timeout_s`."""
    for plain, twin, apart in (
        (Engine, AsyncEngine, INNER),
        (Collection, AsyncCollection, {"open"}),
    ):
        names = {name for name in dir(plain) if not name.startswith("_")} - apart
        assert names <= set(dir(twin)), names - set(dir(twin))
        bounded = {name for name in names if _has_timeout(getattr(plain, name))}
        assert bounded
        assert bounded <= {name for name in names if _has_timeout(getattr(twin, name))}


def _has_timeout(verb: Any) -> bool:
    return callable(verb) and "timeout_s" in inspect.signature(verb).parameters


def test_tasks_are_awaited_and_streams_are_followed(tmp_path: Path) -> None:
    files = make_files()
    calibration = {"text_mean": 0.0, "text_std": 0.2}
    path = write_bundle(
        tmp_path / "b", files, resealed(make_manifest(files), calibration=calibration)
    )
    labels = ["a dog", "rain"]
    with load(path, precision="fp32", threads=1) as plain:
        wanted, events = plain.classify(CLIP, labels), plain.detect(CLIP, labels)

    async def main() -> None:
        async with AsyncEngine.load(path, precision="fp32", threads=1) as engine:
            assert await engine.classify(CLIP, labels) == wanted
            assert await engine.detect(CLIP, labels) == events
            found = [event async for event in engine.detect_stream(CLIP, labels)]
            assert len(found) == len(list(events))
            with pytest.raises(DeadlineError):
                await engine.classify(CLIP, labels, timeout_s=0)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_errors_are_the_same_errors(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        with pytest.raises(TextError):
            await engine.embed_text(["  "])
        with pytest.raises(ValueError, match="give seconds"):
            await engine.embed_text(["a dog"], timeout_s=-1)

    play(scenario)


def test_cancelling_stops_the_work_at_the_next_window(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        (task,) = await blocked.start(engine, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Nobody ends the clips: only the cancelled deadline can end the work.
        for _ in range(4000):
            if not engine.stats().lanes["audio"].running:
                break
            await asyncio.sleep(0.005)
        assert engine.stats().lanes["audio"].running == 0
        assert len(await engine.embed_audio([CLIP])) == 1

    play(scenario)


def test_that_test_can_fail(play: Play) -> None:
    """Its control: work that nobody cancels goes on as long as the clips do."""

    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        (task,) = await blocked.start(engine, 1)
        await asyncio.sleep(0.1)
        assert engine.stats().lanes["audio"].running == 1
        blocked.go.set()
        assert await task is not None

    play(scenario)


def test_cancelling_one_call_ends_no_other_of_the_same_deadline(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked, shared = Blocked(), Deadline()
        first, second = await blocked.start(engine, 2, timeout_s=shared)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not shared.is_over
        assert not second.done()
        shared.cancel()
        with pytest.raises(DeadlineError):
            await second

    play(scenario)


def test_text_is_answered_while_every_audio_slot_is_taken(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        tasks = await blocked.start(engine, 2)
        assert (await engine.embed_text("a dog", timeout_s=SOON_S)).shape == (1, engine.dim)
        waiting = asyncio.create_task(engine.embed_windows(CLIP))
        await asyncio.sleep(0.02)
        assert not waiting.done()  # the control: a sound does wait
        blocked.go.set()
        await asyncio.gather(*tasks, waiting)

    play(scenario)


def test_waiting_in_the_queue_ends_by_the_deadline(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        tasks = await blocked.start(engine, 2)
        with pytest.raises(DeadlineError, match="waited longer"):
            await engine.embed_windows(CLIP, timeout_s=0.05)
        blocked.go.set()
        await asyncio.gather(*tasks)

    play(scenario)


def test_the_queue_is_bounded(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        tasks = await blocked.start(engine, 2)
        tasks += [asyncio.create_task(engine.embed_windows(CLIP)) for _ in range(4)]
        await asyncio.sleep(0)  # each stands in the queue now
        with pytest.raises(OverloadedError, match="6 audio calls run or wait; 4 may wait"):
            await engine.embed_windows(CLIP)
        assert (await engine.embed_text("a dog")).shape == (1, engine.dim)
        blocked.go.set()
        await asyncio.gather(*tasks)
        assert (await engine.embed_windows(CLIP))[2] > 0

    play(scenario)


def test_closing_ends_what_waits_and_what_runs(play: Play) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        blocked = Blocked()
        running = await blocked.start(engine, 2)
        waiting = asyncio.create_task(engine.embed_windows(CLIP))
        await asyncio.sleep(0)
        await engine.close()
        await engine.close()
        for task in (*running, waiting):
            with pytest.raises(ClosedError):
                await task
        with pytest.raises(ClosedError):
            await engine.embed_text("a dog")

    play(scenario)


def test_a_collection_under_asyncio(play: Play, tmp_path: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        async with engine.collection(tmp_path / "c", create=True) as sounds:
            report = await sounds.add([CLIP, CLIP], keys=["a", "b"], metadata=[{"n": 1}, None])
            assert report.added == 2
            assert (await sounds.count(), await sounds.keys()) == (2, ["a", "b"])
            assert await sounds.contains("a")
            assert not await sounds.contains("c")
            by_words, by_example, by_vector = await asyncio.gather(
                sounds.search("a dog", 1),
                sounds.search(Clip(CLIP)),
                sounds.search((await engine.embed_text("a dog"))[0], k=2, where={"n": 1}),
            )
            assert len(by_words.hits) == 1
            assert {hit.key for hit in by_example.hits} == {"a", "b"}
            assert [hit.key for hit in by_vector.hits] == ["a"]
            batch = await sounds.search_batch(["a dog", "rain"], k=2)
            assert [len(result.hits) for result in batch] == [2, 2]
            with pytest.raises(DeadlineError):
                await sounds.search("a dog", timeout_s=0)
            assert await sounds.remove("b")
            assert (await sounds.info())["clips"] == 1
            assert await sounds.rebuild() >= 1
            assert await sounds.verify() == []
        reopened = await engine.collection(tmp_path / "c", read_only=True)
        assert await reopened.count() == 1
        await reopened.close()
        with pytest.raises(ClosedError):
            await reopened.search("a dog")

    play(scenario)


def test_cancelling_an_add_leaves_whole_clips(play: Play, tmp_path: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        async with engine.collection(tmp_path / "c", create=True) as sounds:
            some = asyncio.Event()
            loop = asyncio.get_running_loop()
            told = lambda done, key: loop.call_soon_threadsafe(some.set)  # noqa: E731
            sources = ((noise(i, WINDOW), RATE_HZ) for i in range(10**6))
            task = asyncio.create_task(sounds.add(sources, map(str, range(10**6)), None, told))
            await some.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            count = await sounds.count()
            await sounds.put([])  # runs after the add, in the same lane
            assert await sounds.verify() == []
            assert await sounds.count() >= count > 0

    play(scenario)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told() -> None:
    workers = Workers({"text": 1}, 4)

    async def ask() -> int:
        return await workers.run("text", lambda: 1)

    assert asyncio.run(ask()) == 1
    child = os.fork()
    if child == 0:
        code = 9
        try:
            asyncio.run(ask())
        except ForkedError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    asyncio.run(workers.close())


def test_it_is_part_of_the_face() -> None:
    assert clap_engine.AsyncEngine is AsyncEngine
    assert clap_engine.AsyncCollection is AsyncCollection
    assert clap_engine.Deadline is Deadline
