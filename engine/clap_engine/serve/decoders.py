"""The pool of decoding processes: one job each at a time, replaced when they hang or die.

In:  the bytes of a sound file.
Out: its waveform float32 [T], mono, at the bundle's rate; AudioError where there is none.
Knows nothing about requests or models.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from typing import Any, BinaryIO

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.errors import AudioError, ClosedError
from clap_engine.serve.decode_worker import ANSWER, JOB, READY, REFUSED
from clap_engine.serve.settings import Settings

log = logging.getLogger("clap_engine")

_START_TIMEOUT_S = 60.0
_CODE = (
    "import json, sys\n"
    "sys.path[:], arguments = json.loads(sys.argv[1])\n"
    "from clap_engine.serve.decode_worker import main\n"
    "main(*arguments)\n"
)


class DecodeError(AudioError):
    """The process that decoded a sound hung or died; the sound is to blame, as far as we know."""


class _Worker:
    """One process, and its two pipes."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        # The process finds what this one found, and nothing of a working directory.
        given = json.dumps(([os.path.abspath(entry) for entry in sys.path if entry], arguments))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _CODE, given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/", env=environment,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self.process.stdout  # type: ignore[assignment]
        self._is_ready = False

    def ask(self, data: bytes, timeout_s: float) -> tuple[int, bytearray]:
        """(state, payload); EOFError or OSError when the process ended, killed or by itself."""
        limit_s = timeout_s if self._is_ready else timeout_s + _START_TIMEOUT_S
        watchdog = threading.Timer(limit_s, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            if not self._is_ready:
                self._read(len(READY))
                self._is_ready = True
            self._to.write(JOB.pack(timeout_s, len(data)))
            self._to.write(data)
            self._to.flush()
            state, size = ANSWER.unpack(self._read(ANSWER.size))
            return state, self._read(size)
        finally:
            watchdog.cancel()

    def _read(self, size: int) -> bytearray:
        found = bytearray(size)
        view, count = memoryview(found), 0
        while count < size:
            some = self._from.readinto(view[count:])  # type: ignore[attr-defined]
            if not some:
                raise EOFError("the process ended")
            count += some
        return found

    def close(self) -> None:
        """End the process now."""
        self.process.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):  # what was not written yet can't be any more
                pipe.close()
        self.process.wait()


class Decoders:
    """So many processes; a call waits for a free one. Safe in many threads."""

    def __init__(self, settings: Settings, rate_hz: int) -> None:
        self._timeout_s = settings.decode_timeout_s
        self._arguments = (
            rate_hz, settings.max_duration_s, settings.max_body_bytes,
            settings.decode_memory_bytes,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._is_closed = False
        self.replaced = 0
        self._count = settings.decode_workers
        self._workers: list[_Worker] = []
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def start(self) -> Decoders:
        """Start the processes; itself. Calls made before wait for them."""
        with self._lock:
            for _ in range(self._count - len(self._workers)):
                self._workers.append(_Worker(self._arguments))
                self._free.put(self._workers[-1])
        return self

    @property
    def pids(self) -> list[int]:
        """The processes that serve now."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def decode(self, data: bytes) -> Float32:
        """[T]; AudioError says what is wrong with the sound, DecodeError that it took too much."""
        worker = self._free.get()
        try:
            if self._is_closed:
                raise ClosedError("the decoders are closed; open a server again")
            # One that died while it was idle is not this sound's fault.
            if worker.process.poll() is not None:
                worker = self._replaced(worker)
            try:
                state, payload = worker.ask(data, self._timeout_s)
            except (EOFError, OSError) as error:
                worker = self._replaced(worker)
                raise DecodeError(
                    "the sound could not be decoded within the time and memory that one may take "
                    f"({self._timeout_s:g} s, decode_timeout_s); cut it or write it again"
                ) from error
        finally:
            self._free.put(worker)
        if state == REFUSED:
            raise AudioError(payload.decode("utf-8", "replace"))
        return np.frombuffer(payload, np.float32)

    def close(self) -> None:
        """End all processes; calls under way fail."""
        with self._lock:
            self._is_closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.close()

    def _replaced(self, dead: _Worker) -> _Worker:
        dead.close()
        log.warning("a decoding process ended (%s); a new one serves", dead.process.returncode)
        with self._lock:
            if self._is_closed:
                return dead
            fresh = _Worker(self._arguments)
            self._workers[self._workers.index(dead)] = fresh
            self.replaced += 1
        return fresh
