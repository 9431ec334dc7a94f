"""`clap-engine serve --workers N` over one snapshot: what each further process adds.

In:  a snapshot, and a small one of the same model; how many processes at most.
Out: one JSON line: proportional bytes of all processes, with the model and without.
Knows nothing about HTTP beyond asking.

    python bench/worker_memory.py SNAPSHOT --beside SMALL [--workers 8]

Proportional memory (PSS) counts a page that n processes share as 1/n for each, so the sum over all
of them, the parent too, is what the machine gives. Every process answers searches. What
the same number of processes hold over the small snapshot is the model's and Python's share.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import http_load
import machine
from processes import proportional

ASKED = 300


def held(snapshot: Path, workers: int) -> int:
    """Bytes of a server with so many processes, after searches."""
    command = [
        sys.executable, "-m", "clap_engine", "serve", "--collection", str(snapshot), "--port", "0",
        "--workers", str(workers), "--text-threads", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = (line for line in process.stderr if line.rstrip().endswith(" answers"))
        port = int(next(lines).split()[1].rpartition(":")[2])
        queries = http_load.words()
        # A connection is one process' for as long as it lasts: many of them reach all.
        connections = [http_load.Blocking(port) for _ in range(8 * workers)]
        for number in range(ASKED * workers):
            status, _ = connections[number % len(connections)].ask(next(queries))
            assert status == 200
        for connection in connections:
            with closing(connection):
                pass
        time.sleep(1.0)
        serving = _family(process.pid, workers)
        return sum(proportional(pid)["Pss"] for pid in serving)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stderr.close()


def _family(pid: int, workers: int) -> list[int]:
    """The process, and its children where those serve; decoders hold nothing of a snapshot."""
    if workers == 1:
        return [pid]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--beside", type=Path, required=True, help="a small snapshot")
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()
    counts = [1, 2, arguments.workers]
    whole = {count: held(arguments.snapshot, count) for count in counts}
    model = {count: held(arguments.beside, count) for count in counts}
    own = {count: whole[count] - model[count] for count in counts}
    further = (own[arguments.workers] - own[1]) / (arguments.workers - 1)
    found: dict[str, Any] = {
        "pss_bytes": whole, "of_the_model": model, "of_the_snapshot": own,
        "second_adds_share": round((own[2] - own[1]) / own[1], 4),
        "each_further_share": round(further / own[1], 4),
    }  # fmt: skip
    print(json.dumps({**found, "machine": machine.facts()}))


if __name__ == "__main__":
    main()
