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

from clap_engine.errors import CollectionError, IntegrityError, NotFoundError
from clap_engine.records import (
    Identity,
    NewClip,
    Record,
    Rows,
    State,
    is_sound,
    rotten,
    sealed,
    unsealed,
    window_crc,
)
from clap_engine.storage import Database

FORMAT = 1
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
    # What readers of an older state must drop; emptied when a generation takes its place.
    """CREATE TABLE removed (change INTEGER NOT NULL, first_row INTEGER NOT NULL,
        windows INTEGER NOT NULL)""",
)


class Catalogue:
    """One connection to the truth; the writer and the readers of a process each have their own."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist; open the collection with create=True")
        self._path = path
        self._db = Database(path, read_only=read_only)
        try:
            self._check_format()
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
        if version != FORMAT:
            raise CollectionError(
                f"{self._path} has format {version}, this release reads {FORMAT}; "
                "install the clap-engine that wrote it, or index again"
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
            for record in amended:
                # Gone if another thread removed it meanwhile: then it stays removed.
                if self._db.execute("SELECT 1 FROM clips WHERE id = ?", (record.id,)):
                    self._db.execute(
                        "REPLACE INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        sealed(record),
                    )
            self._save(state)

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
