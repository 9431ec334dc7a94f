"""Laws of storage: files are whole or absent, bytes are verified, one writer holds the lock."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_embedder import child_environment

from clap_engine import storage
from clap_engine.database import Database
from clap_engine.errors import ClosedError, IntegrityError, LockedError, NotFoundError
from clap_engine.storage import FileLock, StorageError


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [b"", b"x", b"sound" * 400_000], ids=["empty", "one", "2MB"])
def test_what_was_written_is_read_back(tmp_path: Path, data: bytes) -> None:
    storage.write_atomic(tmp_path / "file", data)
    found = storage.file_digest(tmp_path / "file")
    assert (found.size, found.sha256) == (len(data), digest(data))
    assert storage.read_exact(tmp_path / "file", found.size, found.sha256) == data
    assert storage.read_large(tmp_path / "file", found.size, found.sha256) == data
    assert bytes(storage.map_exact(tmp_path / "file", found.size, found.sha256)) == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("read", [storage.read_exact, storage.read_large, storage.map_exact])
def test_every_other_byte_string_is_refused(tmp_path: Path, read: object) -> None:
    path, data = tmp_path / "file", b"0123456789"
    for found in (b"0123456788", b"012345678", b"01234567890", b""):
        path.write_bytes(found)
        with pytest.raises(IntegrityError):
            read(path, len(data), digest(data))  # type: ignore[operator]


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises((IntegrityError, StorageError)):  # and none of them blocks
            storage.read_exact(path, 1, digest(b"x"))
        with pytest.raises((IntegrityError, StorageError)):
            storage.file_digest(path)
    with pytest.raises(NotFoundError):
        storage.read_exact(tmp_path / "absent", 1, digest(b"x"))
    with pytest.raises(NotFoundError):
        storage.file_facts(tmp_path / "absent")


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_write", lambda fd, data: os.write(fd, data[:3]))
    storage.write_atomic(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("call", ["_write", "_fsync", "_replace"])
def test_a_failed_replacement_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    storage.write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(storage, call, fail)
    with pytest.raises(StorageError) as caught:
        storage.write_atomic(tmp_path / "file", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_second_owner_is_told_within_a_second(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    start = time.monotonic()
    with pytest.raises(LockedError, match=str(os.getpid())):
        second.acquire()
    assert time.monotonic() - start < 1.0
    first.release()
    second.acquire()
    assert second.is_held
    assert not first.is_held
    second.release()
    second.release()


def test_a_lock_that_is_given_back_in_time_is_taken(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    timer = threading.Timer(0.1, first.release)
    timer.start()
    second.acquire(timeout_s=5)
    timer.join()
    second.release()


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from clap_engine.storage import FileLock\n"
        "FileLock(sys.argv[1]).acquire(); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        env=child_environment(),
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(LockedError):
            FileLock(tmp_path / "lock").acquire(timeout_s=0)
        child.kill()
    lock = FileLock(tmp_path / "lock")
    lock.acquire(timeout_s=1)
    lock.release()


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    db = Database(tmp_path / "db", create=True)
    db.use_wal()
    db.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(StorageError), db.transaction():
        db.execute_many("INSERT INTO t VALUES (?)", [(1,), ("too", "many")])
    with db.transaction():
        db.execute_many("INSERT INTO t VALUES (?)", [(2,), (3,)])
    assert db.execute("SELECT x FROM t") == [(2,), (3,)]
    assert list(db.stream("SELECT x FROM t ORDER BY x", batch=1)) == [[(2,)], [(3,)]]
    db.close()
    db.close()
    with pytest.raises(ClosedError):
        db.execute("SELECT 1")


def test_commits_are_synchronous(tmp_path: Path) -> None:
    db = Database(tmp_path / "db", create=True)
    db.use_wal()
    assert db.execute("PRAGMA synchronous") == [(2,)]  # FULL
    assert db.execute("PRAGMA journal_mode") == [("wal",)]
    db.close()


def test_sqlite_errors_become_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Database(tmp_path / "absent")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(IntegrityError), contextlib.closing(Database(tmp_path / "noise")) as noise:
        noise.execute("SELECT * FROM sqlite_master")
    db = Database(tmp_path / "db", create=True)
    db.execute("CREATE TABLE t (x BLOB)")
    db.execute("PRAGMA max_page_count = 4")  # a real SQLITE_FULL
    with pytest.raises(StorageError), db.transaction():
        db.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
    assert db.execute("SELECT count(*) FROM t") == [(0,)]
    db.close()
    other = Database(tmp_path / "db", read_only=True)
    with pytest.raises(StorageError) as caught:
        other.execute("INSERT INTO t VALUES (1)")
    assert caught.value.errno == errno.EROFS
    other.close()
