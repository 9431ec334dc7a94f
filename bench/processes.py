"""Many processes over one snapshot: what each further one adds to proportional memory.

In:  a snapshot (or a live collection, to be read); how many workers; how many queries for each.
Out: proportional bytes after each worker, opened by each itself or forked from one that has it.
Knows nothing about models: queries are vectors, stored ones with noise.

    python bench/processes.py SNAPSHOT [--workers 8] [--queries 200] [--out FILE]

Every worker answers the same queries, and all answers must be equal. Proportional memory (PSS)
counts a page that n processes share as 1/n for each, so the sum over all of them is what the
machine gives. In mode "fork" the process that loaded the snapshot is counted along. The anonymous
part is given too: the rest are pages of files, which the machine holds once whoever maps them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import machine
from clap_engine.collection import Collection
from clap_engine.index import coarse

# How workers come to what they serve from: each opens it; each opens it without the graph, as
# where hnswlib is not installed; one opens it and forks the others.
MODES = ("spawn", "spawn-flat", "fork")
SEED = 5
NOISE = 0.02


def main() -> None:
    """All modes, one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--as", dest="role", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is not None:
        if arguments.role == "spawn-flat":
            coarse.is_available = lambda: False
        serve(arguments.snapshot, arguments.queries, is_forking=arguments.role == "fork")
        return
    with Collection.open(arguments.snapshot, read_only=True) as sounds:
        info = sounds.info()
    record = {
        "machine": machine.facts(),
        "rows": info["windows"],
        "index": info["index"],
        "snapshot": info["snapshot"],
        "queries": arguments.queries,
        **{mode: grown(mode, arguments) for mode in MODES},
    }
    text = json.dumps(record, indent=2)
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)


def grown(mode: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start one worker after the other; what all of them hold each time."""
    command = [
        sys.executable, __file__, str(arguments.snapshot), "--as", mode,
        "--queries", str(arguments.queries),
    ]  # fmt: skip
    hosts: list[subprocess.Popen[str]] = []
    pids: list[int] = []
    answers: set[str] = set()
    totals: list[int] = []
    anonymous: list[int] = []
    seconds: list[float] = []
    try:
        for _ in range(arguments.workers):
            start = time.perf_counter()
            if mode != "fork" or not hosts:
                hosts.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
                pids += [hosts[-1].pid] if mode == "fork" else []
            stdin, stdout = hosts[-1].stdin, hosts[-1].stdout
            assert stdin is not None
            assert stdout is not None
            stdin.write("one more\n")
            stdin.flush()
            pid, answer = stdout.readline().split()
            seconds.append(time.perf_counter() - start)
            pids.append(int(pid))
            answers.add(answer)
            totals.append(sum(proportional(one)["Pss"] for one in pids))
            anonymous.append(sum(proportional(one)["Pss_Anon"] for one in pids))
    finally:
        for host in hosts:
            host.communicate()
    if len(answers) != 1:
        raise SystemExit(f"the workers of mode {mode} disagree: {len(answers)} different answers")
    further = [int(after - before) for before, after in itertools.pairwise(totals)]
    return {
        "pss_bytes": totals,
        "pss_anonymous_bytes": anonymous,
        "first_bytes": totals[0],
        "each_further_bytes": max(further, default=0),
        "each_further_share": round(max(further, default=0) / totals[0], 4),
        "ready_s": [round(one, 2) for one in seconds],
    }


def proportional(pid: int) -> dict[str, int]:
    """Bytes of one process: Pss, Pss_Anon, Pss_File and so on."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith("Pss"))
    return {name.rstrip(":"): 1024 * int(size) for name, size, *_ in fields}


def serve(folder: Path, queries: int, *, is_forking: bool) -> None:
    """Answer once for each line of stdin, here or in a child that stays until the end."""
    children: list[int] = []
    with Collection.open(folder, read_only=True) as sounds:
        if is_forking:
            sounds.search(asked(sounds, 1)[0])
        for _ in sys.stdin:
            if not is_forking:
                tell(sounds, queries)
            elif child := os.fork():
                children.append(child)
            else:
                tell(sounds, queries)
                signal.pause()
    for child in children:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def tell(sounds: Collection, queries: int) -> None:
    """The process and a digest of all that it found, on one line."""
    digest = hashlib.sha256()
    for query in asked(sounds, queries):
        hits = sounds.search(query, k=10).hits
        digest.update(repr([(hit.key, hit.score) for hit in hits]).encode())
    os.write(1, f"{os.getpid()} {digest.hexdigest()[:16]}\n".encode())


def asked(sounds: Collection, count: int) -> Any:
    """[count, D]: stored vectors, moved a little."""
    rng = np.random.default_rng(SEED)
    found = sounds.clip_vectors(most=count, seed=SEED).vectors
    noise = rng.standard_normal(found.shape, dtype=np.float32) * NOISE
    return (found + noise) / np.linalg.norm(found + noise, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
