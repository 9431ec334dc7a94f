"""The source of truth of a collection as it is read: one SQLite file of clips and windows.

In:  a path; keys, numbers, filters.
Out: committed states, rows in order, records whose checksums hold.
Knows nothing about sounds, search, or how anything is written.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine import marker, schema
from clap_engine.arrays import Int64
from clap_engine.database import Database
from clap_engine.errors import IntegrityError, NotFoundError, SpaceMismatchError
from clap_engine.filter_sql import INDEX_PREFIX, to_sql
from clap_engine.filters import Filter
from clap_engine.records import (
    Grain,
    Granularity,
    Identity,
    Label,
    Record,
    Rows,
    State,
    Tuning,
    is_sealed,
    is_sound,
    rotten,
    unsealed,
)
from clap_engine.storage import StorageError

# SQLite's oldest builds take 999 values a statement.
VALUES_AT_ONCE = 500


class Ledger:
    """One connection to the truth; every record that it gives was checked."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist; open the collection with create=True")
        self._path = path
        self._has_plan = False  # once there, that table stays
        is_fixed = marker.is_marked(path.parent)
        if is_fixed and not read_only:
            raise marker.refusal(path.parent)
        if is_fixed:
            marker.read(path.parent, path)
        try:
            self._db = Database(path, read_only=read_only, immutable=is_fixed)
            try:
                schema.check(self._db, path)
                self.identity = self._identity()
                self.granularity = self._granularity()
            except BaseException:
                self._db.close()
                raise
        except StorageError as error:
            if is_fixed or os.access(path.parent, os.W_OK):
                raise
            raise StorageError(
                errno.EROFS,
                f"{path.parent} is a live collection, whose readers must be able to write beside "
                "its database, and here they can't; take a snapshot of it where it is written "
                "(`clap-engine snapshot`) and open that",
            ) from error

    def _identity(self) -> Identity:
        rows = self._db.execute("SELECT * FROM collection")
        if len(rows) != 1:
            raise IntegrityError(f"{self._path} does not say what it is; index the sounds again")
        return unsealed(Identity, rows[0], self._path, "the collection's identity")

    def _granularity(self) -> Granularity:
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'granularity'"
        rows = self._db.execute("SELECT * FROM granularity") if self._db.execute(sql) else []
        if not rows and self.format() != schema.GRAINED:
            return "window"
        if len(rows) != 1:
            raise IntegrityError(f"{self._path} has lost its granularity; restore it from a copy")
        found = unsealed(Grain, rows[0], self._path, "the granularity")
        return found.granularity

    def check_identity(self) -> None:
        """SpaceMismatchError where the collection was migrated since this connection was opened."""
        if (found := self._identity()) != self.identity:
            raise SpaceMismatchError(
                f"{self._path.parent} was migrated to {found.bundle_id} (space "
                f"{found.space_id[:12]}) while it was open; open it again with that bundle"
            )

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

    def copy_to(self, path: Path, check: Callable[[], None] | None = None) -> None:
        """Copy the state that this connection sees into a new file; see Database."""
        self._db.copy_to(path, check)

    def ending(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """`check` is called now and then inside, and ends a statement by what it raises."""
        return self._db.ending(check)

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

    def rows_after(self, row: int, at_once: int = 1024) -> Generator[Rows, None, None]:
        """Windows with a number above `row`, in order, in batches; IntegrityError on rot."""
        sql = (
            "SELECT row, clip, start_s, end_s, vector, crc FROM windows WHERE row > ? ORDER BY row"
        )
        for batch in self._db.stream(sql, (row,), at_once):
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

    def find_all(self, keys: Sequence[str]) -> dict[str, Record]:
        """The clips stored under these keys, where there are such."""
        return {record.key: record for record in self._records("key", keys)}

    def records_after(self, clip: int, count: int) -> list[Record]:
        """At most `count` clips with numbers above `clip`, in order."""
        rows = self._db.execute(
            "SELECT * FROM clips WHERE id > ? ORDER BY id LIMIT ?", (clip, count)
        )
        return [unsealed(Record, columns, self._path, f"clip {columns[1]!r}") for columns in rows]

    def records(self, clips: Sequence[int]) -> dict[int, Record]:
        """The clips of these numbers that are still stored."""
        return {record.id: record for record in self._records("id", clips)}

    def labels(self, clips: Sequence[int]) -> dict[int, Label]:
        """Key and metadata of the clips of these numbers that are still stored."""
        found = {}
        for columns in self._columns("id", clips):
            if not is_sealed(columns):
                raise rotten(f"clip {columns[1]!r}", self._path)
            found[columns[0]] = Label(columns[1], columns[7])
        return found

    def all_labels(self, at_once: int = 1024) -> Iterator[tuple[int, Label]]:
        """The number and the label of each clip, in order; rotten ones are left out."""
        for batch in self._db.stream("SELECT * FROM clips ORDER BY id", batch=at_once):
            for columns in batch:
                if is_sealed(columns):
                    yield columns[0], Label(columns[1], columns[7])

    def _records(self, column: str, values: Sequence[Any]) -> list[Record]:
        return [
            unsealed(Record, columns, self._path, f"clip {columns[1]!r}")
            for columns in self._columns(column, values)
        ]

    def _columns(self, column: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        found = []
        for start in range(0, len(values), VALUES_AT_ONCE):
            some = values[start : start + VALUES_AT_ONCE]
            marks = ", ".join("?" * len(some))
            found += self._db.execute(f"SELECT * FROM clips WHERE {column} IN ({marks})", some)
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
