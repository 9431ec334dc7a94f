"""Ctrl-C that waits for a good moment: noted once, at once the second time, handlers put back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from clap_export.interrupts import deferred

pytestmark = pytest.mark.export


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def pressed_twice(done: list[str]) -> None:
    with deferred() as interrupts:
        interrupts.check()
        press()
        done.append("after the first")
        assert interrupts.came
        press()
        done.append("after the second")


def test_the_first_is_noted_and_the_second_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        pressed_twice(done)
    assert done == ["after the first"]
    assert signal.getsignal(signal.SIGINT) is before


def test_check_is_where_it_stops() -> None:
    with deferred() as interrupts:
        press()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred() as interrupts:
            press()
            interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with deferred() as interrupts:
            interrupts.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
