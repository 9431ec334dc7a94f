"""Lanes and budgets: no more at a time than they say, refusals at once, nothing leaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest

from clap_engine.errors import OverloadedError
from clap_engine.serve.admission import Budget, Lane


def _lane(threads: int, waiting: int, *, crowded_s: float = 30.0, stale_s: float = 60.0) -> Lane:
    return Lane("test", threads, waiting, crowded_s=crowded_s, stale_s=stale_s)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_is_one_too_many_refuses_the_oldest_that_waits() -> None:
    """It has waited longest; those that run are never given up."""
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
        gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in found if isinstance(one, int)] == [0, 1, 4, 5, 6]
        for number in (2, 3):
            with pytest.raises(OverloadedError, match="no more are allowed"):
                raise found[number]
        assert lane.in_flight == 0

    _run(work)
    assert sorted(done) == [0, 1, 4, 5, 6]
    lane.close()


@pytest.mark.parametrize(("crowded_s", "expected"), [(30.0, [0, 1, 2, 3]), (-1.0, [3, 2, 1, 0])])
def test_in_a_crowd_the_newest_goes_first_and_otherwise_the_oldest(
    crowded_s: float, expected: list[int]
) -> None:
    lane, gate = _lane(1, 9, crowded_s=crowded_s), threading.Event()
    order: list[int] = []

    async def work() -> None:
        first = asyncio.ensure_future(lane.run(gate.wait, 30))
        await _until(lambda: lane._running == 1)
        rest = [asyncio.ensure_future(lane.run(order.append, i)) for i in range(4)]
        await _until(lambda: lane.in_flight == 5)
        gate.set()
        await asyncio.gather(first, *rest)

    _run(work)
    assert order == expected
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
