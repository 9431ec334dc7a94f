"""Laws of rebuilding in the background: nobody waits for it, and no commit is lost or doubled."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, child_environment, power_law, sound_of

from clap_engine import planner, storage, writer
from clap_engine.arrays import Float32
from clap_engine.catalogue import Catalogue
from clap_engine.collection import Collection
from clap_engine.errors import ClosedError
from clap_engine.index import coarse, generation

ROWS = power_law(60, seed=1)
PATIENCE_S = 60.0


class Gate:
    """Holds each rebuild before its first batch until it may go on; counts those under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.may_go = threading.Event(), threading.Event()
        self.active = self.most = self.begun = 0
        self._lock = threading.Lock()
        real = generation.write

        def write(*args: Any, batches: Any, **options: Any) -> Any:
            with self._lock:
                self.active, self.begun = self.active + 1, self.begun + 1
                self.most = max(self.most, self.active)
            try:
                return real(*args, batches=self._held(batches), **options)
            finally:
                with self._lock:
                    self.active -= 1

        monkeypatch.setattr(generation, "write", write)

    def _held(self, batches: Iterator[Any]) -> Iterator[Any]:
        self.reached.set()
        assert self.may_go.wait(PATIENCE_S)
        yield from batches


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    made = Gate(monkeypatch)
    yield made
    made.may_go.set()


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        yield opened


def put(sounds: Collection, stored: dict[str, Float32], rows: range, prefix: str = "k") -> None:
    new = {f"{prefix}{i}": ROWS[i : i + 1] for i in rows}
    report = sounds.add([sound_of(vector) for vector in new.values()], keys=list(new))
    assert not report.failed
    stored.update(new)


def check(sounds: Collection, stored: dict[str, Float32]) -> None:
    """All that is stored is found once, by the writer and by another handle; nothing else is."""
    assert sounds.keys() == sorted(stored)
    with Collection.open(sounds.path, embedder=FakeEmbedder(), read_only=True) as reader:
        for handle in (sounds, reader):
            for key, rows in list(stored.items())[::7]:
                hits = handle.search(rows[0], k=100, shortlist="all").hits
                assert hits[0].key == key
                assert sorted(hit.key for hit in hits) == sorted(stored)
            assert handle.verify() == []


def test_nobody_waits_for_a_rebuild(sounds: Collection, gate: Gate) -> None:
    """It is held open: what comes back meanwhile did not wait for it."""
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(20))
    assert gate.reached.wait(PATIENCE_S)
    info = sounds.info()
    assert (info["generation"], info["tail_rows"], info["rebuilding"]) == (0, 20, True)
    put(sounds, stored, range(20, 25))
    assert sounds.remove("k3")
    del stored["k3"]
    check(sounds, stored)
    gate.may_go.set()
    sounds._writer.join()
    info = sounds.info()
    # What was committed meanwhile is the new tail, and the removed row is hidden.
    assert (info["generation"], info["tail_rows"], info["removed_rows"]) == (1, 5, 1)
    assert (info["rebuilding"], info["rebuild_error"]) == (False, None)
    check(sounds, stored)


def test_the_swap_reads_no_row_again(
    sounds: Collection, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came while a generation was built is in memory already, and stays there."""
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(20))
    assert gate.reached.wait(PATIENCE_S)
    put(sounds, stored, range(20, 28))
    sounds.search(ROWS[0])
    assert sounds.remove("k25")
    del stored["k25"]
    real, read = Catalogue.rows_after, []

    def rows_after(self: Catalogue, row: int, *args: Any) -> Any:
        for batch in real(self, row, *args):
            if self is sounds._states.reader:
                read.extend(batch.rows.tolist())
            yield batch

    with monkeypatch.context() as patches:
        patches.setattr(Catalogue, "rows_after", rows_after)
        gate.may_go.set()
        sounds._writer.join()
        found = sounds.search(ROWS[27], k=1)
    assert (found.generation, found.hits[0].key) == (1, "k27")
    assert read == []
    assert (sounds.info()["tail_rows"], sounds.info()["removed_rows"]) == (8, 1)
    check(sounds, stored)


def test_what_changes_meanwhile_is_neither_lost_nor_doubled(sounds: Collection, gate: Gate) -> None:
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(20))
    assert gate.reached.wait(PATIENCE_S)
    for i in (0, 5, 19):
        assert sounds.remove(f"k{i}")
        del stored[f"k{i}"]
    sounds.add([sound_of(ROWS[50]), sound_of(ROWS[51])], keys=["k7", "k5"])  # one updated, one back
    stored |= {"k7": ROWS[50:51], "k5": ROWS[51:52]}
    put(sounds, stored, range(30, 33))
    assert sounds.remove("k31")  # added and removed while it was built
    del stored["k31"]
    gate.may_go.set()
    sounds._writer.join()
    assert sounds.info()["generation"] == 1
    check(sounds, stored)
    sounds.rebuild()
    assert sounds.info()["removed_rows"] == 0
    check(sounds, stored)


def test_that_test_can_fail(
    sounds: Collection, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control: to forget the removals that came meanwhile is noticed."""
    real = Catalogue.publish

    def careless(self: Catalogue, number: int, size: int, sha256: str, change: int) -> None:
        real(self, number, size, sha256, change + 1000)

    monkeypatch.setattr(Catalogue, "publish", careless)
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(20))
    assert gate.reached.wait(PATIENCE_S)
    sounds.remove("k3")
    del stored["k3"]
    gate.may_go.set()
    sounds._writer.join()
    with pytest.raises((AssertionError, OSError, Warning)):
        check(sounds, stored)


