"""A process that turns bytes of sound files into waveforms, and may do nothing else for long.

In:  on standard input a job: seconds and bytes to come, then the bytes of a file.
Out: on standard output whether it went well, the length of what follows, then float32 samples
     [T], or the message of an AudioError.
Knows nothing about the server, models or windows.

Address space and processor time are limited by the operating system, so that a decoder that runs
wild ends here, with the one request that it works for.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

import numpy as np

from clap_engine import audio
from clap_engine.errors import AudioError
from clap_engine.limits import Limits

# Job: seconds of processor time, bytes. Answer: state, bytes.
JOB = struct.Struct("<dQ")
ANSWER = struct.Struct("<BQ")
SAMPLES, REFUSED = 0, 1
READY = b"clap"


def main(
    rate_hz: int, max_duration_s: float, max_bytes: int, memory_bytes: int
) -> None:  # pragma: no cover - runs in a process of its own
    """Answer jobs until standard input ends."""
    # Ctrl-C and SIGTERM mean the server, which ends this process by closing its input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    limits = Limits(max_duration_s=max_duration_s, max_bytes=max_bytes)
    # libsndfile and soxr are loaded now, before the limits.
    audio.formats()
    audio.load((np.zeros(rate_hz, np.float32), 2 * rate_hz), rate_hz)
    _limit(memory_bytes)
    answers.write(READY)
    answers.flush()
    while True:
        head = jobs.read(JOB.size)
        if len(head) < JOB.size:
            return
        cpu_s, size = JOB.unpack(head)
        _allow(cpu_s)
        data = jobs.read(size)
        if len(data) < size:
            return
        _answer(answers, data, rate_hz, limits)


def _answer(answers: BinaryIO, data: bytes, rate_hz: int, limits: Limits) -> None:
    try:
        samples = audio.load(data, rate_hz, limits)
    except AudioError as error:
        _write(answers, REFUSED, memoryview(str(error).encode("utf-8", "replace")))
    except MemoryError:
        _write(answers, REFUSED, memoryview(b"the sound takes more memory than it may; cut it"))
    else:
        _write(answers, SAMPLES, samples.data.cast("B"))


def _write(answers: BinaryIO, state: int, payload: memoryview) -> None:
    answers.write(ANSWER.pack(state, payload.nbytes))
    answers.write(payload)
    answers.flush()


def _limit(memory_bytes: int) -> None:
    """So much address space more than now where the system counts it, and no core file."""
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        with open("/proc/self/statm", "rb") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, now + memory_bytes)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _allow(cpu_s: float) -> None:
    """So much processor time more than was used; the process ends when that is over."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + cpu_s) + 1
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
