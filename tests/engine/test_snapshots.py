"""Snapshots: whole, compacted, never written to, readable where nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, child_environment, fill, power_law, sound_of

from clap_engine import marker, planner, storage
from clap_engine.collection import Collection
from clap_engine.errors import ClosedError, CollectionError, IntegrityError, LockedError
from clap_engine.index import coarse
from clap_engine.migration import migrate

ROWS = power_law(600, seed=4)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sounds(tmp_path: Path) -> Iterator[Collection]:
    with Collection.open(tmp_path / "c", embedder=FakeEmbedder(), create=True) as opened:
        yield opened


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="clap-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def opened(place: Path, **options: Any) -> Collection:
    return Collection.open(place, embedder=FakeEmbedder(), **options)


def hits(sounds: Collection, row: Any = ROWS[0], **options: Any) -> list[Any]:
    found = sounds.search(row, k=700, shortlist="all", **options).hits
    return [(hit.key, hit.score, hit.start_s, hit.metadata) for hit in found]


def names(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with its size and the time of its last change."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns) for f in files}


# What it holds


def test_a_snapshot_is_the_state_compacted(sounds: Collection, tmp_path: Path) -> None:
    sounds.declare_filters(["n"])
    clips = [sound_of(ROWS[i : i + 1 + i % 3]) for i in range(300)]
    facts = [{"n": i} for i in range(300)]
    sounds.add(clips, keys=[f"k{i}" for i in range(300)], metadata=facts)
    sounds.rebuild()
    sounds.add([sound_of(ROWS[500])], keys=["tail"])
    for i in range(200):
        sounds.remove(f"k{i}")
    before, filtered = hits(sounds), hits(sounds, where={"n": {"<": 250}})
    report = sounds.snapshot(tmp_path / "deep" / "snap")
    assert (report.clips, report.link) == (101, None)
    assert report.size_bytes == storage.tree_bytes(tmp_path / "deep" / "snap")
    assert report.size_bytes < 0.6 * storage.tree_bytes(sounds.path)
    assert [e.name for e in (tmp_path / "deep").iterdir()] == ["snap"]
    sounds.remove("k250")  # neither follows the other
    with opened(tmp_path / "deep" / "snap") as copy:
        assert copy.is_snapshot
        assert not sounds.is_snapshot
        assert hits(copy) == before
        assert hits(copy, where={"n": {"<": 250}}) == filtered
        assert copy.verify() == []
        info = copy.info()
        assert (info["tail_rows"], info["removed_rows"], info["filters"]) == (0, 0, ["n"])
        assert info["snapshot"] is True


def test_derived_files_that_hold_all_come_along(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS)
    number = sounds.rebuild()
    sounds.snapshot(tmp_path / "snap")
    assert [e.name for e in (tmp_path / "snap" / "generations").iterdir()] == [f"{number:08d}"]
    assert sorted(e.name for e in (tmp_path / "snap").iterdir()) == [
        "collection.sqlite", "generations", "snapshot.json",
    ]  # fmt: skip


@pytest.mark.skipif(not coarse.is_available(), reason="hnswlib is not installed")
def test_a_snapshot_gets_the_graph_that_is_due(
    sounds: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sounds, ROWS)
    sounds.rebuild()
    assert sounds.info()["index"] == "flat"
    fill(sounds, ROWS[:5], prefix="tail")
    monkeypatch.setattr(planner, "is_coarse_due", lambda *_: True)
    sounds.snapshot(tmp_path / "snap")
    with opened(tmp_path / "snap") as copy:
        assert copy.info()["index"] == "hnsw"
        assert hits(copy) == hits(sounds)


def test_a_snapshot_of_an_empty_collection(sounds: Collection, tmp_path: Path) -> None:
    assert sounds.snapshot(tmp_path / "snap").clips == 0
    with opened(tmp_path / "snap") as copy:
        assert (copy.keys(), hits(copy), copy.verify()) == ([], [], [])


def test_damaged_derived_files_are_made_anew(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:50])
    number = sounds.rebuild()
    file = sounds.path / "generations" / f"{number:08d}" / "prefixes.f32"
    file.write_bytes(bytes(file.stat().st_size))
    sounds.snapshot(tmp_path / "snap")
    with opened(tmp_path / "snap") as copy:
        assert (copy.verify(), copy.info()["tail_rows"]) == ([], 0)
        assert len(hits(copy)) == 50


def test_snapshots_and_backups_of_snapshots(sounds: Collection, tmp_path: Path) -> None:
    """A backup of a snapshot can be written to again; a snapshot of one is the same again."""
    fill(sounds, ROWS[:50])
    sounds.snapshot(tmp_path / "snap")
    with opened(tmp_path / "snap") as copy:
        copy.snapshot(tmp_path / "again")
        copy.backup(tmp_path / "live")
    with opened(tmp_path / "again") as again, opened(tmp_path / "live") as live:
        assert (again.is_snapshot, live.is_snapshot) == (True, False)
        assert hits(again) == hits(live) == hits(sounds)
        with opened(tmp_path / "live", read_only=True) as reader:
            live.add([b"more"], keys=["more"])
            assert "more" in reader


def test_a_cut_off_snapshot_leaves_nothing(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:50])
    sounds.snapshot(tmp_path / "snap")
    with pytest.raises(CollectionError, match="there already"):
        sounds.snapshot(tmp_path / "snap")
    lock = storage.FileLock(tmp_path / ".other.draft" / "writer.lock")
    (tmp_path / ".other.draft").mkdir()
    lock.acquire()
    with pytest.raises(LockedError, match="under way"):
        sounds.snapshot(tmp_path / "other")
    lock.release()
    sounds.snapshot(tmp_path / "other")  # what a killed one left is cleared away
    sounds.close()
    with pytest.raises(ClosedError):
        sounds.snapshot(tmp_path / "late")
    assert not (tmp_path / "late").exists()


# Nobody writes to it


def test_a_snapshot_takes_no_change(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:50])
    sounds.snapshot(tmp_path / "snap")
    before = names(tmp_path / "snap")
    modes = {f.stat().st_mode & 0o222 for f in (tmp_path / "snap").rglob("*") if f.is_file()}
    assert modes == {0}
    for options in ({}, {"create": True}, {"read_only": True}):
        with opened(tmp_path / "snap", **options) as copy:
            for work in (
                lambda c: c.add([b"more"], keys=["more"]), lambda c: c.remove("k000001"),
                lambda c: c.rebuild(), lambda c: c.compact(), lambda c: c.declare_filters(["n"]),
                lambda c: c.tune(),
            ):  # fmt: skip
                with pytest.raises(CollectionError, match="never changes"):
                    work(copy)
    with pytest.raises(CollectionError, match="never changes"):
        migrate(tmp_path / "snap", FakeEmbedder("6" * 64))
    assert names(tmp_path / "snap") == before


def test_reading_leaves_no_file_even_where_it_could(sounds: Collection, tmp_path: Path) -> None:
    """As a user who may write; the control: a live collection's reader leaves its files there."""
    fill(sounds, ROWS[:50])
    sounds.snapshot(tmp_path / "snap")
    sounds.backup(tmp_path / "live")
    for name, is_clean in (("snap", True), ("live", False)):
        before = names(tmp_path / name)
        with opened(tmp_path / name, read_only=True) as copy:
            assert len(hits(copy)) == len(hits(copy, where={"key": {"!=": "x"}})) == 50
            assert (copy.verify(), len(copy), len(copy.keys())) == ([], 50, 50)
            assert (names(tmp_path / name) == before) == is_clean


