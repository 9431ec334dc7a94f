"""SQLite, made durable: one connection, whose commits are on the disk once they return.

In:  a path, SQL.
Out: rows, transactions that happen whole or not at all, snapshots, a copy of one state.
Knows nothing about clips, vectors or bundles; the one module that imports sqlite3.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from clap_engine import logwatch, storage
from clap_engine.errors import ClapError, ClosedError, IntegrityError, LockedError
from clap_engine.storage import StorageError

_BUSY_TIMEOUT_S = 5.0
# Pages copied between two looks at whether the copy shall end: 16 MiB.
_PAGES_AT_ONCE = 4096
# Steps of a statement between two such looks: 1 to 11 ms, by the statement.
_STEPS_AT_ONCE = 20_000
# SQLite's primary result codes; sqlite3 names them only from Python 3.11 on.
_BUSY, _LOCKED, _NOMEM, _READONLY, _CORRUPT, _CONSTRAINT, _NOTADB = 5, 6, 7, 8, 11, 19, 26
_ROTTEN_WORDS = ("malformed", "not a database", "could not decode", "corrupt")


def _database_error(error: sqlite3.Error, path: Path) -> ClapError:
    """The error of our tree that says what SQLite's means."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    if code in (_CORRUPT, _CONSTRAINT, _NOTADB) or any(w in text.lower() for w in _ROTTEN_WORDS):
        return IntegrityError(
            f"{path} is damaged ({text}); restore it from a copy, or index the sounds again"
        )
    if code in (_BUSY, _LOCKED) or "locked" in text:
        return LockedError(f"{path} is busy ({text}); try again when its writer is done")
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
        return ClosedError(f"{path} was closed; open the collection again")
    return StorageError(
        errno.EROFS if code == _READONLY else errno.EIO,
        f"{path}: {text}; the operation was undone, nothing that was committed is lost",
    )


class Database:
    """One connection; every sqlite3 error leaves as one of ours. Not for two threads at once."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        create: bool = False,
        immutable: bool = False,
    ) -> None:
        """Open `path`; with `create` an absent file is made, empty.

        An `immutable` file is one that nobody changes: it is read without locks, and nothing is
        written beside it.
        """
        self._path = path
        self._commits = logwatch.commits_to(logwatch.log_of(path))
        mode = "ro&immutable=1" if immutable else "ro" if read_only else "rwc" if create else "rw"
        with self._translated():
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,  # transactions begin where transaction() says so
                check_same_thread=False,
            )
        try:
            # FULL: a commit that returned is on the disk, even if power fails then.
            self.execute("PRAGMA synchronous = FULL")
            self.execute("PRAGMA cell_size_check = ON")
            self.execute("PRAGMA trusted_schema = OFF")
            self.execute("PRAGMA foreign_keys = ON")
            if immutable:  # not even what a large sort would spill
                self.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _database_error(error, self._path) from error

    def _run(self, sql: str, values: Sequence[Any], many: bool) -> sqlite3.Cursor:
        """The one place where SQL reaches SQLite; the crash tests fail its n-th call."""
        if many:
            return self._connection.executemany(sql, values)
        return self._connection.execute(sql, values)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self._translated():
            return self._run(sql, values, many=False).fetchall()

    def execute_many(self, sql: str, values: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each tuple of values."""
        with self._translated():
            self._run(sql, values, many=True)

    def stream(
        self, sql: str, values: Sequence[Any] = (), batch: int = 1024
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of one statement in lists of at most `batch`."""
        with self._translated():
            cursor = self._run(sql, values, many=False)
        try:
            while True:
                with self._translated():
                    rows = cursor.fetchmany(batch)
                if not rows:
                    return
                yield rows
        finally:
            # An unfinished cursor would hold the snapshot open; a closed database has none.
            with suppress(sqlite3.Error):
                cursor.close()

    def trust_schema(self) -> None:
        """Let indexes call JSON functions, which old releases of SQLite (3.40) refuse otherwise.

        For a schema that the caller looks at before it runs anything else.
        """
        self.execute("PRAGMA trusted_schema = ON")

    def use_wal(self) -> None:
        """Switch the file to write-ahead logging, where readers never wait for the writer."""
        [(mode,)] = self.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StorageError(
                errno.ENOTSUP, f"{self._path}: no write-ahead log here ({mode}); use a local disk"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside, or none of them; durable once it has ended."""
        try:
            self.execute("BEGIN IMMEDIATE")
            yield
            self.execute("COMMIT")
            self._commits.tell()
        except BaseException:
            self._roll_back()
            raise

    @contextmanager
    def ending(self, check: Callable[[], None]) -> Iterator[None]:
        """`check` is called now and then inside, and ends the statement by what it raises."""
        raised: list[BaseException] = []

        def look() -> int:
            try:
                check()
            except BaseException as error:  # noqa: BLE001 (SQLite hands on no exception)
                raised.append(error)
            return len(raised)

        self._connection.set_progress_handler(look, _STEPS_AT_ONCE)
        try:
            yield
        except ClapError as error:
            if raised and error is not raised[0]:
                raise raised[0] from None
            raise
        finally:
            with suppress(sqlite3.Error):  # where it was closed inside
                self._connection.set_progress_handler(None, 0)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one committed state."""
        try:
            self.execute("BEGIN")
            yield
        finally:
            self._roll_back()

    def copy_to(self, path: Path, check: Callable[[], None] | None = None) -> None:
        """Copy what this connection sees into a new file, durable; within snapshot(), one state.

        Others commit meanwhile. `check` is called now and then and ends it by what it raises.
        """

        def progress(status: int, left: int, total: int) -> None:
            if check is not None:
                check()

        with self._translated(), closing(sqlite3.connect(path, isolation_level=None)) as target:
            self._connection.backup(target, pages=_PAGES_AT_ONCE, progress=progress, sleep=0)
        storage.fsync_path(path)

    @contextmanager
    def attached(self, path: Path, name: str) -> Iterator[None]:
        """The database at `path` can be read inside, as `name`."""
        self.execute(f"ATTACH DATABASE ? AS {name}", (str(path.absolute()),))
        try:
            yield
        finally:
            with suppress(ClapError):
                self.execute(f"DETACH DATABASE {name}")

    def shrink(self) -> bool:
        """Give the space of deleted rows back to the file system; False: once readers let it.

        The file is written anew through the log, so a crash leaves it old or new, and readers go
        on; it takes room for two more copies meanwhile.
        """
        self.execute("VACUUM")
        return self.checkpoint()

    def checkpoint(self) -> bool:
        """Empty the log into the file; False where readers of older states keep it from that."""
        [(is_busy, _, _)] = self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not is_busy

    def freeze(self) -> None:
        """Make the file one that stands alone: no free pages, no log, nothing beside it."""
        self.execute("VACUUM")
        [(mode,)] = self.execute("PRAGMA journal_mode = DELETE")
        if mode != "delete":
            raise LockedError(f"{self._path} is being read by somebody; wait for it")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            # SQLite rolls back itself where the statement can't.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; harmless twice."""
        with self._translated():
            self._connection.close()
