"""Several processes that serve one socket: started by fork, replaced when they die, ended together.

In:  a socket that listens; what a process does, given its place; how many.
Out: processes that serve until SIGTERM or SIGINT; an error where they can't be kept alive.
Knows nothing about HTTP, engines or collections.

The parent opens what is shared, and starts no thread: whatever a thread held at the fork would stay
held in the child. All accept from one socket, so that a process which dies takes no connection with
it but those that it had accepted.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from clap_engine.errors import CollectionError

log = logging.getLogger("clap_engine")

READY = b"r"
# A process that ends sooner after its start is started again this much later, and so many times.
SOON_S, TRIES = 5.0, 5


class Lifeline:
    """What a child has of its parent: where to say that it serves, and a sign that it is there."""

    def __init__(self, tell: int, parent: int) -> None:
        self._tell, self._parent = tell, parent

    def ready(self) -> None:
        """Say that requests are answered."""
        os.write(self._tell, READY)

    def watch(self, orphaned: Callable[[], None]) -> None:
        """Call this when the parent is gone, however it ended."""

        def wait() -> None:
            os.read(self._parent, 1)  # nothing is ever written: it returns when the parent ended
            orphaned()

        threading.Thread(target=wait, name="clap-engine-parent", daemon=True).start()


@dataclass
class _Process:
    """One child."""

    pid: int
    pipe: int  # readable when it serves, and at its end
    since_s: float
    is_ready: bool = False


class Fleet:
    """So many children, each in a place of its own from 0 on."""

    def __init__(
        self,
        count: int,
        work: Callable[[int, Lifeline], None],
        *,
        grace_s: float,
        on_replaced: Callable[[int], None] = lambda place: None,
    ) -> None:
        self._count, self._work, self._grace_s = count, work, grace_s
        self._on_replaced = on_replaced
        self._children: dict[int, _Process] = {}
        self._failures = 0
        self._is_told = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal comes; CollectionError where processes end as soon as they begin."""
        gc.collect()
        gc.freeze()  # what was made before the fork is not looked at, and so not copied, any more
        parent, self._alive = os.pipe()  # its other end closes when this process ends
        self._parent = parent
        with _signals() as signalled:
            try:
                for place in range(self._count):
                    self._start(place)
                self._keep(signalled, on_ready)
            finally:
                self._end()
                for end in (self._parent, self._alive):
                    os.close(end)
                gc.unfreeze()

    def _keep(self, signalled: int, on_ready: Callable[[], None]) -> None:
        while True:
            pipes = {child.pipe: place for place, child in self._children.items()}
            found, _, _ = select.select([signalled, *pipes], [], [])
            if signalled in found:
                return
            for pipe in found:
                place = pipes[pipe]
                if os.read(pipe, 1) == READY:
                    self._children[place].is_ready = True
                else:
                    self._replace(place)
            if not self._is_told and all(child.is_ready for child in self._children.values()):
                self._is_told, self._failures = True, 0
                on_ready()

    def _start(self, place: int) -> None:
        heard, tell = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with warnings.catch_warnings():
            # Of threads that BLAS started, which minds forks itself; there are no others.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._be_child(place, heard, tell)
        os.close(tell)
        self._children[place] = _Process(pid, heard, time.monotonic())

    def _be_child(self, place: int, heard: int, tell: int) -> None:
        """The life of a child: it never returns to what its parent had begun."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):  # until the work minds them itself
                signal.signal(number, signal.SIG_DFL)
            os.close(self._alive)
            os.close(heard)
            for other in self._children.values():
                os.close(other.pipe)
            self._work(place, Lifeline(tell, self._parent))
            code = 0
        except BaseException as error:  # nobody above may see it: that is the parent
            log.error("a serving process failed: %s", error, exc_info=error)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _replace(self, place: int) -> None:
        """Start another in the place of one that ended."""
        child = self._children.pop(place)
        os.close(child.pipe)
        _, status = os.waitpid(child.pid, 0)
        how = os.waitstatus_to_exitcode(status)
        is_soon = time.monotonic() - child.since_s < SOON_S
        self._failures = self._failures + 1 if is_soon else 0
        if self._failures >= TRIES or (not self._is_told and not child.is_ready):
            raise CollectionError(
                f"a serving process ended with {how} as soon as it had begun; its log says why"
            )
        log.warning("a serving process ended with %s; another takes its place", how)
        self._on_replaced(place)
        if is_soon and self._failures > 1:
            time.sleep(1.0)
        self._start(place)

    def _end(self) -> None:
        """Ask all of them to finish what is under way; kill those that don't."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
        until_s = time.monotonic() + self._grace_s
        left = {child.pipe: child for child in self._children.values()}
        while left:
            rest_s = until_s - time.monotonic()
            found = select.select([*left], [], [], max(rest_s, 0.0))[0]
            if not found:
                for child in left.values():
                    os.kill(child.pid, signal.SIGKILL)
                until_s = time.monotonic() + 60.0
            for pipe in found:
                if os.read(pipe, 1):
                    continue
                os.waitpid(left.pop(pipe).pid, 0)
                os.close(pipe)
        self._children.clear()


@contextmanager
def _signals() -> Iterator[int]:
    """What becomes readable when SIGTERM or SIGINT comes."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    kept = {number: signal.getsignal(number) for number in numbers}
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    try:
        yield heard
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in kept.items():
            signal.signal(number, handler)
        os.close(heard)
        os.close(told)