# argv: folder, a snapshot to import all modules by while we still may. A line of what was found.
READER = """
import os, sys
import numpy as np
from clap_engine.collection import Collection
from clap_engine.errors import ClapError
from fake_embedder import FakeEmbedder, power_law

def look(folder):
    with Collection.open(folder, embedder=FakeEmbedder(), read_only=True) as sounds:
        hits = sounds.search(power_law(600, seed=4)[3], k=3, where={"key": {"!=": "k000000"}}).hits
        assert sounds.verify() == [] and len(sounds.keys()) == len(sounds) == 50
        return hits[0].key + " " + sounds.search("words", k=50, shortlist="all").plan.index

look(sys.argv[2])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open(os.path.join(sys.argv[1], "probe"), "w")
except OSError:
    pass
else:
    sys.exit("this place can be written to")
try:
    print(look(sys.argv[1]))
except ClapError as error:
    print(type(error).__name__, error)
"""


def read_by_nobody(place: Path, own: Path, *before: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", READER, str(place), str(own)],
        capture_output=True, text=True, check=False, timeout=60, env=child_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _may_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def places(open_path: Path) -> tuple[Path, Path]:
    """A snapshot and a live collection that others can read."""
    with Collection.open(open_path / "live", embedder=FakeEmbedder(), create=True) as sounds:
        fill(sounds, ROWS[:50])
        sounds.snapshot(open_path / "snap")
    for place in (open_path / "live", open_path / "snap"):
        place.chmod(0o555)
    return open_path / "snap", open_path / "live"


def test_another_user_without_any_right_to_write(places: tuple[Path, Path]) -> None:
    """The control: a live collection can't be opened so, and says what to do."""
    snap, live = places
    before = names(snap)
    try:
        assert read_by_nobody(snap, snap) == "k000003 exact\n"
        told = read_by_nobody(live, snap)
        assert told.startswith("StorageError")
        assert "live collection" in told
        assert "snapshot" in told
        assert names(snap) == before
    finally:
        for place in places:
            place.chmod(0o755)


@pytest.mark.skipif(not _may_mount(), reason="this user can't mount")
def test_a_read_only_mount_under_another_user(places: tuple[Path, Path], open_path: Path) -> None:
    for place in places:
        place.chmod(0o755)
    (open_path / "mounted").mkdir()
    snap, live = places
    for source, told in ((snap, "k000003 exact\n"), (live, "StorageError")):
        mount = (
            f"mount --bind {source} {open_path}/mounted && "
            f'mount -o remount,ro,bind {open_path}/mounted && exec "$@"'
        )
        by = ("unshare", "--mount", "sh", "-c", mount, "sh")
        found = read_by_nobody(open_path / "mounted", snap, *by)
        assert found.startswith(told)


# Damage


def test_a_snapshot_that_was_copied_in_part_is_refused(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:200])
    sounds.snapshot(tmp_path / "snap")
    database = tmp_path / "snap" / "collection.sqlite"
    data = database.read_bytes()
    database.chmod(0o644)
    database.write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="cut off"):
        opened(tmp_path / "snap")
    database.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with opened(tmp_path / "snap") as copy:
        assert any("digest" in problem for problem in copy.verify())
    database.write_bytes(data)
    with opened(tmp_path / "snap") as copy:
        assert copy.verify() == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", "[" * 100_000, '{"clips": "many"}', "\0" * 70_000, "NaN"],
)
def test_a_marker_that_makes_no_sense_is_refused(
    sounds: Collection, tmp_path: Path, text: str
) -> None:
    fill(sounds, ROWS[:5])
    sounds.snapshot(tmp_path / "snap")
    file = tmp_path / "snap" / marker.NAME
    file.chmod(0o644)
    file.write_text(text)
    with pytest.raises(IntegrityError, match="marker|makes no sense"):
        opened(tmp_path / "snap")


