"""Lanes: slots, order, bounded queues, deadlines while waiting; text never waits for audio."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import noise
from tiny_bundle import RATE_HZ, WINDOW_S, make_bundle

from clap_engine.deadline import Deadline
from clap_engine.engine import Engine
from clap_engine.errors import ClapError, DeadlineError, OverloadedError
from clap_engine.lanes import Lane
from clap_engine.limits import Limits
from clap_engine.loading import load

WINDOW = round(RATE_HZ * WINDOW_S)
NEVER = Deadline()


def until(is_so: Any) -> None:
    """Wait until a state is reached that another thread is about to reach."""
    end_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.001)


class Crowd:
    """Threads that enter a lane, note when they are in, and leave when they are told."""

    def __init__(self, lane: Lane) -> None:
        self.lane, self.order, self.most = lane, list[int](), 0
        self._inside, self._guard = 0, threading.Lock()
        self._threads: list[threading.Thread] = []
        self.go = threading.Event()

    def start(self, number: int) -> None:
        thread = threading.Thread(target=self._run, args=(number,))
        self._threads.append(thread)
        waiting = self.lane.stats().waiting + self.lane.stats().running
        thread.start()
        until(lambda: sum((self.lane.stats().waiting, self.lane.stats().running)) > waiting)

    def _run(self, number: int) -> None:
        self.lane.enter(NEVER)
        with self._guard:
            self.order.append(number)
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.go.wait(20)
        with self._guard:
            self._inside -= 1
        self.lane.leave()

    def end(self) -> None:
        self.go.set()
        for thread in self._threads:
            thread.join(20)


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_so_many_at_once_and_first_come_first_served(slots: int) -> None:
    lane = Lane("text", slots, 100)
    crowd = Crowd(lane)
    for number in range(12):
        crowd.start(number)
    assert (lane.stats().running, lane.stats().waiting) == (slots, 12 - slots)
    crowd.end()
    assert crowd.most == slots
    if slots == 1:
        assert crowd.order == list(range(12))
    stats = lane.stats()
    assert (stats.running, stats.waiting, stats.entered, stats.queued) == (0, 0, 12, 12 - slots)


def test_whoever_is_too_many_is_told_at_once() -> None:
    lane = Lane("audio", 1, 2)
    crowd = Crowd(lane)
    for number in range(3):
        crowd.start(number)
    began_s = time.monotonic()
    with pytest.raises(OverloadedError, match="1 audio calls run and 2 wait; 2 may wait") as caught:
        lane.enter(Deadline(60))
    assert time.monotonic() - began_s < 5
    assert isinstance(caught.value, ClapError)
    assert lane.stats().refused == 1
    patient = threading.Thread(target=lambda: (lane.enter(NEVER, is_patient=True), lane.leave()))
    patient.start()
    until(lambda: lane.stats().waiting == 3)
    crowd.end()
    patient.join(20)
    assert lane.stats().running == lane.stats().waiting == 0
    assert lane.enter(NEVER) == 0  # it serves on as before
    lane.leave()


def test_with_no_queue_a_busy_lane_refuses() -> None:
    lane = Lane("text", 1, 0)
    lane.enter(NEVER)
    with pytest.raises(OverloadedError):
        lane.enter(NEVER)
    lane.leave()
    lane.enter(NEVER)
    lane.leave()


@pytest.mark.parametrize("how", ["clock", "cancel"])
def test_waiting_ends_by_the_deadline_and_takes_no_slot(how: str) -> None:
    lane = Lane("text", 1, 10)
    lane.enter(NEVER)
    deadline = Deadline(0.05 if how == "clock" else None)
    if how == "cancel":
        threading.Timer(0.05, deadline.cancel).start()
    with pytest.raises(DeadlineError):
        lane.enter(deadline)
    assert (lane.stats().running, lane.stats().waiting) == (1, 0)
    lane.leave()
    assert lane.stats().running == 0


def test_a_long_call_gives_way() -> None:
    lane = Lane("audio", 1, 10)
    lane.enter(NEVER)
    assert lane.give_way(NEVER) == 0  # nobody waits
    crowd = Crowd(lane)
    crowd.go.set()
    crowd._threads.append(threading.Thread(target=crowd._run, args=(7,)))
    crowd._threads[0].start()
    until(lambda: lane.stats().waiting == 1)
    assert lane.give_way(NEVER) > 0
    assert crowd.order == [7]  # it was in and out before us
    lane.leave()
    crowd.end()


def test_giving_way_ends_by_the_deadline() -> None:
    lane = Lane("audio", 1, 10)
    lane.enter(NEVER)
    crowd = Crowd(lane)
    crowd.start(1)
    with pytest.raises(DeadlineError):
        lane.give_way(Deadline(0.05))  # the other one holds the slot now
    crowd.end()
    assert (lane.stats().running, lane.stats().waiting) == (0, 0)


def test_slots_are_never_lost() -> None:
    """Threads that enter, give way, time out and leave at random; at the end all slots are free."""
    lane = Lane("text", 2, 4)
    inside, most, guard = [0], [0], threading.Lock()
    outcomes: set[str] = set()

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(150):
            deadline = Deadline(float(rng.choice([0.0, 0.0003, 0.002, 5.0])))
            try:
                lane.enter(deadline)
            except (DeadlineError, OverloadedError) as error:
                outcomes.add(type(error).__name__)
                continue
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            if rng.random() < 0.5:
                time.sleep(0.0005)
            with guard:
                inside[0] -= 1
            try:
                lane.give_way(deadline)
            except DeadlineError:
                continue
            outcomes.add("ok")
            lane.leave()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (lane.stats().running, lane.stats().waiting) == (0, 0)
    assert most[0] <= 2
    assert outcomes == {"ok", "DeadlineError", "OverloadedError"}


@pytest.mark.parametrize("wrong", [{"max_in_flight": 0}, {"max_waiting": -1}])
def test_limits_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]


# In an engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def engine(tiny: Path) -> Iterator[Engine]:
    limits = Limits(max_in_flight=1, max_waiting=1)
    with load(tiny, precision="fp32", threads=1, limits=limits) as opened:
        yield opened


class Held:
    """A call of `embed_audio` that holds its slot until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self.inside, self.go = threading.Event(), threading.Event()
        self.rows: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(engine,))
        self._thread.start()
        assert self.inside.wait(20)

    def _clips(self) -> Iterator[Any]:
        self.inside.set()
        assert self.go.wait(20)
        yield noise(1, WINDOW), RATE_HZ

    def _run(self, engine: Engine) -> None:
        self.rows = engine.embed_audio(self._clips())  # type: ignore[call-overload]

    def end(self) -> None:
        self.go.set()
        self._thread.join(20)


