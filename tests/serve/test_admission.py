"""Lanes and budgets: no more at a time than they say, refusals at once, nothing leaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import pytest

from clap_engine.deadline import Deadline
from clap_engine.errors import ClosedError, DeadlineError, OverloadedError
from clap_engine.serve.admission import Budget, Lane, Patience
from clap_engine.serve.crowd import Crowd


class Told(Crowd):
    """Crowded or not, as a test says."""

    is_there = False

    def __init__(self, is_there: bool) -> None:
        super().__init__(1.0)
        self.is_there = is_there


def _lane(
    threads: int, waiting: int, *, stale_s: float = 60.0, most: int | None = None,
    is_crowded: bool = True,
) -> Lane:  # fmt: skip
    patience = Patience(waiting, waiting if most is None else most, stale_s)
    return Lane("test", threads, patience, Told(is_crowded))


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_is_one_too_many_is_refused_and_what_waits_is_served_in_order() -> None:
    lane, gate, done = _lane(2, 3), threading.Event(), []

    def work_of(number: int) -> int:
        gate.wait(30)
        done.append(number)
        return number

    async def work() -> None:
        tasks = []
        for number in range(7):
            tasks.append(asyncio.ensure_future(lane.run(work_of, number)))
            await asyncio.sleep(0)  # it is in its lane
            await _until(lambda: lane._running == min(2, len(tasks)))
        assert lane.in_flight == 5
        with pytest.raises(OverloadedError):
            lane.check_room()
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in found if isinstance(one, int)] == list(range(5))
        for number in (5, 6):
            with pytest.raises(OverloadedError, match="no more are allowed"):
                raise cast(OverloadedError, found[number])
        assert lane.in_flight == 0
        lane.check_room()

    _run(work)
    assert sorted(done) == list(range(5))
    lane.close()


def test_where_it_becomes_crowded_the_queue_is_cut_to_its_newest() -> None:
    """They have hardly waited; the oldest have waited in vain."""
    told = Told(False)
    lane, gate = Lane("test", 1, Patience(2, 9, 60.0), told), threading.Event()
    order: list[int] = []

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        rest = [asyncio.ensure_future(lane.run(order.append, i)) for i in range(6)]
        await _until(lambda: lane.in_flight == 7)
        lane.check_room()
        told.is_there = True
        with pytest.raises(OverloadedError):
            await lane.run(order.append, 6)
        gate.set()
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [isinstance(one, OverloadedError) for one in found[1:]] == [True] * 4 + [False] * 2

    _run(work)
    assert order == [4, 5]
    lane.close()


def test_what_has_waited_too_long_is_told_when_the_next_one_comes() -> None:
    lane, gate = _lane(1, 9, stale_s=-1.0), threading.Event()

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        old = asyncio.ensure_future(lane.run(print))
        await _until(lambda: lane.in_flight == 2)
        new = asyncio.ensure_future(lane.run(lambda: "new"))
        with pytest.raises(OverloadedError):
            await old
        gate.set()
        assert await new == "new"
        await first

    _run(work)
    lane.close()


def test_without_a_queue_what_is_too_many_is_refused_at_once() -> None:
    lane, gate = _lane(1, 0), threading.Event()

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        with pytest.raises(OverloadedError):
            await lane.run(print)
        gate.set()
        assert await first

    _run(work)
    lane.close()


def test_failures_and_cancellations_give_their_place_back() -> None:
    lane, gate, begun = _lane(1, 1), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait(30)

    def fail() -> None:
        raise ValueError("as told")

    async def work() -> None:
        for _ in range(5):
            with pytest.raises(ValueError, match="as told"):
                await lane.run(fail)
        runs = asyncio.ensure_future(lane.run(hold))
        assert await asyncio.to_thread(begun.wait, 30)
        waits = asyncio.ensure_future(lane.run(fail))
        await asyncio.sleep(0)
        for task in (waits, runs):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert lane.in_flight == 1  # what runs can't be stopped, and counts
        gate.set()
        assert await lane.run(lambda: 7) == 7
        assert lane.in_flight == 0

    _run(work)
    lane.close()


def test_a_pause_is_waited_for() -> None:
    """Law: without a crowd as many as `most` wait, and are served in order."""
    lane, gate = _lane(1, 2, most=8, is_crowded=False), threading.Event()
    order: list[int] = []

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        rest = [asyncio.ensure_future(lane.run(order.append, i)) for i in range(8)]
        await _until(lambda: lane.in_flight == 9)
        gate.set()
        await asyncio.gather(first, *rest)

    _run(work)
    assert order == list(range(8))
    lane.close()


def test_what_was_called_off_is_not_begun() -> None:
    lane, gate, left = _lane(1, 9), threading.Event(), Deadline()

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        begun: list[int] = []
        waits = asyncio.ensure_future(lane.run(begun.append, 1, until=left))
        stays = asyncio.ensure_future(lane.run(begun.append, 2, until=Deadline()))
        await _until(lambda: lane.in_flight == 3)
        left.cancel()
        gate.set()
        with pytest.raises(DeadlineError):
            await waits
        await stays
        await first
        assert begun == [2]

    _run(work)
    lane.close()


def test_a_closed_lane_refuses_and_has_ended() -> None:
    lane = _lane(2, 9)

    async def work() -> None:
        assert await lane.run(lambda: 3) == 3
        await asyncio.to_thread(lane.close)
        with pytest.raises(ClosedError):
            await lane.run(print)

    _run(work)
    assert not any(thread.is_alive() for thread in lane._threads)


# Crowds


def test_a_pause_at_the_rated_load_is_no_crowd_and_four_times_the_load_is() -> None:
    """10 can be done in a look; 7 come, then nothing is done for half a second, then 28 come."""
    crowd, now_s = Crowd(0.1), 1000.0

    def second(came: int, done: int, is_many: bool) -> None:
        nonlocal now_s
        for _ in range(10):
            for _ in range(came):
                crowd.came(now_s, is_many)
            for _ in range(done):
                crowd.done(now_s, is_many, 0.01)
            now_s += 0.1

    second(7, 7, False)
    assert not crowd.is_there
    for _ in range(5):
        for _ in range(7):
            crowd.came(now_s, True)
        now_s += 0.1
    crowd.done(now_s, True, 0.5)
    assert not crowd.is_there
    second(7, 10, False)
    second(28, 10, True)
    assert bool(crowd.is_there)
    second(7, 10, False)
    assert not crowd.is_there


def test_a_few_at_once_after_a_quiet_time_are_no_crowd() -> None:
    crowd = Crowd(0.1, threads=2)
    for look in range(50):
        crowd.came(1000 + look, is_many=False)
        crowd.done(1000 + look, False, 0.005)
    for _ in range(30):
        crowd.came(1051.0, is_many=True)
    assert not crowd.is_there


def test_a_queue_that_does_not_end_is_a_crowd() -> None:
    crowd = Crowd(0.1)
    for look in range(20):
        crowd.came(1000 + look / 10, is_many=True)
        crowd.done(1000 + look / 10, True, 0.1)
    assert bool(crowd.is_there)
    crowd.done(1003.0, False, 0.1)
    assert not crowd.is_there


def test_nothing_is_a_crowd_before_anything_was_done() -> None:
    crowd = Crowd(0.1)
    for _ in range(1000):
        crowd.came(1000.0, is_many=False)
    assert not crowd.is_there


def test_one_lane_does_not_wait_for_another() -> None:
    words, sounds, gate = _lane(1, 1), _lane(1, 1), threading.Event()

    async def work() -> None:
        slow = asyncio.ensure_future(sounds.run(gate.wait, 30))
        assert await words.run(lambda: "done") == "done"
        assert not slow.done()
        gate.set()
        await slow

    _run(work)
    for lane in (words, sounds):
        lane.close()


def test_a_budget_counts_what_is_held_and_gives_it_back() -> None:
    budget = Budget(100)
    with budget.held() as take:
        take(60)
        with budget.held() as more:
            more(40)
            with pytest.raises(OverloadedError):
                more(1)
        assert budget.used == 60
    assert budget.used == 0


def test_a_budget_is_given_back_when_its_holder_fails() -> None:
    budget = Budget(100)

    def fail() -> None:
        with budget.held() as take:
            take(100)
            take(1)

    for _ in range(2):
        with pytest.raises(OverloadedError):
            fail()
    assert budget.used == 0
