"""Searching while snapshots are swapped: what requests notice, with a watch and without.

In:  two snapshots of the same clips; seconds for each way.
Out: milliseconds of searches at rest, under a watch, and where requests refresh themselves.
Knows nothing about models: queries are stored vectors with noise.

    python bench/swaps.py SNAPSHOT OTHER [--seconds 12] [--every-s 3] [--out FILE]

Both snapshots hold the same clips, so every answer must be the same: a search that fails, or
finds anything else, ends the benchmark.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import machine
from clap_engine import snapshots
from clap_engine.collection import Collection
from processes import asked

QUERIES = 100
WAYS = ("rest", "watch", "refresh")


def main() -> None:
    """All ways, one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("places", type=Path, nargs=2)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--every-s", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record: dict[str, Any] = {"machine": machine.facts()}
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "current"
        for way in WAYS:
            record[way] = measured(way, link, arguments)
    text = json.dumps(record, indent=2)
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)


def measured(way: str, link: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Search in this thread while another switches the link; percentiles in milliseconds."""
    snapshots.switch(link, arguments.places[0].absolute())
    stop = threading.Event()

    def swap() -> None:
        for place in itertools.cycle(reversed(arguments.places)):
            if stop.wait(arguments.every_s):
                return
            snapshots.switch(link, place.absolute())

    with Collection.open(link, read_only=True, watch=way == "watch") as sounds:
        queries = asked(sounds, QUERIES)
        due = [found(sounds, query) for query in queries]
        rows = len(sounds)
        served, swaps, figures = sounds._loans.now, 0, []
        thread = threading.Thread(target=swap)
        if way != "rest":
            thread.start()
        until_s = time.perf_counter() + arguments.seconds
        for at in itertools.cycle(range(len(queries))):
            start_s = time.perf_counter()
            if start_s > until_s:
                break
            if way == "refresh":
                sounds.refresh()
            same = found(sounds, queries[at]) == due[at]
            figures.append((time.perf_counter() - start_s) * 1e3)
            if not same:
                raise SystemExit(f"{way}: another answer than before")
            swaps += sounds._loans.now is not served
            served = sounds._loans.now
        stop.set()
        if way != "rest":
            thread.join()
    p50, p99, slowest = np.percentile(figures, [50, 99, 100])
    return {
        "rows": rows, "searches": len(figures), "swaps": swaps,
        "p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "slowest_ms": round(slowest, 2),
    }  # fmt: skip


def found(sounds: Collection, query: Any) -> list[tuple[str, float]]:
    """Keys and scores of the ten best."""
    return [(hit.key, hit.score) for hit in sounds.search(query, k=10).hits]


if __name__ == "__main__":
    main()