def test_two_rebuilds_are_never_under_way(sounds: Collection, gate: Gate) -> None:
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(12))
    assert gate.reached.wait(PATIENCE_S)
    put(sounds, stored, range(12, 30))
    assert sounds.rebuild(wait=False) == 0
    threads = [threading.Thread(target=sounds.rebuild) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert gate.begun == 1
    gate.may_go.set()
    for thread in threads:
        thread.join()
    sounds._writer.join()
    assert gate.most == 1
    assert gate.begun >= 4
    assert sounds.info()["tail_rows"] == 0
    check(sounds, stored)


def test_a_rebuild_that_is_outgrown_is_followed_by_another(sounds: Collection, gate: Gate) -> None:
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(12))
    assert gate.reached.wait(PATIENCE_S)
    put(sounds, stored, range(12, 40))
    gate.may_go.set()
    sounds._writer.join()
    assert (sounds.info()["generation"], sounds.info()["tail_rows"]) == (2, 0)
    assert gate.begun == 2


@pytest.mark.parametrize("how", ["wait", "end", "error"])
def test_closing_finishes_a_rebuild_or_ends_it(tmp_path: Path, gate: Gate, how: str) -> None:
    stored: dict[str, Float32] = {}
    sounds = Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True)

    def leave() -> None:
        if how == "error":
            with contextlib.suppress(KeyError), sounds:
                raise KeyError
        else:
            sounds.close(wait=how == "wait")

    put(sounds, stored, range(20))
    assert gate.reached.wait(PATIENCE_S)
    run = sounds._writer._run
    assert run is not None
    closing = threading.Thread(target=leave)
    closing.start()
    while how != "wait" and not run.stop.is_set():
        time.sleep(0.001)
    gate.may_go.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert not run.is_alive()
    made = [entry.name for entry in (tmp_path / "c" / "generations").iterdir()]
    assert made == (["00000001"] if how == "wait" else [])
    with pytest.raises(ClosedError):
        sounds.add([b"x"], keys=["x"])
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as again:  # the lock is free
        put(again, stored, range(20, 21))
        check(again, stored)


def test_closing_ends_a_rebuild_that_another_thread_waits_for(tmp_path: Path, gate: Gate) -> None:
    sounds = Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True)
    put(sounds, {}, range(5))
    seen: list[BaseException] = []

    def wait() -> None:
        try:
            sounds.rebuild()
        except ClosedError as error:
            seen.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert gate.reached.wait(PATIENCE_S)
    closing = threading.Thread(target=sounds.close)
    closing.start()
    while not sounds._writer._closing.is_set():
        time.sleep(0.001)
    gate.may_go.set()
    closing.join(PATIENCE_S)
    waiting.join(PATIENCE_S)
    assert len(seen) == 1


