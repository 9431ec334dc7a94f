"""Engines behind clap-engine's backends: Qdrant's shard in process, PostgreSQL with pgvector.

In:  a folder made by vectors.py; a folder of their own.
Out: the ten best rows: a shortlist by 32 dims there, rescored there.
Knows nothing about collections.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.index.vectors import widen
from contender import BATCH, BUILD_THREADS, Contender, K, Knob
from ours import year_of
from vectors import ROOT


class Backend(Contender):
    """An engine behind clap-engine's own backends: shortlist by 32 dims there, rescored there."""

    knobs = tuple({"shortlist": length} for length in (50, 100, 200, 500, 1000, 2000, 4000))

    def build(self) -> dict[str, Any]:
        """Store everything, in batches."""
        self._open(create=True)
        self._store()
        self._prepare()
        return {"M": 16, "ef_construction": 100}

    def set(self, knob: Knob) -> None:
        """The length of the shortlist."""
        self._length = int(knob["shortlist"])

    def search(self, query: Float32) -> list[int]:
        """With keys and metadata of the hits."""
        prefix = l2_normalize(query[:32])
        hits = self._backend.search(prefix, query, K, shortlist=self._length)
        return [int(hit.key) for hit in hits]

    def _url(self) -> str:
        raise NotImplementedError

    def _open(self, *, create: bool = False) -> None:
        from clap_engine.backends import Space, open_backend

        self._backend: Any = open_backend(
            self._url(), space=Space("b" * 64, 512, "scale"), create=create
        )

    def _store(self) -> None:
        from clap_engine.backends import clips_of as rows_of

        for start in range(0, self.vectors.count, BATCH):
            some = widen(self.vectors.rows[start : start + BATCH])
            keys = [f"{start + at:07d}" for at in range(len(some))]
            facts = [{"year": year_of(start + at)} for at in range(len(some))]
            self._backend.upsert(rows_of(keys, some, facts))

    def _prepare(self) -> None:
        """Index what waits for it."""

    def close(self) -> None:
        """Close."""
        self._backend.close()


class QdrantEdge(Backend):
    """Qdrant's shard in process."""

    def _url(self) -> str:
        return f"qdrant+edge:{self.folder}"

    def build(self) -> dict[str, Any]:
        """And close it, so that another process may open it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        found = super().build()
        self._backend.close()
        return found

    def _prepare(self) -> None:
        self._backend.optimize()

    def open(self) -> None:
        """Load."""
        self._open()


class PgVector(Backend):
    """PostgreSQL with pgvector, a server of its own; it ends with the process that built it."""

    is_kept = False
    knobs = tuple({"shortlist": length} for length in (50, 100, 200, 500, 1000, 2000))

    def build(self) -> dict[str, Any]:
        """Load first, then build the graph, with memory for it: faster than row by row."""
        sys.path.append(str(ROOT / "tests"))
        import postgres_server
        import psycopg

        self._stack = ExitStack()
        self._place = self._stack.enter_context(postgres_server.running())
        self._open(create=True)
        with psycopg.connect(self._place, autocommit=True) as db:
            named = """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
                FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                JOIN pg_am am ON am.oid = c.relam WHERE am.amname = 'hnsw'"""
            [(name, definition)] = db.execute(named).fetchall()
            db.execute(f"DROP INDEX {name}")
            self._store()
            db.execute("SET maintenance_work_mem = '2GB'")
            db.execute(f"SET max_parallel_maintenance_workers = {BUILD_THREADS - 1}")
            db.execute(definition)
        self._backend.analyze()
        return {"M": 16, "ef_construction": 64, "sizes": self._backend.sizes()}

    def _url(self) -> str:
        return self._place

    def others(self) -> list[int]:
        """The server's processes."""
        home = self._place.rpartition("host=")[2]
        first = int((Path(home) / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def disk(self) -> int:
        """Bytes of rows, graph and keys."""
        return int(sum(self._backend.sizes().values()))

    def close(self) -> None:
        """Stop the server."""
        super().close()
        self._stack.close()