def test_a_marker_of_a_later_release_is_refused(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:5])
    sounds.snapshot(tmp_path / "snap")
    file = tmp_path / "snap" / marker.NAME
    facts = json.loads(file.read_text())
    file.chmod(0o644)
    file.write_text(json.dumps({**facts, "format": 2}))
    with pytest.raises(CollectionError, match="format 2"):
        opened(tmp_path / "snap")


# The link


def test_the_link_leads_to_the_newest(sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:5])
    for name in ("one", "two"):
        report = sounds.snapshot(tmp_path / "served" / name, link=tmp_path / "served" / "current")
        assert report.link == str(tmp_path / "served" / "current")
        assert os.readlink(tmp_path / "served" / "current") == name
        sounds.remove("k000000")
    with opened(tmp_path / "served" / "current") as copy:
        assert len(copy) == 4
    moved = tmp_path / "moved"
    (tmp_path / "served").rename(moved)  # as mounted elsewhere
    with opened(moved / "current") as copy:
        assert len(copy) == 4
    with pytest.raises(CollectionError, match="no symbolic link"):
        sounds.snapshot(tmp_path / "three", link=moved)
    assert not (tmp_path / "three").exists()


def test_the_verb(run: Run, sounds: Collection, tmp_path: Path) -> None:
    fill(sounds, ROWS[:5])
    code, out, _ = run("snapshot", sounds.path, tmp_path / "one", "--json")
    found = json.loads(out)
    assert (code, found["clips"], found["path"]) == (0, 5, str(tmp_path / "one"))
    assert json.loads(run("info", tmp_path / "one", "--json")[1])["snapshot"] is True
    code, out, _ = run("snapshot", sounds.path, tmp_path / "two", "--link", tmp_path / "current")
    assert code == 0
    assert "leads to it" in out
    assert run("verify", tmp_path / "current")[0] == 0
    code, _, err = run("snapshot", sounds.path, tmp_path / "two")
    assert (code, "there already" in err) == (2, True)
    code, _, err = run("compact", tmp_path / "current")
    assert (code, "never changes" in err) == (2, True)
    assert stat.S_IMODE((tmp_path / "two").stat().st_mode) & 0o500 == 0o500
