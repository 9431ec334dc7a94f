"""Searching while another process adds: its p99 beside that of a collection at rest.

In:  a trial; run as a script, the writing process: vectors, the collection that it adds to.
Out: milliseconds at rest and in motion.
Knows nothing about the other trials.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import ours
from clap_engine.loading import load
from contest import alone
from trial import Trial, percentiles, searched
from vectors import BUNDLE, Vectors

ADDS_PER_S = 100


def fresh(trial: Trial) -> dict[str, Any]:
    """Searching while another process adds, with a tail of 2 %, against a collection at rest."""
    idle, busy = trial.prepare(), trial.copy("fresh")
    tail = trial.vectors.count // 50
    rows = np.array(trial.vectors.rows[:tail])
    with load(BUNDLE, threads=1) as engine:
        with engine.collection(busy) as collection:
            collection.put(again(rows, 0))
            generation = collection.info()["generation"]
        command = [sys.executable, __file__, str(trial.vectors.folder), str(busy)]
        with (
            alone(trial.lock),
            engine.collection(idle, read_only=True) as still,
            engine.collection(busy, read_only=True) as moving,
        ):
            ways = {
                "idle": lambda query: searched(still, query),
                "busy": lambda query: searched(moving, query),
            }
            figures: dict[str, list[float]] = {"idle": [], "busy": []}
            added = []
            for turn in range(4):
                name = ("idle", "busy")[turn % 2]
                writer = subprocess.Popen(command, stdin=subprocess.PIPE) if turn % 2 else None
                if writer is not None:
                    time.sleep(3)  # its imports
                before = len(moving)
                start = time.perf_counter()
                while time.perf_counter() - start < trial.seconds:
                    for query in trial.asked()[:50]:
                        figures[name].append(ways[name](query)[0])
                added.append((len(moving) - before) / (time.perf_counter() - start))
                if writer is not None:
                    writer.communicate(b"")
            after = moving.info()
    done = {name: percentiles(ms) for name, ms in figures.items()}
    return {
        **done, "adds_per_s": max(added), "tail_rows": after["tail_rows"],
        "rebuilds": after["generation"] - generation,
        "value": done["busy"]["p99_ms"] / done["idle"]["p99_ms"],
        "p50_ratio": done["busy"]["p50_ms"] / done["idle"]["p50_ms"],
    }  # fmt: skip


def again(rows: Any, start: int) -> list[Any]:
    """Clips of rows under new keys, all numbers still."""
    return ours.clips_of(range(10_000_000 + start, 10_000_000 + start + len(rows)), rows,
                               10_000_000 + start)  # fmt: skip


def write(vectors: Vectors, folder: Path) -> None:
    """Add ADDS_PER_S clips a second, each durable on its own, until stdin ends."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    rows = np.array(vectors.rows[:1000])
    number = int(time.time()) % 1_000_000 * 10
    with load(BUNDLE, threads=1) as engine, engine.collection(folder) as collection:
        due = time.perf_counter()
        while not ended.is_set():
            some = rows[number % 1000][None]
            collection.put(again(some, 1_000_000 + number))
            number += 1
            due += 1 / ADDS_PER_S
            time.sleep(max(0.0, due - time.perf_counter()))


if __name__ == "__main__":
    write(Vectors(Path(sys.argv[1]), 1000), Path(sys.argv[2]))
