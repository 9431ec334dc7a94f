"""The graphs of PostgreSQL and Qdrant, in use: with thousands of rows, and few that pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_places import SPACE
from fake_embedder import power_law

from clap_engine.backends import BackendError, BackendHit, VectorBackend, clips_of, open_backend
from clap_engine.backends.base import Space
from clap_engine.errors import CollectionError
from clap_engine.matryoshka import truncate

ROWS = power_law(3000, 11)
KEYS = [f"k{i:05d}" for i in range(len(ROWS))]
RARE = 250  # one in so many


@pytest.fixture(scope="module", params=["pgvector", "qdrant-edge"])
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A backend of 3000 rows whose graph is used."""
    if request.param == "pgvector":
        # So few rows would be scanned otherwise.
        url = request.getfixturevalue("postgres") + "&table=graph&options=-c enable_seqscan=off"
    else:
        pytest.importorskip("qdrant_edge")
        url = f"qdrant+edge:{tmp_path_factory.mktemp('graph')}"
    backend: Any = open_backend(url, space=SPACE, create=True)
    metadata = [{"rare": i % RARE == 0, "number": i} for i in range(len(ROWS))]
    backend.upsert(clips_of(KEYS, ROWS, metadata))
    backend.analyze() if request.param == "pgvector" else backend.optimize()
    yield backend
    backend.close()


def search(backend: VectorBackend, query: Any, k: int, **options: Any) -> list[BackendHit]:
    return backend.search(truncate(query, 32), query, k, **options)


def test_the_default_shortlist_finds_nearly_all(graph: VectorBackend) -> None:
    """recall@10 over 30 queries, shortlist of 1000 in 3000 rows: .97 or more."""
    found = 0
    for query in power_law(30, 12):
        right = {KEYS[i] for i in np.argsort(-(ROWS @ query))[:10]}
        found += len(right & {hit.key for hit in search(graph, query, 10)})
    assert found >= 0.97 * 300


def test_a_narrow_filter_loses_nothing(graph: VectorBackend) -> None:
    query = power_law(1, 13)[0]
    rare = {KEYS[i] for i in range(0, len(ROWS), RARE)}
    for k in (3, 10, 12, 100):
        for shortlist in (None, 20, 200, "all"):
            found = search(graph, query, k, where={"rare": True}, shortlist=shortlist)
            assert len(found) == min(k, len(rare))
            assert {hit.key for hit in found} <= rare
    none = search(graph, query, 5, where={"number": {"<": 0}}, shortlist=20)
    assert none == []


def test_postgresql_scans_the_graph(postgres: str) -> None:
    """The expression of the search is that of the index, to the letter."""
    url = f"{postgres}&table=plans&options=-c enable_seqscan=off"
    backend: Any = open_backend(url, space=SPACE, create=True)
    try:
        backend.upsert(clips_of(KEYS[:500], ROWS[:500]))
        backend.analyze()
        seen = []
        inner = backend._db.execute

        class Spy:
            """Explains what is asked before it is asked."""

            def execute(self, sql: str, values: Any = ()) -> Any:
                if "near AS" in sql:
                    seen.extend(line for (line,) in inner(f"EXPLAIN {sql}", values).fetchall())
                return inner(sql, values)

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        real, backend._db = backend._db, Spy()
        search(backend, ROWS[0], 5, shortlist=50)
        backend._db = real
        assert any("Index Scan using plans_subvector_idx" in line for line in seen), seen
    finally:
        backend.close()


def test_a_strangers_table_is_left_alone(postgres: str) -> None:
    import psycopg

    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE strangers (a int)")
    for create in (False, True):
        with pytest.raises(CollectionError, match="did not make it"):
            open_backend(f"{postgres}&table=strangers", space=SPACE, create=create)


def test_what_cant_be_reached_is_said_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BackendError) as caught:
        open_backend(f"postgresql://me:secret@/d?host={tmp_path}")
    assert "secret" not in str(caught.value)
    pytest.importorskip("qdrant_client")
    with pytest.raises(BackendError) as caught:
        open_backend("qdrant+https://:secret@127.0.0.1:9/x", space=Space("a", 64), create=True)
    assert "secret" not in str(caught.value)


def test_one_process_has_the_shard(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    url = f"qdrant+edge:{tmp_path}/x"
    first = open_backend(url, space=SPACE, create=True)
    with pytest.raises(BlockingIOError):
        open_backend(url)
    first.close()
    open_backend(url).close()
