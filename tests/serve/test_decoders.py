"""Decoding processes: the same bits, bounded time and memory, and a death costs one request."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import RATE_HZ, Client, Serving, data_uri, sound
from sounds import FORMATS, encode, noise, with_flac_length

from clap_engine import audio
from clap_engine.errors import AudioError, ClosedError
from clap_engine.limits import Limits
from clap_engine.serve.decoders import DecodeError, Decoders
from clap_engine.serve.settings import Settings

SETTINGS = Settings(decode_workers=1, decode_timeout_s=20.0, max_duration_s=30.0)


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    pool = Decoders(SETTINGS, RATE_HZ).start()
    yield pool
    pool.close()


def test_a_process_decodes_to_the_same_bits(decoders: Decoders) -> None:
    for number, kind in enumerate(FORMATS):
        x = noise(number, 30_000 + 7 * number, 1 + number % 2)
        data = encode(x, 48_000 if kind == "opus" else 44_100, kind)
        expected = audio.load(data, RATE_HZ)
        assert np.array_equal(decoders.decode(data), expected), kind


def test_refusals_come_through_word_by_word(decoders: Decoders) -> None:
    limits = Limits(max_duration_s=SETTINGS.max_duration_s, max_bytes=SETTINGS.max_body_bytes)
    for data in (b"", b"nothing", sound("tone", 31)):
        with pytest.raises(AudioError) as own:
            audio.load(data, RATE_HZ, limits)
        with pytest.raises(AudioError) as told:
            decoders.decode(data)
        assert str(told.value) == str(own.value)
    assert decoders.replaced == 0


def test_a_bomb_ends_in_words(decoders: Decoders) -> None:
    """A header of 2^36 - 1 samples over a second of sound."""
    bomb = with_flac_length(encode(noise(1, RATE_HZ), RATE_HZ, "flac"), 2**36 - 1)
    with pytest.raises(AudioError):
        decoders.decode(bomb)
    assert len(decoders.decode(sound())) == RATE_HZ


def test_a_process_that_was_killed_idle_costs_nothing(decoders: Decoders) -> None:
    decoders.decode(sound())
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert len(decoders.decode(sound())) == RATE_HZ
    assert decoders.replaced == 1


def test_a_process_that_hangs_is_ended_at_the_deadline() -> None:
    pool = Decoders(replace(SETTINGS, decode_timeout_s=0.5), RATE_HZ).start()
    try:
        pool.decode(sound())
        os.kill(pool.pids[0], signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(DecodeError, match="decode_timeout_s"):
            pool.decode(sound())
        assert time.monotonic() - start < 10
        assert len(pool.decode(sound())) == RATE_HZ
    finally:
        pool.close()


def test_memory_beyond_the_limit_is_refused() -> None:
    """25 s at 32 kHz take 3.2 MB, twice over while they are joined; the control is the default."""
    pool = Decoders(replace(SETTINGS, decode_memory_bytes=2 * 1024**2), RATE_HZ).start()
    try:
        with pytest.raises(AudioError):
            pool.decode(sound("noise", 25))
    finally:
        pool.close()


def test_processor_time_beyond_the_limit_ends_the_process(decoders: Decoders) -> None:
    """The operating system's own limit, apart from the clock's: soft limit and one second."""
    decoders.decode(sound())
    limits = Path(f"/proc/{decoders.pids[0]}/limits").read_text()
    (line,) = [row for row in limits.splitlines() if row.startswith("Max cpu time")]
    assert int(line.split()[3]) <= SETTINGS.decode_timeout_s + 3
    (line,) = [row for row in limits.splitlines() if row.startswith("Max address space")]
    assert int(line.split()[3]) < 2 * SETTINGS.decode_memory_bytes


def test_a_closed_pool_says_so(decoders: Decoders) -> None:
    pids = decoders.pids
    decoders.close()
    decoders.close()
    with pytest.raises(ClosedError):
        decoders.decode(sound())
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_killing_the_process_under_load_costs_at_most_its_own_request(
    start: Callable[..., Any],
) -> None:
    """Ten kills while four callers search by sound; each failure is typed, each hit is right."""
    with start("--workers-decode", 2) as serving:
        body = {"audio": data_uri(sound("tone", 2.0, 440)), "k": 1}
        expected = serving.client.post("/v1/search", body).json["hits"]
        answers: list[Any] = []
        enough = threading.Event()

        def ask(client: Client) -> None:
            while not enough.is_set():
                answers.append(client.post("/v1/search", body))

        callers = [threading.Thread(target=ask, args=(serving.client,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        kills = _kill_some(serving, 10, answers)
        enough.set()
        for caller in callers:
            caller.join()
        failed = [answer for answer in answers if answer.status != 200]
        assert len(failed) <= kills
        assert {answer.error["code"] for answer in failed} <= {"invalid_audio"}
        assert all(a.json["hits"] == expected for a in answers if a.status == 200)
        assert len(answers) - len(failed) > kills
        assert serving.client.post("/v1/search", body).json["hits"] == expected
    assert not serving.children_left()


def _kill_some(serving: Serving, count: int, answers: list[Any]) -> int:
    """Kill one of the server's children after every few answers; how many were hit."""
    kills = 0
    for _ in range(count):
        goal, deadline = len(answers) + 3, time.monotonic() + 30
        while len(answers) < goal and time.monotonic() < deadline:
            time.sleep(0.005)
        for pid in serving.children()[:1]:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    return kills