def test_text_never_waits_for_audio(engine: Engine) -> None:
    """Law: with every slot for sounds taken, texts and searches by words run as always."""
    held = Held(engine)
    assert engine.embed_text("a dog", timeout_s=20).shape == (1, engine.dim)
    with pytest.raises(DeadlineError):  # the control: another sound does wait
        engine.embed_audio([(noise(1, WINDOW), RATE_HZ)], timeout_s=0.05)
    held.end()
    assert len(held.rows) == 1
    assert len(engine.embed_audio([(noise(1, WINDOW), RATE_HZ)], timeout_s=20)) == 1


def test_an_engine_refuses_what_is_too_much(engine: Engine, tmp_path: Path) -> None:
    held = Held(engine)
    clip = (noise(1, WINDOW), RATE_HZ)
    second = threading.Thread(target=engine.embed_windows, args=(clip,))
    second.start()
    until(lambda: engine.stats().lanes["audio"].waiting == 1)
    with pytest.raises(OverloadedError, match="max_waiting"):
        engine.embed_windows(clip)
    # Whoever works through a list waits instead: overload ends no indexing.
    with engine.collection(tmp_path / "c", create=True) as sounds:
        with pytest.raises(DeadlineError) as caught:
            sounds.add([clip], keys=["a"], timeout_s=0.05)
        assert caught.value.report.added == 0  # type: ignore[attr-defined]
        held.end()
        second.join(20)
        assert sounds.add([clip], keys=["a"]).added == 1


def test_an_uncontended_turn_costs_little() -> None:
    """Entering and leaving take microseconds; a thousand times that would still pass."""
    lane = Lane("text", 2, 10)
    began_s = time.perf_counter()
    for _ in range(10_000):
        lane.enter(NEVER)
        lane.leave()
    assert time.perf_counter() - began_s < 10
