"""Mixed requests, good and bad, and what the process that made them holds afterwards.

In:  a bundle, a folder for a collection, counts of requests; run as a process of its own, whose
     memory no other test has used before.
Out: one line of JSON: what each stretch of requests added, threads and descriptors, and what a
     leak that is made on purpose added.
Knows nothing about how much is too much.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from sounds import noise
from tiny_bundle import RATE_HZ, WINDOW_S

from clap_engine.engine import Engine
from clap_engine.errors import ClapError
from clap_engine.loading import load

WARM_UP = 3000  # the cache of texts is full after 1,024
CLIPS = [(noise(seed, round(RATE_HZ * WINDOW_S) * (1 + seed)), RATE_HZ) for seed in range(3)]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak:
    """Mixed requests, good and bad, by four threads; what the process holds afterwards."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.leaked = engine, list[Any]()
        self.sounds = engine.collection(folder, create=True)
        self.sounds.add(CLIPS, keys=["a", "b", "c"])
        self._guard, self._next = threading.Lock(), 0

    def run(self, requests: int, *, leak_bytes: int = 0) -> None:
        last = self._next + requests

        def work() -> None:
            while True:
                with self._guard:
                    number = self._next
                    if number >= last:
                        return
                    self._next += 1
                with contextlib.suppress(ClapError):
                    self._request(number)
                if leak_bytes:
                    self.leaked.append(np.ones(leak_bytes, np.uint8))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _request(self, number: int) -> None:
        engine, kind = self.engine, number % 10
        if kind < 4:
            self.sounds.search(f"a dog {number}" if kind else "a dog", k=1 + kind)
        elif kind < 6:
            engine.embed_text([f"rain {number}", "a dog"])
        elif kind == 6:
            engine.embed_audio(CLIPS[: 1 + number % 3])
        elif kind == 7:
            engine.embed_windows(b"no sound")
        elif kind == 8:
            self.sounds.search("a dog", timeout_s=0)
        else:
            self.sounds.search("a dog", where={"key": {"nonsense": number}})

    def held(self) -> tuple[int, int]:
        """Threads and descriptors."""
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def main(bundle: Path, folder: Path, requests: int, stretches: int) -> None:
    with load(bundle, precision="fp32", threads=1) as engine:
        soak = Soak(engine, folder)
        soak.run(WARM_UP)
        seen, held = [resident_bytes()], soak.held()
        for _ in range(stretches):
            soak.run(requests)
            seen.append(resident_bytes())
        end_s = time.monotonic() + 10
        while soak.held() > held and time.monotonic() < end_s:
            time.sleep(0.01)  # a thread that ended is listed a moment longer
        told = {"grown": np.diff(seen).tolist(), "held": [held, soak.held()]}
        soak.run(1000, leak_bytes=20_000)
        told["leaked"] = resident_bytes() - seen[-1]
        soak.sounds.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
