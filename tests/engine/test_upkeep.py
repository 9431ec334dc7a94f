"""Laws of compaction and backups: what is kept is kept whole, what is gone leaves the disk."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, fill, power_law, sound_of

from clap_engine import backups, storage
from clap_engine.collection import Collection
from clap_engine.database import Database
from clap_engine.errors import (
    ClosedError,
    CollectionError,
    IntegrityError,
    LockedError,
    NotFoundError,
)
from clap_engine.index import generation

ROWS = power_law(400, seed=1)


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        yield opened


def hits(sounds: Collection, row: Any = ROWS[0]) -> list[Any]:
    return [
        (hit.key, hit.start_s, hit.metadata)
        for hit in sounds.search(row, k=500, shortlist="all").hits
    ]


# Compaction


def test_compaction_gives_the_space_of_removed_clips_back(sounds: Collection) -> None:
    keys = fill(sounds, ROWS)
    sounds.declare_filters(["year"])
    sounds.rebuild()
    for key in keys[:300]:
        sounds.remove(key)
    before = hits(sounds)
    with Collection.open(sounds.path, embedder=FakeEmbedder(), read_only=True) as reader:
        assert hits(reader) == before
        report = sounds.compact()
        assert hits(reader) == before
        assert reader.verify() == []
    assert report.dropped_windows == 300
    assert report.before_bytes > 1_000_000
    # 1 KiB a vector twice, in the database and in the derived files, and what is small.
    assert report.after_bytes < 100 * 2_700 + 100_000
    assert report.after_bytes == storage.tree_bytes(sounds.path)
    assert hits(sounds) == before
    info = sounds.info()
    assert (info["removed_rows"], info["tail_rows"], info["filters"]) == (0, 0, ["year"])
    assert sounds.verify() == []
    fill(sounds, ROWS[:5], prefix="after")
    assert len(sounds) == 105


def test_compaction_of_a_collection_that_lost_all(sounds: Collection) -> None:
    keys = fill(sounds, ROWS[:50])
    sounds.rebuild()
    for key in keys:
        sounds.remove(key)
    sounds.compact()
    assert list((sounds.path / "generations").iterdir()) == []
    assert (hits(sounds), sounds.verify()) == ([], [])
    fill(sounds, ROWS[:1])
    assert len(hits(sounds)) == 1


def test_compaction_clears_what_a_killed_rebuild_left(sounds: Collection) -> None:
    fill(sounds, ROWS[:50])
    sounds.rebuild()
    (sounds.path / "generations" / "00000009.draft").mkdir()
    sounds.compact()
    assert [e.name for e in (sounds.path / "generations").iterdir()] == ["00000010"]
    assert sounds.compact().dropped_windows == 0
    assert [e.name for e in (sounds.path / "generations").iterdir()] == ["00000010"]


def test_compaction_goes_on_under_a_reader_that_holds_a_state(
    sounds: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The space comes back once the reader has moved on, and both see what they should."""
    monkeypatch.setattr("clap_engine.database._BUSY_TIMEOUT_S", 0.05)
    keys = fill(sounds, ROWS)
    for key in keys[:300]:
        sounds.remove(key)
    sounds.close()
    with Collection.open(sounds.path, embedder=FakeEmbedder()) as again:
        reader = Database(sounds.path / "collection.sqlite", read_only=True)
        with reader.snapshot():
            [(before,)] = reader.execute("SELECT count(*) FROM windows")
            again.compact()
            assert "until its readers have moved on" in caplog.text
            assert reader.execute("SELECT count(*) FROM windows") == [(before,)]
        reader.close()
        assert again.verify() == []
        second = again.compact()
        assert second.after_bytes < second.before_bytes


def test_compaction_is_for_the_writer(sounds: Collection) -> None:
    fill(sounds, ROWS[:5])
    with (
        Collection.open(sounds.path, read_only=True) as reader,
        pytest.raises(CollectionError, match="read_only"),
    ):
        reader.compact()
    with Collection.open(sounds.path) as second, pytest.raises(LockedError):
        second.compact()
    sounds.close()
    with pytest.raises(ClosedError):
        sounds.compact()


