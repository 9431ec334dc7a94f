"""What a collection does beyond one query after the other: filters, upkeep, load.

In:  a folder made by vectors.py; how many rows of it; the name of a trial.
Out: RESULTS/ROWS-service-NAME.json: its figures, what is due, and whether that is met.
Knows nothing about peers.

    python bench/service.py --vectors vectors --rows 1000000 --only filtered reopen

The collections are those that contest.py builds (ours-99); they are copied before anything is
added. Answers are checked in each trial.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import callers
import machine
import ours
from clap_engine.collection import Collection
from clap_engine.loading import load
from contender import K
from contest import alone
from freshness import fresh
from stolen import is_disturbed
from trial import Trial, in_turns, percentiles, searched
from vectors import BUNDLE, Vectors

YEAR = 1984
# What must be reached at a million rows.
DUE = {
    "filtered": ("filtered p50 over unfiltered, at most", 1.0),
    "reopen": ("seconds to the first answer, at most", 3.0),
    "reopen-flat": ("seconds to the first answer without a graph, at most", 20.0),
    "fresh": ("busy p99 over idle p99, at most", 1.5),
    "ingest": ("windows a second, at least", 15_000.0),
    "callers": ("p99 of 4 callers over p50 of one, at most", 4.0),
    "repeat": ("p50 of repeated words over that of their vector, at most", 1.1),
    "beside-indexing": ("p99 while indexing over p99 alone, at most", 2.0),
}


def filtered(trial: Trial) -> dict[str, Any]:
    """One row in a hundred may be found: the first search and the later ones, against no filter."""
    folder, vectors = trial.copy("filtered"), trial.vectors
    years = np.array([ours.year_of(row) for row in range(vectors.count)])
    truth = vectors.truth(years == YEAR, f"year-{YEAR}")
    every = vectors.truth()
    with load(BUNDLE, threads=1) as engine:
        with engine.collection(folder) as collection:
            start = time.perf_counter()
            collection.declare_filters(["year"])
            declare_s = time.perf_counter() - start
        with alone(trial.lock), engine.collection(folder) as collection:
            queries, where = trial.asked(), {"year": YEAR}
            searched(collection, queries[0])
            first_ms, _ = searched(collection, queries[0], where=where)
            done = in_turns(
                {
                    "unfiltered": lambda query: searched(collection, query),
                    "filtered": lambda query: searched(collection, query, where=where),
                },
                queries,
            )
    recalls = {
        name: float(np.mean([right.recall(at, rows) for at, rows in enumerate(done[name][1])]))
        for name, right in (("filtered", truth), ("unfiltered", every))
    }
    figures = {name: percentiles(ms) for name, (ms, _) in done.items()}
    return {
        **figures, "recall": recalls, "first_ms": first_ms, "declare_s": declare_s,
        "is_right": recalls["filtered"] >= recalls["unfiltered"] - 0.005,
        "value": figures["filtered"]["p50_ms"] / figures["unfiltered"]["p50_ms"],
    }  # fmt: skip


def reopen(trial: Trial) -> dict[str, Any]:
    """A fresh process: from its first import to its first answer, files in the page cache."""
    return _reopened(trial, trial.prepare())


def reopen_flat(trial: Trial) -> dict[str, Any]:
    """The same where the graph's file is gone."""
    folder = trial.copy("reopen-flat")
    # A graph may be missing from the beginning: then nothing is removed.
    removed = [graph.unlink() for graph in folder.glob("generations/*/*hnsw*")]
    return {**_reopened(trial, folder), "graphs_removed": len(removed)}


def _reopened(trial: Trial, folder: Path) -> dict[str, Any]:
    np.save(trial.work / "query.npy", trial.vectors.queries[0])
    code = (
        "import time; start = time.perf_counter(); import sys, numpy, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import clap_engine\n"
        f"engine = clap_engine.load({str(BUNDLE)!r}, threads=1)\n"
        f"query = numpy.load({str(trial.work / 'query.npy')!r})\n"
        "loaded = time.perf_counter()\n"
        f"collection = engine.collection({str(folder)!r})\n"
        "opened = time.perf_counter()\n"
        f"hits = collection.search(query, k={K}).hits\n"
        "print(time.perf_counter() - start, opened - loaded, *(hit.key for hit in hits))\n"
    )
    environment = {**os.environ, **dict.fromkeys(machine.THREAD_VARIABLES, "1")}
    taken, opened, recalls = [], [], []
    with alone(trial.lock):
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
                check=True, timeout=600,
            )  # fmt: skip
            first_s, open_s, *keys = done.stdout.split()
            taken.append(float(first_s))
            opened.append(float(open_s))
            recalls.append(trial.vectors.truth().recall(0, [int(key) for key in keys]))
    assert min(recalls) >= 0.8
    return {"value": float(np.median(taken)), "first_s": taken, "open_s": opened}