def test_a_rebuild_that_fails_is_told_and_tried_again(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(8))
    assert sounds.rebuild() == 1
    for error in (OSError(errno.ENOSPC, "No space left on device"), MemoryError("too many rows")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patches:
            patches.setattr(storage, "_replace", fail)
            put(sounds, stored, range(8, 20))
            sounds._writer.join()
        info = sounds.info()
        assert info["generation"] == 1
        assert str(error.args[-1]) in info["rebuild_error"]
        assert [e.name for e in (sounds.path / "generations").iterdir()] == ["00000001"]
        check(sounds, stored)
    assert any("stay as they were" in record.message for record in caplog.records)
    put(sounds, stored, range(20, 21))  # the next occasion
    sounds._writer.join()
    info = sounds.info()
    assert (info["generation"], info["tail_rows"], info["rebuild_error"]) == (2, 0, None)
    check(sounds, stored)


def test_other_handles_follow_the_swap(sounds: Collection, gate: Gate) -> None:
    stored: dict[str, Float32] = {}
    with Collection.open(sounds.path, embedder=FakeEmbedder(), read_only=True) as reader:
        put(sounds, stored, range(20))
        assert gate.reached.wait(PATIENCE_S)
        assert reader.search(ROWS[3], k=1).generation == 0
        gate.may_go.set()
        sounds._writer.join()
        found = reader.search(ROWS[3], k=1)
        assert (found.generation, found.hits[0].key) == (1, "k3")


@pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
def test_no_snapshot_is_held_while_the_graph_is_built(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite can empty its log meanwhile, which an open snapshot would keep it from."""
    monkeypatch.setattr(planner, "HNSW_ROWS_PER_CANDIDATE", 0)
    monkeypatch.setattr(planner, "SHORTLIST_MIN_UNMEASURED", 1)
    monkeypatch.setattr(planner, "SHORTLIST_PER_HIT", 1)
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(20))
    real, busy = coarse.CoarseIndex.build_from, []

    def build_from(*args: Any) -> Any:
        put(sounds, stored, range(20, 22))
        busy.append(sounds._open_writer()._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")[0][0])
        return real(*args)

    monkeypatch.setattr(coarse.CoarseIndex, "build_from", build_from)
    sounds.rebuild()
    assert sounds.info()["index"] == "hnsw"
    assert busy == [0]
    check(sounds, stored)


def test_a_graph_that_is_built_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hnswlib")
    rows = power_law(700, seed=3)[:, :32]
    rows /= (rows**2).sum(axis=1, keepdims=True) ** 0.5
    whole = coarse.CoarseIndex.build(rows)
    monkeypatch.setattr(coarse, "ROWS_AT_ONCE", 64)
    looks: list[None] = []
    parts = coarse.CoarseIndex.build(rows, lambda: looks.append(None))
    assert len(looks) == 11
    for query in rows[:20]:
        assert parts.search(query, 30)[0].tolist() == whole.search(query, 30)[0].tolist()

    def end() -> None:
        raise ClosedError("enough")

    with pytest.raises(ClosedError):
        coarse.CoarseIndex.build(rows, end)


def test_an_amendment_is_seen_past_a_rebuild(sounds: Collection) -> None:
    """A search in a state before the amendment must not take its metadata for what it filtered."""
    sounds.add([b"x"], keys=["x"], metadata=[{"n": 1}])
    before = sounds._states.refresh().change
    sounds.add([b"x"], keys=["x"], metadata=[{"n": 2}])
    sounds.rebuild()
    assert sounds._states.reader.is_amended_after(before)
    sounds.add([b"x"], keys=["x"], metadata=[{"n": 3}])
    after = sounds._states.refresh().change
    sounds.rebuild()
    assert sounds._states.reader.is_amended_after(before)
    assert not sounds._states.reader.is_amended_after(after)
    [(marks,)] = sounds._states.reader._db.execute("SELECT count(*) FROM removed")
    assert marks == 1


def test_removals_make_a_rebuild_due_as_well(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    monkeypatch.setattr(writer, "REMOVALS_A_LOOK", 4)
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(40))
    sounds._writer.join()
    assert sounds.info()["generation"] == 1
    for i in range(12):
        assert sounds.remove(f"k{i}")
        del stored[f"k{i}"]
    sounds._writer.join()
    assert (sounds.info()["generation"], sounds.info()["removed_rows"]) == (2, 0)
    check(sounds, stored)


def test_what_is_due_while_an_ended_run_leaves_is_not_forgotten(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rebuild` ends the run in the background; removals meet it while it is still there."""
    monkeypatch.setattr(planner, "TAIL_MIN_ROWS", 10)
    monkeypatch.setattr(writer, "REMOVALS_A_LOOK", 4)
    leaving, is_free = threading.Event(), threading.Event()
    real = writer.Writer._settle

    def settle(self: writer.Writer, run: writer._Run) -> bool:
        if not is_free.is_set():
            leaving.set()
            assert is_free.wait(30)
        return real(self, run)

    monkeypatch.setattr(writer.Writer, "_settle", settle)
    stored: dict[str, Float32] = {}
    put(sounds, stored, range(40))
    assert leaving.wait(30)
    assert sounds.rebuild() == 1
    for i in range(12):
        assert sounds.remove(f"k{i}")
        del stored[f"k{i}"]
    is_free.set()
    sounds._writer.join()
    assert (sounds.info()["generation"], sounds.info()["removed_rows"]) == (2, 0)
    check(sounds, stored)


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    stored: dict[str, Float32] = {}
    with Collection.open("c", embedder=FakeEmbedder(), create=True) as sounds:
        monkeypatch.chdir(tmp_path / "b")
        put(sounds, stored, range(20))
        assert sounds.rebuild() == 1
        sounds.compact()
        sounds.backup("copy")
        check(sounds, stored)
    assert [entry.name for entry in (tmp_path / "b").iterdir()] == ["copy"]


# What ends a process while a rebuild is under way

SLOW = """
import os, sys, threading, time
from clap_engine import planner
from clap_engine.collection import Collection
from clap_engine.errors import ForkedError
from clap_engine.index import generation
from fake_embedder import FakeEmbedder, power_law, sound_of

planner.TAIL_MIN_ROWS = 10
reached, real = threading.Event(), generation.write

def write(*args, batches, **options):
    def slow():
        for _ in range(500):
            reached.set()
            time.sleep(0.02)
            options["check"]()
        yield from batches
    return real(*args, batches=slow(), **options)

generation.write = write
rows = power_law(40, seed=1)
sounds = Collection.open(sys.argv[1], embedder=FakeEmbedder(), create=True)
sounds.add([sound_of(row) for row in rows[:20]], keys=[f"k{i}" for i in range(20)])
assert reached.wait(60)
"""

EXIT = SLOW + "print('end')"

RAISE = SLOW + "raise SystemExit(3)"

# A server that outlives the main thread: the rebuild is not the last that runs, so it goes on.
SERVE = (
    """
import threading
def serve(sounds):
    threading.main_thread().join()
    sounds._writer.join()
    print(sounds.info()["generation"], flush=True)
    sounds.close()
"""
    + SLOW.replace("range(500)", "range(20)")
    + ("threading.Thread(target=serve, args=(sounds,)).start()")
)

FORK = (
    SLOW
    + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork() with threads: that is the point
child = os.fork()
if child == 0:
    try:
        sounds.search(rows[0])
    except ForkedError:
        sounds.close()
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert sounds.search(rows[0], k=1).hits[0].key == "k0"
sounds.close(wait=False)
print("end")
"""
)

KILL = (
    SLOW
    + """
for i in range(20, 40):
    sounds.add([sound_of(rows[i])], keys=[f"k{i}"])
    os.write(1, f"k{i}\\n".encode())
sounds.remove("k0")
os.write(1, b"removed\\n")
time.sleep(60)
"""
)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        env=child_environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("code", "status"), [(EXIT, 0), (RAISE, 3)])
def test_an_interpreter_that_ends_does_not_wait(tmp_path: Path, code: str, status: int) -> None:
    """The rebuild would take ten seconds more and nobody closed the collection."""
    done = run(code, tmp_path / "c")
    assert (done.returncode, done.stderr) == (status, "")
    assert list((tmp_path / "c" / "generations").iterdir()) == []
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        assert len(sounds) == 20
        assert sounds.verify() == []


def test_rebuilds_go_on_while_other_threads_do(tmp_path: Path) -> None:
    done = run(SERVE, tmp_path / "c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_forked_child_is_told_while_a_rebuild_is_under_way(tmp_path: Path) -> None:
    done = run(FORK, tmp_path / "c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_kill_in_the_midst_loses_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILL, str(tmp_path / "c")],
        stdout=subprocess.PIPE,
        env=child_environment(),
    ) as child:
        assert child.stdout is not None
        lines = []
        while lines[-1:] != [b"removed\n"]:
            lines.append(child.stdout.readline())
        child.kill()
    assert list((tmp_path / "c" / "generations").glob("*.draft"))
    rows = power_law(40, seed=1)
    stored = {f"k{i}": rows[i : i + 1] for i in range(1, 40)}
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder()) as sounds:
        check(sounds, stored)
        sounds.rebuild()
        assert len(list((tmp_path / "c" / "generations").iterdir())) == 1
        check(sounds, stored)


def test_rebuilding_is_refused_where_writing_is(tmp_path: Path) -> None:
    Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True).close()
    with Collection.open(tmp_path / "c", read_only=True) as reader:
        calls: list[Callable[[], object]] = [
            reader.rebuild, lambda: reader.rebuild(wait=False),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(ValueError, match="read_only"):
                call()
