"""A contender in a process of its own, asked over a pipe: what contest.py starts.

In:  the name of a contender, vectors, rows, a folder; one JSON object a line on stdin.
Out: one JSON object a line on stdout: milliseconds, rows found, memory.
Knows nothing about recall or the other contenders.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contender import Contender
from contenders import CONTENDERS
from vectors import Vectors


def memory(others: list[int] = ()) -> dict[str, int]:  # type: ignore[assignment]
    """Bytes resident: of this process, of these others (shared pages divided), and the peak."""
    status = Path("/proc/self/status").read_text()
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line}
    sizes = {
        "rss": found["VmRSS"], "anonymous": found["RssAnon"], "file": found["RssFile"],
        "peak": found["VmHWM"],
    }  # fmt: skip
    elsewhere = sum(_proportional(pid) for pid in others)
    return {**{name: 1024 * int(size) for name, size in sizes.items()}, "others": elsewhere}


def _proportional(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)


def main() -> None:
    """Answer until stdin ends."""
    parser = argparse.ArgumentParser(description="serve one contender over stdin and stdout")
    parser.add_argument("name", choices=sorted(CONTENDERS))
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    # What a library prints must not end among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    vectors = Vectors(arguments.vectors, arguments.rows)
    contender = CONTENDERS[arguments.name](vectors, arguments.folder)
    served = Served(contender, vectors)
    for line in sys.stdin:
        asked = json.loads(line)
        reply: Callable[..., dict[str, Any]] = getattr(served, asked.pop("do"))
        answers.write(json.dumps(reply(**asked)) + "\n")
        answers.flush()
    served.close()


class Served:
    """What may be asked; each answer is a JSON object."""

    def __init__(self, contender: Contender, vectors: Vectors) -> None:
        self._contender, self._vectors = contender, vectors
        self._is_open = False

    def build(self) -> dict[str, Any]:
        """Build, with the seconds that it took."""
        start, processor = time.perf_counter(), time.process_time()
        notes = self._contender.build()
        return {
            "build_s": time.perf_counter() - start,
            "processor_s": time.process_time() - processor,
            "notes": notes,
            "memory": memory(),
        }

    def open(self) -> dict[str, Any]:
        """Open, with memory before and after."""
        self._queries = self._vectors.queries
        getattr(self._contender, "warm", lambda: None)()
        before = memory()
        start = time.perf_counter()
        self._contender.open()
        open_s = time.perf_counter() - start
        self._is_open = True
        gc.collect()
        gc.freeze()
        return {"open_s": open_s, "before": before, "after": memory(self._contender.others())}

    def knobs(self) -> dict[str, Any]:
        """The settings to measure."""
        return {"knobs": list(self._contender.knobs)}

    def set(self, knob: dict[str, float]) -> dict[str, Any]:
        """Use a setting."""
        self._contender.set(knob)
        return {}

    def run(self, start: int, count: int) -> dict[str, Any]:
        """Search for `count` queries from `start` on, round and round."""
        taken, processor, found = [], [], []
        for at in range(start, start + count):
            query = self._queries[at % len(self._queries)]
            begun, begun_processor = time.perf_counter(), time.process_time()
            rows = self._contender.search(query)
            taken.append(1e3 * (time.perf_counter() - begun))
            processor.append(1e3 * (time.process_time() - begun_processor))
            found.append(rows)
        return {"ms": taken, "processor_ms": processor, "found": found}

    def about(self) -> dict[str, Any]:
        """Facts and memory after searching."""
        disk = getattr(self._contender, "disk", lambda: None)()
        found = memory(self._contender.others())
        return {**self._contender.about(), "memory": found, "disk": disk}

    def close(self) -> None:
        """End what was started."""
        if self._is_open:
            self._contender.close()


if __name__ == "__main__":
    main()
