"""The source of truth of a collection: one SQLite file of clips, windows and vectors.

In:  clips with their windows, spans and float16 vectors; keys to remove.
Out: committed states, rows in order, records whose checksums hold.
Knows nothing about sounds, search or derived files beyond the pointer to the current one.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Int64
from clap_engine.errors import CollectionError, IntegrityError, NotFoundError
from clap_engine.filter_sql import INDEX_PREFIX, index_sql, to_sql
from clap_engine.filters import Field, Filter
from clap_engine.records import (
    Identity,
    NewClip,
    Record,
    Rows,
    State,
    Tuning,
    is_sound,
    rotten,
    sealed,
    unsealed,
    window_crc,
)
from clap_engine.storage import Database

FORMAT = 1
# The same with indexes on fields of the metadata: releases that know no others would fail on them.
FORMAT_INDEXED = 2
_APPLICATION_ID = 0x434C4150  # "CLAP", so that `file` and a stranger's tool know it
# SQLite's oldest builds take 999 values a statement.
_VALUES_AT_ONCE = 500

_SCHEMA = (
    """CREATE TABLE collection (id TEXT NOT NULL, bundle_id TEXT NOT NULL, revision TEXT NOT NULL,
        space_id TEXT NOT NULL, dim INTEGER NOT NULL, created_s REAL NOT NULL,
        crc INTEGER NOT NULL)""",
    # Row and clip numbers only grow: what was removed never comes back under another's number.
    """CREATE TABLE state (change INTEGER NOT NULL, clips INTEGER NOT NULL,
        windows INTEGER NOT NULL, last_clip INTEGER NOT NULL, last_row INTEGER NOT NULL,
        generation INTEGER NOT NULL, header_size INTEGER NOT NULL, header_sha256 TEXT NOT NULL,
        crc INTEGER NOT NULL)""",
    # A clip's windows are the rows first_row .. first_row + windows - 1.
    """CREATE TABLE clips (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT,
        size INTEGER, mtime_ns INTEGER, digest TEXT NOT NULL, duration_s REAL NOT NULL,
        metadata TEXT NOT NULL, first_row INTEGER NOT NULL, windows INTEGER NOT NULL,
        crc INTEGER NOT NULL)""",
    """CREATE TABLE windows (row INTEGER PRIMARY KEY, clip INTEGER NOT NULL,
        start_s REAL NOT NULL, end_s REAL NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL)""",
    # What readers of an older state must drop; emptied when a generation takes its place. No
    # windows: that change amended facts of clips.
    """CREATE TABLE removed (change INTEGER NOT NULL, first_row INTEGER NOT NULL,
        windows INTEGER NOT NULL)""",
)

# Made by the first tuning: releases that know no plans read past it, and a collection without it
# is searched by the planner's defaults.
_PLAN_SCHEMA = """CREATE TABLE IF NOT EXISTS plan (kind TEXT NOT NULL, coarse_dim INTEGER NOT NULL,
    shortlist INTEGER NOT NULL, middle_dim INTEGER NOT NULL, kept INTEGER NOT NULL,
    windows INTEGER NOT NULL, k INTEGER NOT NULL, target REAL NOT NULL, recall REAL NOT NULL,
    latency_ms REAL NOT NULL, queries INTEGER NOT NULL, kinds TEXT NOT NULL,
    seed INTEGER NOT NULL, tuned_s REAL NOT NULL, crc INTEGER NOT NULL)"""


class Catalogue:
    """One connection to the truth; the writer and the readers of a process each have their own."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist; open the collection with create=True")
        self._path = path
        self._has_plan = False  # once there, that table stays
        self._db = Database(path, read_only=read_only)
        try:
            self._check_format()
            self._check_schema()
            self.identity = self._identity()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, path: Path, *, bundle_id: str, revision: str, space_id: str, dim: int) -> None:
        """Make the file, whole or not at all; nothing happens where it is already made."""
        db = Database(path, create=True)
        try:
            db.use_wal()
            with db.transaction():
                if db.execute("SELECT 1 FROM sqlite_master"):
                    return
                for statement in _SCHEMA:
                    db.execute(statement)
                identity = Identity(
                    uuid.uuid4().hex, bundle_id, revision, space_id, dim, time.time()
                )
                db.execute("INSERT INTO collection VALUES (?, ?, ?, ?, ?, ?, ?)", sealed(identity))
                db.execute(
                    "INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    sealed(State(0, 0, 0, 0, 0, 0, 0, "")),
                )
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
        finally:
            db.close()

    def _check_format(self) -> None:
        [(application,)] = self._db.execute("PRAGMA application_id")
        [(version,)] = self._db.execute("PRAGMA user_version")
        if version == 0 and application == 0:
            raise NotFoundError(
                f"{self._path} is empty: its making was cut off; open it with create=True"
            )
        if application != _APPLICATION_ID:
            raise IntegrityError(f"{self._path} is not a collection's database; give another path")
        if version not in (FORMAT, FORMAT_INDEXED):
            raise CollectionError(
                f"{self._path} has format {version}, this release reads {FORMAT} and "
                f"{FORMAT_INDEXED}; install the clap-engine that wrote it, or index again"
            )

    def _check_schema(self) -> None:
        """IntegrityError where the file could run anything but the indexes that we write."""
        self._db.trust_schema()  # to read a schema runs nothing of it
        for kind, name, sql in self._db.execute("SELECT type, name, sql FROM sqlite_master"):
            if kind in ("trigger", "view") or (
                kind == "index" and sql is not None and sql != index_sql(name)
            ):
                raise IntegrityError(
                    f"{self._path} holds the {kind} {name!r:.80}, which clap-engine did not write; "
                    "restore the file from a copy"
                )

    def _identity(self) -> Identity:
        rows = self._db.execute("SELECT * FROM collection")
        if len(rows) != 1:
            raise IntegrityError(f"{self._path} does not say what it is; index the sounds again")
        return unsealed(Identity, rows[0], self._path, "the collection's identity")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # Reading

    def format(self) -> int:
        """The version of the file's format."""
        [(version,)] = self._db.execute("PRAGMA user_version")
        return int(version)

    def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        [(version,)] = self._db.execute("PRAGMA data_version")
        return int(version)

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside see one committed state."""
        return self._db.snapshot()

    def state(self) -> State:
        """The state that was committed last."""
        rows = self._db.execute("SELECT * FROM state")
        if len(rows) != 1:
            raise IntegrityError(f"{self._path} has lost its state; index the sounds again")
        return unsealed(State, rows[0], self._path, "the state")

    def tuning(self) -> Tuning | None:
        """The plan that was tuned last, None without one; IntegrityError when it is rotten."""
        if not self._has_plan:
            self._has_plan = bool(
                self._db.execute(
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'plan'"
                )
            )
        rows = self._db.execute("SELECT * FROM plan") if self._has_plan else []
        return unsealed(Tuning, rows[0], self._path, "the tuned plan") if rows else None

    def rows_after(self, row: int) -> Generator[Rows, None, None]:
        """Windows with a number above `row`, in order, in batches; IntegrityError on rot."""
        sql = (
            "SELECT row, clip, start_s, end_s, vector, crc FROM windows WHERE row > ? ORDER BY row"
        )
        for batch in self._db.stream(sql, (row,)):
            for *window, crc in batch:
                if not is_sound(window, crc, 2 * self.identity.dim):
                    raise rotten(self._window_name(window[0]), self._path)
            packed = np.frombuffer(b"".join(window[4] for window in batch), np.float16)
            numbers = np.array([window[:2] for window in batch], np.int64)
            spans = np.array([window[2:4] for window in batch], np.float64)
            vectors = packed.reshape(len(batch), self.identity.dim)
            yield Rows(numbers[:, 0], numbers[:, 1], spans, vectors)

    def _window_name(self, row: int) -> str:
        clips = self._db.execute(
            "SELECT key FROM clips WHERE ? BETWEEN first_row AND first_row + windows - 1", (row,)
        )
        return f"a window of clip {clips[0][0]!r}" if clips else f"window {row}, of no clip,"

    def removed_after(self, change: int) -> list[tuple[int, int]]:
        """(first row, rows) of each clip that was removed in a later change."""
        return [
            (int(first), int(count))
            for first, count in self._db.execute(
                "SELECT first_row, windows FROM removed WHERE change > ?", (change,)
            )
        ]

    def is_amended_after(self, change: int) -> bool:
        """Whether a later change gave a stored clip other facts: its metadata, its path."""
        return bool(
            self._db.execute(
                "SELECT 1 FROM removed WHERE windows = 0 AND change > ? LIMIT 1", (change,)
            )
        )

    def matching(self, tree: Filter, after_clip: int = 0) -> Int64:
        """Numbers [C], in any order, of the clips above `after_clip` that the filter lets through.

        The checksum of a clip is checked when it becomes a hit, not here.
        """
        source, (where, values) = "clips", to_sql(tree)
        if after_clip:
            # The newest clips are few: found by their numbers, not by an index on a field.
            source, where = "clips NOT INDEXED", f"id > ? AND {where}"
            values = (after_clip, *values)
        found = self._db.stream(f"SELECT id FROM {source} WHERE {where}", values)
        return np.fromiter((number for batch in found for (number,) in batch), np.int64)

    def filter_fields(self) -> list[str]:
        """The dotted names of the fields that have an index for filters, sorted."""
        rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
        names = [name for (name,) in rows if name.startswith(INDEX_PREFIX)]
        return sorted(name.removeprefix(INDEX_PREFIX) for name in names)

    def find(self, key: str) -> Record | None:
        """The clip stored under `key`."""
        found = self._records("key", [key])
        return found[0] if found else None

    def records(self, clips: Sequence[int]) -> dict[int, Record]:
        """The clips of these numbers that are still stored."""
        return {record.id: record for record in self._records("id", clips)}

    def _records(self, column: str, values: Sequence[Any]) -> list[Record]:
        found = []
        for start in range(0, len(values), _VALUES_AT_ONCE):
            some = values[start : start + _VALUES_AT_ONCE]
            marks = ", ".join("?" * len(some))
            found += [
                unsealed(Record, columns, self._path, f"clip {columns[1]!r}")
                for columns in self._db.execute(
                    f"SELECT * FROM clips WHERE {column} IN ({marks})", some
                )
            ]
        return found

    def keys(self) -> list[str]:
        """Every key, sorted; not read off SQLite's own index, which has no checksum."""
        return sorted(record.key for record in self._all_records())

    def duration_s(self) -> float:
        """Seconds of sound in all clips together."""
        return math.fsum(record.duration_s for record in self._all_records())

    def _all_records(self) -> Iterator[Record]:
        for batch in self._db.stream("SELECT * FROM clips"):
            for columns in batch:
                yield unsealed(Record, columns, self._path, f"clip {columns[1]!r}")

    def problems(self) -> list[str]:
        """What is wrong with the file, read from end to end; empty when it is whole."""
        found = [text for (text,) in self._db.execute("PRAGMA integrity_check") if text != "ok"]
        if found:
            return [f"SQLite: {text}" for text in found]
        state, clips, windows = self.state(), 0, 0
        try:
            self.tuning()
        except IntegrityError as error:
            found.append(str(error))
        for batch in self._db.stream("SELECT * FROM clips"):
            for columns in batch:
                try:
                    record = unsealed(Record, columns, self._path, f"clip {columns[1]!r}")
                except IntegrityError as error:
                    found.append(str(error))
                else:
                    clips, windows = clips + 1, windows + record.windows
        try:
            rows = sum(len(batch.rows) for batch in self.rows_after(-1))
        except IntegrityError as error:
            return [*found, str(error)]
        if (clips, windows, rows) != (state.clips, state.windows, state.windows):
            found.append(
                f"{clips} clips with {windows} windows and {rows} vectors are stored where "
                f"{state.clips} clips with {state.windows} windows were committed"
            )
        return found

    # Writing: each method is one transaction, durable when it returns

    def put(self, clips: Sequence[NewClip], amended: Sequence[Record] = ()) -> None:
        """Store clips, one whose key is there taking its place, and new facts of others."""
        with self._db.transaction():
            state = self._next()
            for clip in clips:
                state = self._insert(self._drop(state, clip.key), clip)
            if amended:
                # What readers know by filters may have changed, though no row did.
                self._db.execute("INSERT INTO removed VALUES (?, 0, 0)", (state.change,))
            for record in amended:
                # Gone if another thread removed it meanwhile: then it stays removed.
                if self._db.execute("SELECT 1 FROM clips WHERE id = ?", (record.id,)):
                    self._db.execute(
                        "REPLACE INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        sealed(record),
                    )
            self._save(state)

    def index_filters(self, fields: Sequence[Field]) -> None:
        """Give each of these fields an index for filters, and no other field."""
        wanted = {".".join(one.names) for one in fields}
        with self._db.transaction():
            stored = set(self.filter_fields())
            for name in stored - wanted:
                self._db.execute(f'DROP INDEX "{INDEX_PREFIX}{name}"')
            for name in sorted(wanted - stored):
                self._db.execute(str(index_sql(INDEX_PREFIX + name)))
            version = FORMAT_INDEXED if wanted else FORMAT
            self._db.execute(f"PRAGMA user_version = {version}")

    def put_tuning(self, tuning: Tuning) -> None:
        """Keep a tuned plan, the only one; a new state, so that readers look at it."""
        with self._db.transaction():
            self._db.execute(_PLAN_SCHEMA)
            self._db.execute("DELETE FROM plan")
            marks = ", ".join("?" * len(columns := sealed(tuning)))
            self._db.execute(f"INSERT INTO plan VALUES ({marks})", columns)
            self._save(self._next())

    def remove(self, key: str) -> bool:
        """Remove a clip; False when there is none of that key."""
        with self._db.transaction():
            state = self._next()
            after = self._drop(state, key)
            if after == state:
                return False
            self._save(after)
            return True

    def publish(self, generation: int, header_size: int, header_sha256: str, change: int) -> None:
        """Point at a proven generation that was built from the state of `change`."""
        with self._db.transaction():
            # Whoever reads this pointer needs no removal that the generation already reflects.
            self._db.execute("DELETE FROM removed WHERE change <= ?", (change,))
            self._save(
                replace(
                    self.state(),
                    generation=generation,
                    header_size=header_size,
                    header_sha256=header_sha256,
                )
            )

    def _next(self) -> State:
        state = self.state()
        return replace(state, change=state.change + 1)

    def _save(self, state: State) -> None:
        self._db.execute("DELETE FROM state")
        self._db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", sealed(state))

    def _drop(self, state: State, key: str) -> State:
        # Not through find(): a clip whose record is rotten can be removed or replaced.
        found = self._db.execute("SELECT id, first_row, windows FROM clips WHERE key = ?", (key,))
        for clip, first, count in found:
            self._db.execute("DELETE FROM clips WHERE id = ?", (clip,))
            self._db.execute(
                "DELETE FROM windows WHERE row BETWEEN ? AND ?", (first, first + count - 1)
            )
            self._db.execute("INSERT INTO removed VALUES (?, ?, ?)", (state.change, first, count))
            state = replace(state, clips=state.clips - 1, windows=state.windows - count)
        return state

    def _insert(self, state: State, clip: NewClip) -> State:
        number, first, count = state.last_clip + 1, state.last_row + 1, len(clip.vectors)
        record = Record(
            number, clip.key, clip.path, clip.size, clip.mtime_ns, clip.digest,
            clip.duration_s, clip.metadata, first, count,
        )  # fmt: skip
        self._db.execute(
            "INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", sealed(record)
        )
        windows = []
        for row, (start_s, end_s), vector in zip(
            range(first, first + count), clip.spans.tolist(), clip.vectors, strict=True
        ):
            window = (row, number, start_s, end_s, vector.tobytes())
            windows.append((*window, window_crc(*window)))
        self._db.execute_many("INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?)", windows)
        return replace(
            state,
            clips=state.clips + 1,
            windows=state.windows + count,
            last_clip=number,
            last_row=first + count - 1,
        )
