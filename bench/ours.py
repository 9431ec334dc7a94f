"""clap-engine's own plans: a collection of ready vectors, as it is or tuned.

In:  a folder made by vectors.py; a recall to tune for, or a length to insist on.
Out: the ten best rows through the public API; collections that other benchmarks copy.
Knows nothing about peers or time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32
from contender import BATCH, Contender, K
from vectors import BUNDLE, Vectors

YEARS = 100  # one in a hundred clips is of a year


def fill(folder: Path, vectors: Vectors, engine: Any) -> None:
    """A collection of one clip a row, put in batches; a year in the metadata of each."""
    rows = vectors.rows
    with engine.collection(folder, create=True) as collection:
        for start in range(0, len(rows), BATCH):
            collection.put(clips_of(range(start, min(start + BATCH, len(rows))), rows))


def clips_of(numbers: range, rows: Any, first: int = 0) -> list[Any]:
    """Clips of ready vectors; the key of row i is its number."""
    from clap_engine.records import NewClip

    spans = np.array([[0.0, 5.0]])
    return [
        NewClip(
            f"{at:07d}", None, None, None, "", 5.0, json.dumps({"year": year_of(at)}),
            np.ascontiguousarray(rows[at - first : at - first + 1]), spans,
        )
        for at in numbers
    ]  # fmt: skip


def year_of(row: int) -> int:
    """1925 to 2024, without any order."""
    return 1925 + int(row * 2654435761 % 2**32) % YEARS


class Ours(Contender):
    """A collection, searched by vector through the public API.

    `target` is what it is tuned for, None for the default plan; `shortlist` insists on a length.
    """

    def __init__(
        self,
        vectors: Vectors,
        folder: Path,
        target: float | None = None,
        shortlist: int | None = None,
        graph_s: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        super().__init__(vectors, folder)
        self._target, self._shortlist, self._graph_s = target, shortlist, graph_s
        self._memory_bytes = memory_bytes
        self._stages: list[dict[str, float]] = []
        self._last: Any = None

    @property
    def base(self) -> Path:
        """The collection before any tuning, which all rows of clap-engine share."""
        return self.folder.parent / "ours"

    def build(self) -> dict[str, Any]:
        """Fill the shared collection where it is missing, copy it, tune the copy."""
        import clap_engine

        found: dict[str, Any]
        with clap_engine.load(BUNDLE, threads=1) as engine:
            if not self.base.with_suffix(".json").is_file():
                shutil.rmtree(self.base, ignore_errors=True)
                self.base.with_suffix(".json").write_text(json.dumps(self._fill(engine)))
            found = json.loads(self.base.with_suffix(".json").read_text())
            copy(self.base, self.folder)
            if self._target is not None:
                with engine.collection(self.folder) as collection:
                    found |= self._tune(collection)
        return found

    def _fill(self, engine: Any) -> dict[str, Any]:
        start, processor = time.perf_counter(), time.process_time()
        fill(self.base, self.vectors, engine)
        put_s, put_processor_s = time.perf_counter() - start, time.process_time() - processor
        with engine.collection(self.base) as collection:
            collection.rebuild()
        return {
            "put_s": put_s,
            "put_processor_s": put_processor_s,
            "shared_build_s": time.perf_counter() - start,
            "shared_processor_s": time.process_time() - processor,
        }

    def _tune(self, collection: Any) -> dict[str, Any]:
        start, processor = time.perf_counter(), time.process_time()
        options = {} if self._graph_s is None else {"graph_s": self._graph_s}
        report = collection.tune(
            target=self._target, queries=[*self.vectors.tuning],
            memory_bytes=self._memory_bytes, **options,
        )  # fmt: skip
        return {
            "tune_s": time.perf_counter() - start,
            "tune_processor_s": time.process_time() - processor,
            "tuning": asdict(report.tuning),
            "is_met": report.is_met,
            "trials": [asdict(trial) for trial in report.trials],
        }

    def open(self) -> None:
        """Open the copy; the engine that it belongs to is open already."""
        self._collection = self._engine.collection(self.folder)

    def warm(self) -> None:
        """The engine, which is no part of the index' memory: with the text tower loaded."""
        import clap_engine

        self._engine = clap_engine.load(BUNDLE, threads=1)
        self._engine.embed_text(["a banjo"])

    def search(self, query: Float32) -> list[int]:
        """With keys, spans and metadata of the hits."""
        self._last = self._collection.search(query, k=K, shortlist=self._shortlist)
        self._stages.append(self._last.timings_ms)
        return [int(hit.key) for hit in self._last.hits]

    def about(self) -> dict[str, Any]:
        """The plan, and the median milliseconds of each stage."""
        names = dict.fromkeys(name for stage in self._stages for name in stage)
        info = self._collection.info() if self.vectors.count <= 100_000 else {}
        return {
            "plan": asdict(self._last.plan),
            "stages_ms": {
                name: float(np.median([stage.get(name, 0.0) for stage in self._stages]))
                for name in names
            },
            "index": {name: info[name] for name in ("index", "prefix_dim", "tail_rows") if info},
        }

    def close(self) -> None:
        """Close both."""
        self._collection.close()
        self._engine.close()


def copy(base: Path, folder: Path) -> None:
    """A collection of its own: derived files never change, so they are linked, not copied."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    if "generations" in Path(source).parts:
        os.link(source, target)
    else:
        shutil.copy2(source, target)
