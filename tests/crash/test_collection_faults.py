"""The n-th operation of the disk or of SQLite fails: a typed error, old state, usable handle."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, child_environment, power_law, sound_of

from clap_engine import planner, storage
from clap_engine.collection import Collection
from clap_engine.database import Database
from clap_engine.errors import ClapError, RebuildWarning
from clap_engine.storage import StorageError

ROWS = power_law(12, seed=1)
Step = Callable[[Collection], object]


def _in_background(sounds: Collection) -> None:
    """Rebuild as adding does; what a thread can only log is raised here."""
    sounds.rebuild(wait=False)
    sounds._writer.join()
    if why := sounds.info()["rebuild_error"]:
        raise StorageError(errno.EIO, why)


def _backed_up(sounds: Collection) -> None:
    """A backup is whole or it is not there."""
    place = sounds.path.parent / f"{sounds.path.name}.copy"
    try:
        sounds.backup(place)
    except ClapError:
        assert not place.exists()
        assert not (place.with_name(f".{place.name}.draft") / "collection.sqlite").exists()
        raise


def _snapshotted(sounds: Collection) -> None:
    """A snapshot is whole or it is not there."""
    place = sounds.path.parent / f"{sounds.path.name}.snapshot"
    try:
        sounds.snapshot(place)
    except ClapError:
        assert not place.exists()
        raise


# The keys that are there after each step.
STEPS: list[tuple[Step, set[str]]] = [
    (lambda c: c.add([sound_of(ROWS[0]), sound_of(ROWS[1:4])], keys=["a", "b"]), {"a", "b"}),
    (lambda c: c.rebuild(), {"a", "b"}),
    (lambda c: c.add([sound_of(ROWS[4]), sound_of(ROWS[5:7])], keys=["b", "c"]), {"a", "b", "c"}),
    (lambda c: c.remove("a"), {"b", "c"}),
    (lambda c: c.compact(), {"b", "c"}),
    (lambda c: _in_background(c), {"b", "c"}),
    (lambda c: _backed_up(c), {"b", "c"}),
    (lambda c: _snapshotted(c), {"b", "c"}),
    (lambda c: c.search(ROWS[6], k=5), {"b", "c"}),
]


class Fault:
    """Counts operations while it is armed and fails the n-th of them."""

    def __init__(self, n: int, error: BaseException, *, after: bool = False) -> None:
        self.n, self.error, self.after = n, error, after
        self.count = 0
        self.armed = False

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.count += self.armed
            is_due = self.armed and self.count == self.n
            if is_due and not self.after:
                raise self.error
            result = call(*args, **kwargs)
            if is_due:
                if isinstance(result, sqlite3.Cursor):
                    result.close()  # as SQLite resets a statement that failed
                raise self.error
            return result

        return wrapped


def arm(monkeypatch: pytest.MonkeyPatch, target: str, fault: Fault) -> None:
    if target == "sqlite":
        monkeypatch.setattr(Database, "_run", fault.wrap(Database._run))
    else:
        for name, call in (
            ("_write", os.write), ("_fsync", os.fsync), ("_replace", os.replace),
            ("_mkdir", os.mkdir),
        ):  # fmt: skip
            monkeypatch.setattr(storage, name, fault.wrap(call))


def error_of(kind: str) -> BaseException:
    return {
        "EIO": lambda: OSError(errno.EIO, "Input/output error"),
        "ENOSPC": lambda: OSError(errno.ENOSPC, "No space left on device"),
        "ioerr": lambda: sqlite3.OperationalError("disk I/O error"),
        "full": lambda: sqlite3.OperationalError("database or disk is full"),
    }[kind]()


def run_program(folder: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch, target: str) -> bool:
    """Run all steps with the fault armed, check the state where it strikes, go on without it.

    Returns whether the fault struck.
    """
    struck = False
    typed: list[bool] = []
    expected: set[str] = set()
    sounds: Collection | None = None
    with monkeypatch.context() as patches:
        arm(patches, target, fault)
        for step, after in STEPS:
            fault.armed = not struck
            try:
                if sounds is None:
                    sounds = Collection.open(folder, embedder=FakeEmbedder(), create=True)
                step(sounds)
                fault.armed = False
            except ClapError as error:
                struck, fault.armed = True, False
                typed.append(isinstance(error, OSError))
                if sounds is None:  # it did not even open: it must at the next try
                    sounds = Collection.open(folder, embedder=FakeEmbedder(), create=True)
                found = set(sounds.keys())
                # Some of an add's clips may be there, each of them whole.
                assert expected & after <= found <= expected | after, (found, expected, after)
                assert {h.key for h in sounds.search(ROWS[0], k=9).hits} == found
                with Collection.open(folder, embedder=FakeEmbedder(), read_only=True) as other:
                    assert {h.key for h in other.search(ROWS[0], k=9).hits} == found
                    assert other.verify() == []
                step(sounds)  # the same handle does it now
            expected = after
            assert set(sounds.keys()) == expected
    assert all(typed)
    assert sounds is not None
    assert sounds.verify() == []
    assert {h.key for h in sounds.search(ROWS[0], k=9, shortlist="all").hits} == expected
    sounds.close()
    with Collection.open(folder.with_name(f"{folder.name}.copy"), embedder=FakeEmbedder()) as copy:
        assert set(copy.keys()) == expected
        assert copy.verify() == []
    snapshot = folder.with_name(f"{folder.name}.snapshot")
    with Collection.open(snapshot, embedder=FakeEmbedder()) as copy:
        assert set(copy.keys()) == expected
        assert (copy.verify(), copy.info()["tail_rows"]) == ([], 0)
    leftover = [e.name for e in (folder / "generations").iterdir()]
    assert len(leftover) == 1, leftover
    return struck


CASES = [
    ("files", "EIO", False), ("files", "ENOSPC", False), ("files", "EIO", True),
    ("sqlite", "ioerr", False),
    pytest.param("sqlite", "full", True, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("target", "kind", "after"), CASES)
def test_every_nth_operation_may_fail(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, kind: str, after: bool
) -> None:
    struck, n = True, 0
    while struck:
        n += 1
        fault = Fault(n, error_of(kind), after=after)
        struck = run_program(quick_path / str(n), fault, monkeypatch, target)
        assert struck == (fault.count >= n), "the fault was swallowed"
        shutil.rmtree(quick_path / str(n))
        shutil.rmtree(quick_path / f"{n}.copy")
        shutil.rmtree(quick_path / f"{n}.snapshot")
    assert n > 50, "the program has more operations than that: were they counted?"


def test_short_writes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_write", lambda fd, data: os.write(fd, data[:1000]))
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        sounds.add([sound_of(row) for row in ROWS], keys=[str(i) for i in range(len(ROWS))])
        sounds._writer.join()
        assert sounds.info()["generation"] == 1
        assert sounds.verify() == []


def test_what_was_added_stays_when_its_generation_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as sounds:
        with monkeypatch.context() as patches:
            fault = Fault(3, error_of("ENOSPC"))
            fault.armed = True
            arm(patches, "files", fault)
            keys = [str(i) for i in range(len(ROWS))]
            report = sounds.add([sound_of(row) for row in ROWS], keys=keys)
            sounds._writer.join()
        assert "No space left" in sounds.info()["rebuild_error"]
        assert report.added == len(ROWS)
        assert sounds.search(ROWS[3], k=1).hits[0].key == "3"
        assert sounds.info()["tail_rows"] == len(ROWS)
        sounds.rebuild()
        assert sounds.info()["tail_rows"] == 0


LIMITED = """
import resource, signal, sys
from clap_engine.collection import Collection
from clap_engine.storage import StorageError
from fake_embedder import FakeEmbedder, power_law, sound_of

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sounds = Collection.open(sys.argv[1], embedder=FakeEmbedder(), create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
acknowledged = []
try:
    sounds.add([sound_of(row) for row in power_law(2000, seed=2)],
               keys=[str(i) for i in range(2000)],
               progress=lambda done, key: acknowledged.append(key))
except StorageError as error:
    assert set(sounds.keys()) == set(acknowledged), (len(sounds), len(acknowledged))
    assert len(sounds.search(power_law(1, seed=3)[0], k=5).hits) == min(5, len(acknowledged))
    print(len(acknowledged), error)
"""


@pytest.mark.parametrize("limit_bytes", [200_000, 1_000_000])
def test_a_disk_that_is_really_full(tmp_path: Path, limit_bytes: int) -> None:
    """The kernel itself refuses to let files grow: nothing is simulated here."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path / "c"), str(limit_bytes)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split()[0])
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        assert len(sounds) == count
        assert sounds.verify() == []
        sounds.add([b"more"], keys=["more"])


UPKEEP = """
import resource, signal, sys
from clap_engine.collection import Collection
from clap_engine.storage import StorageError
from fake_embedder import FakeEmbedder, fill, power_law

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Collection.open(sys.argv[1], embedder=FakeEmbedder(), create=True) as sounds:
    keys = fill(sounds, power_law(900, seed=2))
    for key in keys[:100]:
        sounds.remove(key)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    for work in (sounds.compact, lambda: sounds.backup(sys.argv[1] + ".copy")):
        try:
            work()
        except StorageError as error:
            print(error)
        assert len(sounds) == 800
        assert sounds.verify() == []
        assert len(sounds.search(power_law(1, seed=3)[0], k=900, shortlist="all").hits) == 800
"""


@pytest.mark.parametrize("limit_bytes", [4_000, 100_000, 700_000])
def test_upkeep_on_a_disk_that_is_really_full(tmp_path: Path, limit_bytes: int) -> None:
    """SQLite's own writes fail, in the midst of VACUUM and of the copying of pages."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", UPKEEP, str(tmp_path / "c"), str(limit_bytes)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2, done.stdout
    assert not (tmp_path / "c.copy").exists()
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        assert len(sounds) == 800
        sounds.compact()
        sounds.backup(tmp_path / "c.copy")
    with Collection.open(tmp_path / "c.copy", embedder=FakeEmbedder()) as copy:
        assert len(copy) == 800
        assert copy.verify() == []


def test_a_read_only_folder_is_a_typed_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True)


def test_the_fault_test_can_fail(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control: a commit that is not atomic is caught."""

    def torn(self: Database) -> Any:
        import contextlib

        @contextlib.contextmanager
        def nothing() -> Any:
            yield

        return nothing()

    monkeypatch.setattr(Database, "transaction", torn)
    caught = 0
    for n in range(20, 60, 3):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RebuildWarning)
                run_program(quick_path / str(n), Fault(n, error_of("ioerr")), monkeypatch, "sqlite")
        except (AssertionError, ClapError):
            caught += 1
    assert caught
