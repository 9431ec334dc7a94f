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
from clap_engine.collection import Collection
from clap_engine.loading import load
from contest import alone
from stolen import in_slices
from trial import Trial, percentiles, searched
from vectors import BUNDLE, Vectors

ADDS_PER_S = 100


def fresh(trial: Trial) -> dict[str, Any]:
    """Searching while another process adds, with a tail of 2 %, against a collection at rest.

    "beside" is the one at rest while that process adds to the other: what sharing the cores costs.
    """
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
            turns: dict[str, list[tuple[list[float], dict[str, Any]]]]
            turns = {"idle": [], "beside": [], "busy": []}

            def measure(name: str, collection: Collection) -> None:
                work = {name: lambda seconds: _asked(collection, trial.asked()[:50], seconds)}
                turns[name].append(in_slices(work, trial.seconds)[name])

            added = []
            for _ in range(2):
                measure("idle", still)
                writer = subprocess.Popen(command, stdin=subprocess.PIPE)
                time.sleep(3)  # its imports
                measure("beside", still)
                before, start = len(moving), time.perf_counter()
                measure("busy", moving)
                added.append((len(moving) - before) / (time.perf_counter() - start))
                writer.communicate(b"")
            after = moving.info()
    done = {name: _summary(some) for name, some in turns.items()}
    return {
        **done, "adds_per_s": max(added), "tail_rows": after["tail_rows"],
        "rebuilds": after["generation"] - generation,
        "value": done["busy"]["p99_ms"] / done["idle"]["p99_ms"],
        "writer_alone": done["beside"]["p99_ms"] / done["idle"]["p99_ms"],
        "p50_ratio": done["busy"]["p50_ms"] / done["idle"]["p50_ms"],
    }  # fmt: skip


def _summary(turns: list[tuple[list[float], dict[str, Any]]]) -> dict[str, Any]:
    """Of the turns that were not disturbed, where there are such."""
    calm = [turn for turn in turns if not turn[1]["is_disturbed"]]
    kept = [one for ms, _ in calm or turns for one in ms]
    return percentiles(kept) | {
        "turns": [
            {**percentiles(ms), "slices": counts["slices"], "stolen_from": counts["stolen_from"]}
            for ms, counts in turns
        ],
        "is_disturbed": not calm,
    }


def _asked(collection: Collection, queries: list[Any], seconds: float) -> list[float]:
    """Milliseconds of each search, again and again."""
    end, taken = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        taken += [searched(collection, query)[0] for query in queries]
    return taken


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
