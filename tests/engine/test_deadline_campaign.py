"""Every verb with too much to do, and not enough time: 54 cases, and the same verbs with enough.

Law: it returns or raises DeadlineError within its deadline and one window or part; nothing is half
done, and the next call is served.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from sounds import encode, noise
from tiny_bundle import DIM, RATE_HZ, WINDOW_S, make_bundle

from clap_engine.async_collection import AsyncCollection
from clap_engine.async_engine import AsyncEngine
from clap_engine.collection import Collection
from clap_engine.deadline import Deadline
from clap_engine.engine import Engine
from clap_engine.errors import DeadlineError
from clap_engine.loading import load
from clap_engine.query import Clip
from clap_engine.records import NewClip

WINDOW = round(RATE_HZ * WINDOW_S)
# Far more than a window takes on a busy machine, far less than the work would.
SOON_S = 5.0
TIMEOUTS_S = (0, 0.05, 0.3)
KEPT = 40  # clips in the collection before and after whatever ran out


@dataclass(frozen=True)
class World:
    """What the verbs work on, and how much they are given."""

    engine: Engine
    sounds: Collection
    many: int  # of which each verb takes some multiple

    @property
    def is_heavy(self) -> bool:
        return self.many > 1


class Slow(io.RawIOBase):
    """A sound file of which each part takes a while to come; with `many` 1 it comes at once."""

    def __init__(self, world: World) -> None:
        samples = noise(2, (200 if world.is_heavy else 2) * WINDOW) * 20_000
        self._file = io.BytesIO(encode(samples.astype(np.int16), RATE_HZ, "wav"))
        self._rest_s = 0.05 if world.is_heavy else 0.0

    def read(self, size: int = -1) -> bytes:
        time.sleep(self._rest_s)
        return self._file.read(min(size, 1024) if self._rest_s else size)


def _texts(world: World) -> list[str]:
    return [f"a dog barks {number}" for number in range(world.many)]


def _clip(world: World) -> tuple[Any, int]:
    return noise(1, (60 if world.is_heavy else 2) * WINDOW), RATE_HZ


def _clips(world: World) -> Iterator[Any]:
    clip = _clip(world)
    return (clip for _ in range(world.many))


def _new(world: World) -> list[NewClip]:
    return _made(world.many)


@cache
def _made(count: int) -> list[NewClip]:
    row = np.eye(DIM, dtype=np.float16)[:1]
    span = np.array([[0.0, WINDOW_S]])
    return [
        NewClip(f"new {i}", None, None, None, f"{i:064x}", WINDOW_S, "{}", row, span)
        for i in range(count)
    ]


def _busy(world: World, lock: Any, work: Callable[[], object]) -> object:
    """The work, while another thread holds a lock that it needs for as long as it takes."""
    if not world.is_heavy:
        return work()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    try:
        return work()
    finally:
        done.set()
        holder.join(60)


def _in_lane(world: World, name: str, work: Callable[[], object]) -> object:
    """The work, while every slot of its lane is taken."""
    lane = world.engine._embedding.lanes[name]
    slots = lane.slots if world.is_heavy else 0
    for _ in range(slots):
        lane.enter(Deadline())
    try:
        return work()
    finally:
        for _ in range(slots):
            lane.leave()


def _awaited(world: World, work: Callable[[AsyncEngine, Any], Any]) -> object:
    async def main() -> object:
        engine = AsyncEngine(world.engine)
        sounds = AsyncCollection(world.sounds, engine._workers)
        try:
            return await work(engine, sounds)
        finally:
            await engine._workers.close()  # the engine itself is the other cases', too

    return asyncio.run(main())


Case = Callable[[World, float], object]
CASES: dict[str, Case] = {
    "embed_text": lambda w, s: w.engine.embed_text(_texts(w), timeout_s=s),
    "embed_text_timed": lambda w, s: w.engine.embed_text_timed(_texts(w), timeout_s=s),
    "embed_audio": lambda w, s: w.engine.embed_audio(_clips(w), timeout_s=s),  # type: ignore[call-overload]
    "embed_audio of a slow file": lambda w, s: w.engine.embed_audio([Slow(w)], timeout_s=s),  # type: ignore[list-item]
    "embed_windows of a slow file": lambda w, s: w.engine.embed_windows(Slow(w), timeout_s=s),  # type: ignore[arg-type]
    "embed_text in a full lane": lambda w, s: _in_lane(
        w, "text", lambda: w.engine.embed_text("new words", timeout_s=s)
    ),
    "embed_audio in a full lane": lambda w, s: _in_lane(
        w, "audio", lambda: w.engine.embed_audio([_clip(w)], timeout_s=s)
    ),
    "search in a full lane": lambda w, s: _in_lane(
        w, "text", lambda: w.sounds.search("a dog", timeout_s=s)
    ),
    "search by a slow file": lambda w, s: w.sounds.search(Clip(Slow(w)), timeout_s=s),
    "search_batch": lambda w, s: w.sounds.search_batch(_texts(w), timeout_s=s),
    "add": lambda w, s: w.sounds.add(
        _clips(w), keys=(f"kept {i % KEPT}" for i in range(w.many)), timeout_s=s
    ),
    "put": lambda w, s: w.sounds.put(_new(w), timeout_s=s),
    "put beside a writer": lambda w, s: _busy(
        w, w.sounds._writer.guard, lambda: w.sounds.put(_new(w)[:1], timeout_s=s)
    ),
    "remove beside a writer": lambda w, s: _busy(
        w, w.sounds._writer.guard, lambda: w.sounds.remove("new 0", timeout_s=s)
    ),
    "rebuild beside another": lambda w, s: _busy(
        w, w.sounds._writer._building, lambda: w.sounds.rebuild(timeout_s=s)
    ),
    "tune beside a writer": lambda w, s: _busy(
        w, w.sounds._writer.guard, lambda: w.sounds.tune(timeout_s=s)
    ),
    "AsyncEngine.embed_audio": lambda w, s: _awaited(
        w, lambda engine, _: engine.embed_audio(_clips(w), timeout_s=s)
    ),
    "AsyncCollection.put": lambda w, s: _awaited(
        w, lambda _, sounds: sounds.put(_new(w), timeout_s=s)
    ),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    with load(path, precision="fp32", threads=1) as opened:
        opened.warm()
        yield opened


@pytest.fixture(scope="module")
def sounds(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    path = tmp_path_factory.mktemp("collections") / "c"
    with engine.collection(path, create=True) as opened:
        clips = [(noise(seed, 2 * WINDOW), RATE_HZ) for seed in range(KEPT)]
        opened.add(clips, keys=[f"kept {i}" for i in range(KEPT)])
        yield opened


@pytest.mark.parametrize("timeout_s", TIMEOUTS_S)
@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_time_and_leaves_nothing_half_done(
    engine: Engine, sounds: Collection, name: str, timeout_s: float
) -> None:
    began_s = time.monotonic()
    with pytest.raises(DeadlineError):
        CASES[name](World(engine, sounds, 60_000), timeout_s)
    assert time.monotonic() - began_s < timeout_s + SOON_S
    lanes = engine.stats().lanes.values()
    assert all(lane.running == lane.waiting == 0 for lane in lanes)
    assert len(sounds) == KEPT
    assert sounds.verify() == []
    assert sounds.search("a dog", timeout_s=60).hits


@pytest.mark.parametrize("name", CASES)
def test_the_control_with_little_to_do_it_returns(
    engine: Engine, sounds: Collection, name: str
) -> None:
    """So it is the deadline that ends the others."""
    CASES[name](World(engine, sounds, 1), 60)
    sounds.remove("new 0")
    assert len(sounds) == KEPT


def test_there_are_as_many_cases_as_are_wanted() -> None:
    assert len(CASES) * len(TIMEOUTS_S) >= 50
