"""Clips in a table of PostgreSQL with pgvector: HNSW on the prefix, exact scores in SQL.

In:  a connection URL as libpq takes it; the table is its parameter `table`.
Out: a backend over that table.
Knows nothing about filters' meaning or models; the one module that talks to psycopg.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from clap_engine import filters
from clap_engine.arrays import Float32
from clap_engine.backends import base, pgvector_filters
from clap_engine.backends.base import BackendError, BackendHit, ClipRows, Space
from clap_engine.errors import (
    ClapError,
    ClosedError,
    CollectionError,
    DependencyError,
    NotFoundError,
)
from clap_engine.index.generation import PREFIX_DIM
from clap_engine.index.vectors import pack
from clap_engine.planner import Shortlist

DEFAULT_TABLE = "clap_windows"
# Iterative scans came with it: without them a filtered search of the graph loses hits.
_OLDEST = (0, 8)
_PREFIX = f"(subvector(embedding, 1, {PREFIX_DIM})::vector({PREFIX_DIM}))"
_MAX_EF_SEARCH = 1000
_MAX_SCAN_TUPLES = 2**31 - 1
_SCAN_MEMORY = 16  # times work_mem, 64 MB by default: half a million rows looked at
_COLUMNS = "key, win, start_s, end_s, path, duration_s, metadata, embedding"
_TYPES = ("text", "int4", "float8", "float8", "text", "float8", "text")


class _Half(bytes):
    """A vector as big-endian float16."""


class PgVectorBackend:
    """One connection, used by one thread at a time: give each thread a backend of its own."""

    space: Space

    @classmethod
    def open(cls, url: str, space: Space | None, create: bool) -> PgVectorBackend:
        """The backend at `url`; see clap_engine.backends."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        table = options.pop("table", DEFAULT_TABLE)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", table):
            raise CollectionError(
                f"the table {table!r:.80} is refused; letters, digits and _ are fine"
            )
        backend = cls(
            parts._replace(query=urlencode(options, quote_via=quote)).geturl(), f'"{table}"'
        )
        try:
            backend.bind(space, create)
        except BaseException:
            backend.close()
            raise
        return backend

    def __init__(self, url: str, table: str) -> None:
        """Use open()."""
        try:
            import psycopg
        except ImportError as error:
            raise DependencyError(
                "psycopg is not installed; run: pip install 'clap-engine[pgvector]'"
            ) from error
        self._driver: Any = psycopg
        self._table = table
        self._guard = threading.RLock()
        with self._translated():
            # Planned anew each time: a plan made for any filter is bad for most.
            self._db: Any = psycopg.connect(url, autocommit=True, prepare_threshold=None)

    def bind(self, space: Space | None, create: bool) -> None:
        """Find or make the table, and learn its space."""
        with self._transaction() as db:
            if create:
                db.execute("CREATE EXTENSION IF NOT EXISTS vector")
            found = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            version = tuple(int(part) for part in (found.fetchone() or ["0.0"])[0].split(".")[:2])
            if version < _OLDEST:
                raise BackendError("pgvector 0.8 or later is needed; run: CREATE EXTENSION vector")
            [exists] = db.execute("SELECT to_regclass(%s)::oid", (self._table,)).fetchone()
            if exists is None:
                if not create or space is None:
                    raise NotFoundError(f"there is no table {self._table}; create=True makes one")
                self._create(db, space)
            said = "SELECT obj_description(to_regclass(%s), 'pg_class')"
            [text] = db.execute(said, (self._table,)).fetchone()
            self.space = base.space_from(text, f"the table {self._table}", space)
            [self._halfvec] = db.execute("SELECT 'halfvec'::regtype::oid").fetchone()
            self._db.adapters.register_dumper(_Half, self._half_dumper())

    def _create(self, db: Any, space: Space) -> None:
        # In half precision, as collections store them, 512 dims stay inside their row.
        db.execute(
            f"""CREATE TABLE {self._table} (key text COLLATE "C" NOT NULL, win int4 NOT NULL,
            start_s float8 NOT NULL, end_s float8 NOT NULL, path text COLLATE "C",
            duration_s float8 NOT NULL, metadata text NOT NULL,
            facts jsonb GENERATED ALWAYS AS (metadata::jsonb) STORED,
            embedding halfvec({space.dim:d}) NOT NULL, PRIMARY KEY (key, win))"""
        )
        db.execute(f"ALTER TABLE {self._table} ALTER embedding SET STORAGE MAIN")
        db.execute(f"CREATE INDEX ON {self._table} USING hnsw ({_PREFIX} vector_cosine_ops)")
        text = self._driver.sql.Literal(space.to_json()).as_string(db)
        db.execute(f"COMMENT ON TABLE {self._table} IS {text}")

    def upsert(self, clips: Sequence[ClipRows]) -> None:
        """Store clips in one transaction; see VectorBackend."""
        checked = base.check_clips(clips, self.space.dim)
        with self._transaction() as db, db.cursor() as cursor:
            self._delete(db, [clip.key for clip, _ in checked])
            statement = f"COPY {self._table} ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
            with cursor.copy(statement) as copy:
                copy.set_types([*_TYPES, self._halfvec])
                for clip, text in checked:
                    packed = pack(clip.vectors).astype(">f2")
                    for win, (row, (start_s, end_s)) in enumerate(
                        zip(packed, clip.spans.tolist(), strict=True)
                    ):
                        values = (clip.key, win, start_s, end_s, clip.path, clip.duration_s, text)
                        copy.write_row((*values, _Half(row.tobytes())))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove these clips in one transaction."""
        with self._transaction() as db:
            self._delete(db, keys)

    def _delete(self, db: Any, keys: Sequence[str]) -> None:
        # No stored key holds a NUL, which PostgreSQL has no text for.
        wanted = [key for key in keys if "\0" not in key]
        db.execute(f"DELETE FROM {self._table} WHERE key = ANY(%s)", (wanted,))

    def search(
        self,
        prefix: Float32,
        full: Float32,
        k: int,
        where: Mapping[str, Any] | None = None,
        *,
        shortlist: Shortlist = None,
    ) -> list[BackendHit]:
        """See VectorBackend."""
        prefix, full = base.check_query(prefix, full, self.space.dim, k)
        test, values = pgvector_filters.to_sql(filters.parse(where or {}))
        rows: list[Any] = []
        with self._transaction() as db:
            estimate = (
                "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = to_regclass(%s)"
            )
            [count] = db.execute(estimate, (self._table,)).fetchone()
            for length in base.shortlists(max(count, 1), k, shortlist, self.space.dim):
                near, bound = "", list(values)
                if length is not None:
                    _tune(db, length)
                    near = f"ORDER BY {_PREFIX} <=> %s::vector({PREFIX_DIM}) LIMIT %s"
                    bound += [_text(prefix), length]
                sql = f"""WITH near AS (SELECT * FROM {self._table} WHERE {test} {near}),
                    best AS (SELECT DISTINCT ON (key) *, - (embedding::vector <#> %s::vector) score
                        FROM near ORDER BY key, score DESC, win)
                    SELECT key, score, start_s, end_s, metadata FROM best
                    ORDER BY score DESC, key LIMIT %s"""
                rows = db.execute(sql, [*bound, _text(full), k]).fetchall()
                if len(rows) >= k:
                    break
        return [
            BackendHit(key, score, start_s, end_s, json.loads(text))
            for key, score, start_s, end_s, text in rows
        ]

    def count(self) -> int:
        """Clips."""
        with self._transaction() as db:
            [count] = db.execute(f"SELECT count(*) FROM {self._table} WHERE win = 0").fetchone()
            return int(count)

    def analyze(self) -> None:
        """Tell PostgreSQL how many rows there are, as it finds out itself in the background."""
        with self._transaction() as db:
            db.execute(f"ANALYZE {self._table}")

    def sizes(self) -> dict[str, int]:
        """Bytes on the server's disk: the rows, the graph, the index of keys."""
        by_method = """SELECT am.amname, sum(pg_relation_size(c.oid))::int8
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am am ON am.oid = c.relam
            WHERE i.indrelid = to_regclass(%s) GROUP BY 1"""
        with self._transaction() as db:
            found = dict(db.execute(by_method, (self._table,)).fetchall())
            [rows] = db.execute("SELECT pg_table_size(to_regclass(%s))", (self._table,)).fetchone()
        return {"rows": rows, "graph": found.get("hnsw", 0), "keys": found.get("btree", 0)}

    def close(self) -> None:
        """Close the connection."""
        with self._guard, self._translated():
            self._db.close()

    def _half_dumper(self) -> type:
        """How psycopg sends a row of big-endian float16: dim, zero, entries."""
        halfvec = self._halfvec

        class HalfDumper(self._driver.adapt.Dumper):  # type: ignore[misc, name-defined]
            oid, format = halfvec, self._driver.pq.Format.BINARY

            def dump(self, row: _Half) -> bytes:
                return (len(row) // 2).to_bytes(2, "big") + b"\0\0" + row

        return HalfDumper

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._guard, self._translated(), self._db.transaction():
            yield self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClapError:
            raise
        except self._driver.Error as error:
            if getattr(self, "_db", None) is not None and self._db.closed:
                raise ClosedError("the connection is closed; open the backend again") from error
            errors = self._driver.errors
            if isinstance(
                error, (errors.UntranslatableCharacter, errors.InvalidTextRepresentation)
            ):
                raise CollectionError(
                    "PostgreSQL has no text with NUL or half a character pair; clean the metadata"
                ) from error
            raise BackendError(f"PostgreSQL: {str(error).strip()}; nothing was changed") from error


def _tune(db: Any, length: int) -> None:
    """Let the graph go on until `length` rows passed the filter, for this transaction."""
    for name, value in (
        ("hnsw.ef_search", min(length, _MAX_EF_SEARCH)),
        ("hnsw.iterative_scan", "relaxed_order"),
        ("hnsw.max_scan_tuples", _MAX_SCAN_TUPLES),
        ("hnsw.scan_mem_multiplier", _SCAN_MEMORY),
    ):
        db.execute("SELECT set_config(%s, %s, true)", (name, str(value)))


def _text(vector: Float32) -> str:
    return json.dumps(vector.tolist())