# Backups


def test_a_backup_is_a_collection_like_any_other(sounds: Collection, tmp_path: Path) -> None:
    sounds.declare_filters(["n"])
    keys = [f"k{i}" for i in range(100)]
    sounds.add([sound_of(ROWS[i : i + 1 + i % 3]) for i in range(100)], keys=keys,
               metadata=[{"n": i} for i in range(100)])  # fmt: skip
    sounds.rebuild()
    sounds.add([sound_of(ROWS[300])], keys=["tail"])
    sounds.remove("k7")
    before = hits(sounds)
    report = sounds.backup(tmp_path / "deep" / "copy")
    assert (report.clips, report.windows) == (100, sounds.info()["windows"])
    assert report.size_bytes == storage.tree_bytes(tmp_path / "deep" / "copy")
    assert [e.name for e in (tmp_path / "deep").iterdir()] == ["copy"]
    sounds.remove("k8")  # neither follows the other
    with Collection.open(tmp_path / "deep" / "copy", embedder=FakeEmbedder()) as copy:
        assert hits(copy) == before
        assert copy.verify() == []
        info = copy.info()
        assert (info["generation"], info["tail_rows"], info["removed_rows"]) == (1, 1, 2)
        assert info["filters"] == ["n"]
        found = copy.search(ROWS[0], k=500, where={"n": {"<": 10}})
        assert len(found.hits) == 9
        copy.add([b"more"], keys=["more"])
        assert copy.rebuild() == 2
    assert "more" not in sounds
    assert sounds.verify() == []


def test_a_backup_of_an_empty_collection(sounds: Collection, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    assert sounds.backup(tmp_path / "copy").clips == 0
    with Collection.open(tmp_path / "copy", embedder=FakeEmbedder()) as copy:
        assert copy.keys() == []


def test_a_backup_shares_no_file_with_its_source(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:50])
    sounds.rebuild()
    sounds.backup(tmp_path / "copy")
    inodes = {file.stat().st_ino for file in sounds.path.rglob("*") if file.is_file()}
    assert not inodes & {file.stat().st_ino for file in (tmp_path / "copy").rglob("*")}


