"""The source of truth of a collection as it is written: each change is one durable transaction.

In:  clips with their windows, spans and float16 vectors; keys to remove; another catalogue.
Out: a new committed state.
Knows nothing about sounds, search or derived files beyond the pointer to the current one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from clap_engine import schema
from clap_engine.errors import CollectionError, IntegrityError, LockedError
from clap_engine.filter_sql import INDEX_PREFIX, index_sql
from clap_engine.filters import Field
from clap_engine.ledger import VALUES_AT_ONCE, Ledger
from clap_engine.records import NewClip, Record, State, Tuning, sealed, window_crc

_WINDOWS_AT_ONCE = 10_000  # new ones that wait to be written: 10 MB


class Catalogue(Ledger):
    """One connection to the truth; the writer and the readers of a process each have their own.

    Each method that writes is one transaction, durable when it returns.
    """

    def put(self, clips: Sequence[NewClip], amended: Sequence[Record] = ()) -> None:
        """Store clips, one whose key is there taking its place, and new facts of others."""
        with self._db.transaction():
            state = self._insert(self._next(), clips)
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
            version = schema.INDEXED if wanted else schema.FORMAT
            version = version if self.granularity == "window" else schema.GRAINED
            self._db.execute(f"PRAGMA user_version = {version}")

    def shrink(self) -> bool:
        """Give the space of removed rows back to the file system; see Database."""
        return self._db.shrink()

    def settle(self) -> None:
        """Close it with all commits in the file itself, so that the file alone may be renamed."""
        if not self._db.checkpoint():
            raise LockedError(f"{self._path} is being read by another process; wait for it")
        self._db.close()

    def freeze(self) -> None:
        """Close it as a file that stands alone, see Database; only for one that nobody else has."""
        self._db.freeze()
        self._db.close()

    def thaw(self) -> None:
        """Let readers and a writer share it, which a snapshot's database does not."""
        self._db.use_wal()

    def put_tuning(self, tuning: Tuning) -> None:
        """Keep a tuned plan, the only one; a new state, so that readers look at it."""
        with self._db.transaction():
            self._db.execute("DROP TABLE IF EXISTS plan")
            self._db.execute(schema.PLAN)
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

    def take_over(self, path: Path, staged: Catalogue) -> None:
        """Become what is stored at `path`: its clips, its windows, its space; the id stays.

        Declared filters stay as well; the tuned plan and the derived files belong to what was.
        """
        identity, state = self.identity, staged.state()
        after = replace(staged.identity, id=identity.id, created_s=identity.created_s)
        with self._db.attached(path, "staged"), self._db.transaction():
            before = self.state()
            [(row,)] = self._db.execute("SELECT min(row) FROM staged.windows")
            [(clip,)] = self._db.execute("SELECT min(id) FROM staged.clips")
            if row is not None and (row <= before.last_row or clip <= before.last_clip):
                raise IntegrityError(f"numbers of {path} were given to others; migrate again")
            with suppress(IntegrityError):  # rotten or not, it goes
                self.tuning()
            for table in ("clips", "windows", "removed", *(["plan"] if self._has_plan else [])):
                self._db.execute(f"DELETE FROM {table}")
            for table in ("clips", "windows"):
                self._db.execute(f"INSERT INTO {table} SELECT * FROM staged.{table}")
            self._db.execute("DELETE FROM collection")
            self._db.execute("INSERT INTO collection VALUES (?, ?, ?, ?, ?, ?, ?)", sealed(after))
            number = before.generation + 1
            self._save(State(before.change + 1, state.clips, state.windows, state.last_clip,
                             state.last_row, number, 0, ""))  # fmt: skip
        self.identity = after

    def publish(self, generation: int, header_size: int, header_sha256: str, change: int) -> None:
        """Point at a proven generation that was built from the state of `change`."""
        with self._db.transaction():
            # Whoever reads this pointer needs no removal that the generation already reflects.
            # The newest amendment stays: a search may be under way in a state before it.
            self._db.execute("DELETE FROM removed WHERE change <= ? AND windows > 0", (change,))
            self._db.execute(
                "DELETE FROM removed WHERE windows = 0 AND change < "
                "(SELECT max(change) FROM removed WHERE windows = 0)"
            )
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

    def _insert(self, state: State, clips: Sequence[NewClip]) -> State:
        """Rows of many clips reach SQLite in one statement: three times as fast as one by one."""
        stored = self._stored_among([clip.key for clip in clips])
        rows = _NewRows()
        for clip in clips:
            if self.granularity == "clip" and len(clip.vectors) != 1:
                raise CollectionError(
                    f"clip {clip.key!r:.80} came with {len(clip.vectors)} vectors where a "
                    "collection of granularity clip stores one; give their mean"
                )
            if clip.key in rows.keys or len(rows.windows) >= _WINDOWS_AT_ONCE:
                self._write(rows)
                rows = _NewRows()
            if clip.key in stored:
                state = self._drop(state, clip.key)
            stored.add(clip.key)
            state = rows.append(state, clip)
        self._write(rows)
        return state

    def _stored_among(self, keys: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(keys), VALUES_AT_ONCE):
            some = keys[start : start + VALUES_AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT key FROM clips WHERE key IN ({marks})"
            found.update(key for (key,) in self._db.execute(sql, some))
        return found

    def _write(self, rows: _NewRows) -> None:
        self._db.execute_many(
            "INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.clips
        )
        self._db.execute_many("INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?)", rows.windows)


class _NewRows:
    """Columns of new clips and of their windows, until they are written together."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.clips: list[tuple[Any, ...]] = []
        self.windows: list[tuple[Any, ...]] = []

    def append(self, state: State, clip: NewClip) -> State:
        """Give the clip its numbers; the state with it."""
        number, first, count = state.last_clip + 1, state.last_row + 1, len(clip.vectors)
        record = Record(
            number, clip.key, clip.path, clip.size, clip.mtime_ns, clip.digest,
            clip.duration_s, clip.metadata, first, count,
        )  # fmt: skip
        self.keys.add(clip.key)
        self.clips.append(sealed(record))
        for row, (start_s, end_s), vector in zip(
            range(first, first + count), clip.spans.tolist(), clip.vectors, strict=True
        ):
            window = (row, number, start_s, end_s, vector.tobytes())
            self.windows.append((*window, window_crc(*window)))
        return replace(
            state,
            clips=state.clips + 1,
            windows=state.windows + count,
            last_clip=number,
            last_row=first + count - 1,
        )