def ingest(trial: Trial) -> dict[str, Any]:
    """Ready vectors in batches of 1000 into a new collection, each batch durable."""
    folder = trial.work / "service-ingest"
    shutil.rmtree(folder, ignore_errors=True)
    count = min(trial.vectors.count, 50_000)
    rows = np.array(trial.vectors.rows[:count])
    batches = [ours.clips_of(range(start, start + 1000), rows) for start in range(0, count, 1000)]
    taken = []
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(folder, create=True) as collection,
        alone(trial.lock),
    ):
        begun = time.perf_counter()
        processor = time.process_time()
        for batch in batches:
            start = time.perf_counter()
            collection.put(batch)
            taken.append(time.perf_counter() - start)
        whole_s = time.perf_counter() - begun
        processor_s = time.process_time() - processor
        assert len(collection) == count
    shutil.rmtree(folder)
    return {
        "value": count / whole_s, "windows": count,
        "windows_per_s_of_processor": count / processor_s,
        "median_batch_windows_per_s": 1000 / float(np.median(taken)),
        "longest_batch_s": max(taken),
    }  # fmt: skip


def batch(trial: Trial) -> dict[str, Any]:
    """256 queries at once, against one after the other."""
    queries = trial.asked()[:256]
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(trial.prepare(), read_only=True) as collection,
        alone(trial.lock),
    ):
        taken: dict[str, list[float]] = {"batch": [], "single": []}
        for _ in range(4):
            start = time.perf_counter()
            results = collection.search_batch(queries, k=K)
            taken["batch"].append(1e3 * (time.perf_counter() - start) / len(queries))
            start = time.perf_counter()
            singles = [collection.search(query, k=K) for query in queries]
            taken["single"].append(1e3 * (time.perf_counter() - start) / len(queries))
    same = [
        {hit.key for hit in one.hits} == {hit.key for hit in other.hits}
        for one, other in zip(results, singles, strict=True)
    ]
    assert np.mean(same) >= 0.9
    found = {f"{name}_ms": float(np.median(ms[1:])) for name, ms in taken.items()}
    return {**found, "value": found["single_ms"] / found["batch_ms"], "queries": len(queries)}


def threads(trial: Trial) -> dict[str, Any]:
    """Queries a second of one thread and of two, in turns."""
    queries = trial.asked()
    with (
        load(BUNDLE, threads=1) as engine,
        engine.collection(trial.prepare(), read_only=True) as collection,
        alone(trial.lock),
    ):
        rates: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(6):
            rates[1 + turn % 2].append(_rate(collection, queries, 1 + turn % 2, trial.seconds / 4))
    found = {f"qps_{count}": float(np.median(some)) for count, some in rates.items()}
    return {**found, "value": found["qps_2"] / found["qps_1"]}


def _rate(collection: Collection, queries: list[Any], count: int, seconds: float) -> float:
    """Searches a second by `count` threads together."""
    done = [0] * count
    end = time.perf_counter() + seconds

    def search(number: int) -> None:
        at = number * 37
        while time.perf_counter() < end:
            collection.search(queries[at % len(queries)], k=K)
            at += 1
            done[number] += 1

    workers = [threading.Thread(target=search, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds


TRIALS: dict[str, Callable[[Trial], dict[str, Any]]] = {
    "filtered": filtered, "reopen": reopen, "reopen-flat": reopen_flat, "fresh": fresh,
    "ingest": ingest, "batch": batch, "threads": threads,
    "callers": callers.callers, "repeat": callers.repeat,
    "beside-audio": callers.beside_audio, "beside-indexing": callers.beside_indexing,
}  # fmt: skip


def measured(name: str, trial: Trial, results: Path) -> dict[str, Any]:
    """The row of one trial, from its file where that is there."""
    path = results / f"{trial.vectors.count}-service-{name}.json"
    if not path.is_file():
        results.mkdir(parents=True, exist_ok=True)
        loads = os.getloadavg()
        found = TRIALS[name](trial)
        what, due = DUE.get(name, ("", None))
        record = {
            "trial": name, "rows": trial.vectors.count, **found, "what": what, "due": due,
            "is_met": None if due is None else is_met(name, found["value"]),
            "is_disturbed": is_disturbed(found),
            "load_average_at_start": loads, "machine": machine.facts(),
        }  # fmt: skip
        path.write_text(json.dumps(record, indent=1))
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def is_met(name: str, value: float) -> bool:
    """Whether a value reaches what is due."""
    what, due = DUE[name]
    return value >= due if what.endswith("least") else value <= due


def main() -> None:
    """Run what is missing and say what came of it."""
    parser = argparse.ArgumentParser(description="measure what a collection does beyond queries")
    parser.add_argument("--vectors", type=Path, required=True, help="made by bench/vectors.py")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--only", nargs="+", choices=list(TRIALS), default=list(TRIALS),
                        metavar="NAME", help=f"of {', '.join(TRIALS)}")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work", type=Path, default=Path("work"), help="for what is built")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--lock", type=Path, help="held while something is timed")
    arguments = parser.parse_args()
    vectors = Vectors(arguments.vectors, arguments.rows)
    trial = Trial(vectors, arguments.work, arguments.queries, arguments.lock)
    for name in arguments.only:
        found = measured(name, trial, arguments.results)
        due = "" if found["due"] is None else f" ({found['what']} {found['due']:g})"
        why = (
            "; the host stole from most of it: measure it again"
            if found.get("is_disturbed")
            else ""
        )
        print(f"{name}: {found['value']:.3g}{due}{why}", flush=True)


if __name__ == "__main__":
    main()