def test_a_backup_holds_one_state_while_the_writer_goes_on(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips come and go in pairs that are committed together; no copy may hold half a pair."""
    monkeypatch.setattr("clap_engine.database._PAGES_AT_ONCE", 1)
    fill(sounds, ROWS[:50], prefix="still")
    stop = threading.Event()
    rounds: list[int] = []

    def write() -> None:
        while not stop.is_set():
            i = len(rounds)
            sounds.add([sound_of(ROWS[i % 400]), sound_of(ROWS[(i + 1) % 400])],
                       keys=["left", "right"], metadata=[{"i": i}, {"i": i}])  # fmt: skip
            if i % 5 == 4:
                sounds.rebuild()
            rounds.append(i)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with Collection.open(sounds.path, read_only=True) as reader:
            for number in range(8):
                source = sounds if number % 2 else reader
                began = len(rounds)
                source.backup(tmp_path / str(number))
                with Collection.open(tmp_path / str(number), embedder=FakeEmbedder()) as copy:
                    assert copy.verify() == []
                    found = {hit.key: hit.metadata.get("i") for hit in copy.search("x", k=99).hits}
                assert found.get("left") == found.get("right")
                assert len(found) in (50, 52)
                assert found.get("left", -1) >= began - 1
    finally:
        stop.set()
        thread.join()
    assert len(rounds) > 8, "the writer stood still"


def test_that_test_can_fail(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control: a database that is copied as a file, beside its log, is noticed."""

    def naive(self: Database, path: Path, check: Any = None) -> None:
        shutil.copyfile(sounds.path / "collection.sqlite", path)

    monkeypatch.setattr(Database, "copy_to", naive)
    fill(sounds, ROWS[:50])
    with pytest.raises((IntegrityError, NotFoundError)):
        sounds.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_backup_goes_nowhere_but_into_a_new_folder(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:5])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for place in (tmp_path / "photos", tmp_path / "photos" / "cat.jpg", sounds.path):
        with pytest.raises(CollectionError, match="there already"):
            sounds.backup(place)
    assert [e.name for e in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    (tmp_path / ".copy.draft").mkdir()
    lock = storage.FileLock(tmp_path / ".copy.draft" / "writer.lock")
    lock.acquire()
    with pytest.raises(LockedError, match="another backup"):
        sounds.backup(tmp_path / "copy")
    lock.release()
    sounds.backup(tmp_path / "copy")  # what a killed one left does not matter
    sounds.close()
    with pytest.raises(ClosedError):
        sounds.backup(tmp_path / "late")


def test_a_half_backup_is_none(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step before the last, no folder that the backup made can be opened."""
    fill(sounds, ROWS[:50])
    sounds.rebuild()
    places = (tmp_path / "copy", tmp_path / ".copy.draft")
    steps: list[str] = []
    real = storage.write_file

    def look(*args: Any) -> Any:
        for place in places:
            with pytest.raises(NotFoundError):
                Collection.open(place, embedder=FakeEmbedder())
        steps.append(str(args[0]))
        return real(*args)

    def pages() -> None:
        look_at_database.append(None)
        for place in places:
            with pytest.raises(NotFoundError):
                Collection.open(place, embedder=FakeEmbedder())

    look_at_database: list[None] = []
    monkeypatch.setattr(storage, "write_file", look)
    monkeypatch.setattr("clap_engine.database._PAGES_AT_ONCE", 3)
    backups.backup(sounds.path, tmp_path / "copy", pages)
    assert len(steps) >= 5
    assert len(look_at_database) > 5
    with Collection.open(tmp_path / "copy", embedder=FakeEmbedder()) as copy:
        assert len(copy) == 50


def test_damaged_derived_files_are_built_anew_in_the_copy(
    sounds: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(sounds, ROWS[:50])
    sounds.rebuild()
    (file,) = (sounds.path / "generations").glob("*/vectors.f16")
    before = hits(sounds)
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.unlink()  # the open map of it is not touched
    file.write_bytes(data)
    sounds.backup(tmp_path / "copy")
    assert "derived files of its own" in caplog.text
    with Collection.open(tmp_path / "copy", embedder=FakeEmbedder()) as copy:
        assert hits(copy) == before
        assert copy.verify() == []
        assert copy.info()["generation"] == 2
    assert sounds.verify() != []


def test_a_generation_that_is_replaced_meanwhile_is_copied_again(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sounds, ROWS[:50])
    sounds.rebuild()
    real, calls = generation.copy, []

    def copy(*args: Any) -> None:
        real(*args)
        calls.append(args[1])
        if len(calls) == 1:
            sounds.rebuild()

    monkeypatch.setattr(generation, "copy", copy)
    sounds.backup(tmp_path / "copy")
    assert calls == [1, 2]
    with Collection.open(tmp_path / "copy", embedder=FakeEmbedder()) as opened:
        assert [e.name for e in (tmp_path / "copy" / "generations").iterdir()] == ["00000002"]
        assert opened.verify() == []


def test_damage_is_not_backed_up(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:50])
    sounds.close()
    with contextlib.closing(sqlite3.connect(sounds.path / "collection.sqlite")) as db, db:
        db.execute("UPDATE windows SET end_s = 7 WHERE row = 3")
    with (
        Collection.open(sounds.path, read_only=True) as opened,
        pytest.raises(IntegrityError, match="was not copied.*checksum"),
    ):
        opened.backup(tmp_path / "copy")
    assert [e.name for e in tmp_path.iterdir()] == ["c"]


def test_closing_ends_a_backup(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clap_engine.database._PAGES_AT_ONCE", 1)
    fill(sounds, ROWS[:50])
    real = sounds._check_open
    looks: list[None] = []

    def check() -> None:
        looks.append(None)
        if len(looks) == 20:
            sounds.close()
        real()

    monkeypatch.setattr(sounds, "_check_open", check)
    with pytest.raises(ClosedError):
        sounds.backup(tmp_path / "copy")
    assert [e.name for e in tmp_path.iterdir()] == ["c"]
