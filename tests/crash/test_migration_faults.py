"""A migration that fails or is killed anywhere: one of the two collections serves, none is half."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_embedder import FakeEmbedder, child_environment, hashed

from clap_engine import storage
from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Collection
from clap_engine.database import Database
from clap_engine.errors import (
    ClapError,
    IntegrityError,
    LockedError,
    RebuildWarning,
    SpaceMismatchError,
)
from clap_engine.migration import MigrateReport, migrate

CLIPS = 8


class Other(FakeEmbedder):
    """Another space."""

    bundle_id = "other"

    def __init__(self) -> None:
        super().__init__("6" * 64)

    def embed_text(self, texts: list[str]) -> Float32:
        return self._moved(super().embed_text(texts))

    def embed_windows(self, source: Any) -> tuple[Float32, Any, float]:
        vectors, spans, duration_s = super().embed_windows(source)
        return self._moved(vectors), spans, duration_s

    def _moved(self, vectors: Float32) -> Float32:
        return l2_normalize(vectors[:, ::-1].copy())


def make(root: Path, clips: int) -> Path:
    """A collection of `clips` files, with a generation, a tail and declared filters."""
    (root / "in").mkdir(parents=True)
    for i in range(clips):
        (root / "in" / f"{i:04d}.wav").write_bytes(f"sound {i}".encode())
    with Collection.open(root / "c", embedder=FakeEmbedder(), create=True) as sounds:
        files = sorted((root / "in").iterdir())
        numbers = [{"n": i} for i in range(clips)]
        sounds.add(files[:-2], root=root / "in", metadata=numbers[:-2])
        sounds.declare_filters(["n"])
        sounds.rebuild()
        sounds.add(files[-2:], root=root / "in", metadata=numbers[-2:])
    return root / "c"


def served(folder: Path, clips: int) -> type[FakeEmbedder]:
    """In whose space the collection answers; AssertionError unless it is whole in that one."""
    for kind in (FakeEmbedder, Other):
        try:
            sounds = Collection.open(folder, embedder=kind())
        except SpaceMismatchError:
            continue
        with sounds:
            assert sounds.verify() == []
            assert sounds.keys() == [f"{i:04d}.wav" for i in range(clips)]
            for i in (0, clips - 1):
                vectors = hashed(f"sound {i}".encode(), 4)
                query = vectors if kind is FakeEmbedder else Other()._moved(vectors)
                hits = sounds.search(query[0], k=clips, shortlist="all").hits
                assert hits[0].key == f"{i:04d}.wav"
                assert hits[0].metadata == {"n": i}
                assert len(hits) == clips
            assert len(sounds.search("x", k=clips, where={"n": {"<": 3}}).hits) == 3
            assert sounds.info()["filters"] == ["n"]
        return kind
    raise AssertionError("it is in neither space")


# The n-th operation fails


class Fault:
    """Fails the n-th operation that it counts."""

    def __init__(self, n: int, error: BaseException) -> None:
        self.n, self.error, self.count = n, error, 0

    def wrap(self, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.n:
                raise self.error
            return call(*args, **kwargs)

        return wrapped


def struck_at(folder: Path, fault: Fault, target: str, into: Path | None) -> bool:
    """Migrate with the fault, look at what is there, migrate again; whether the fault struck."""
    with pytest.MonkeyPatch.context() as patches:
        if target == "sqlite":
            patches.setattr(Database, "_run", fault.wrap(Database._run))
        else:
            for name, call in (
                ("_write", os.write), ("_fsync", os.fsync), ("_replace", os.replace),
                ("_mkdir", os.mkdir),
            ):  # fmt: skip
                patches.setattr(storage, name, fault.wrap(call))
        report: MigrateReport | None = None
        is_typed = True
        try:
            report = migrate(folder, Other(), into=into)
        except ClapError as error:
            is_typed = isinstance(error, OSError)
    assert is_typed
    is_done = report is not None and report.is_switched
    assert report is None or is_done
    if into is None:
        assert served(folder, CLIPS) is (Other if is_done else FakeEmbedder)
        assert migrate(folder, Other()).is_switched
        assert not (folder / "migration").exists()
        assert served(folder, CLIPS) is Other
    else:
        assert served(folder, CLIPS) is FakeEmbedder
        if not is_done and not into.exists():
            assert migrate(folder, Other(), into=into).is_switched
        assert served(into, CLIPS) is Other
    return fault.count >= fault.n


def every_nth(made: Path, work: Path, target: str, error: BaseException, into: bool) -> int:
    n, is_struck = 0, True
    while is_struck:
        n += 1
        shutil.copytree(made, work)
        place = work / "new" if into else None
        is_struck = struck_at(work / "c", Fault(n, error), target, place)
        shutil.rmtree(work)
    return n


ERRORS = {
    "files": OSError(errno.ENOSPC, "No space left on device"),
    "sqlite": sqlite3.OperationalError("disk I/O error"),
}


@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("target", ["files", "sqlite"])
def test_every_nth_operation_may_fail(quick_path: Path, target: str, into: bool) -> None:
    make(quick_path / "made", CLIPS)
    n = every_nth(quick_path / "made", quick_path / "work", target, ERRORS[target], into)
    assert n > (10 if target == "files" else 60), "were they counted?"


def test_that_test_can_fail(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control: a switch that is no transaction is noticed."""

    @contextlib.contextmanager
    def torn(self: Database) -> Iterator[None]:
        yield

    make(quick_path / "made", CLIPS)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(
            "clap_engine.catalogue.Catalogue.take_over", Fault(1, LockedError("not yet")).wrap(None)
        )
        with pytest.raises(LockedError):
            migrate(quick_path / "made" / "c", Other())  # all is embedded: the switch remains
    monkeypatch.setattr(Database, "transaction", torn)
    caught = 0
    for n in range(4, 120, 6):
        shutil.copytree(quick_path / "made", quick_path / "work")
        try:
            struck_at(quick_path / "work" / "c", Fault(n, ERRORS["sqlite"]), "sqlite", None)
        except (AssertionError, ClapError, RebuildWarning):
            caught += 1
        shutil.rmtree(quick_path / "work")
    assert caught


# Killed at a random moment

CHILD = """
import os, sys, time
from clap_engine import ingest
from clap_engine.migration import migrate
from crash.test_migration_faults import Other

ingest.BATCH_CLIPS = 4
mode = sys.argv[2]
other = Other()
real = other.embed_windows

def embed(source):
    os.write(1, b"e")
    time.sleep(0.004)
    return real(source)

other.embed_windows = embed
if mode == "forgetful":  # the control: what a killed run embedded is thrown away
    import shutil
    shutil.rmtree(os.path.join(sys.argv[1], "migration"), ignore_errors=True)
os.write(1, b"o")
assert migrate(sys.argv[1], other).is_switched
os.write(1, b"!")
"""


def kills(folder: Path, clips: int, seed: int, mode: str = "careful") -> tuple[int, int]:
    """Kill migrations until one ends; (how many were killed, clips embedded in all of them)."""
    rng = random.Random(seed)
    embedded, killed = 0, 0
    while True:
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), mode],
            stdout=subprocess.PIPE,
            env=child_environment(),
        ) as child:
            assert child.stdout is not None
            assert child.stdout.read(1) == b"o"
            # After so many clips, however slow the machine, and then at any moment.
            told = child.stdout.read(rng.randint(6, 24)) if killed < 8 else b""
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0, 0.02) if killed < 8 else 60)
            child.kill()
            told += child.stdout.read()
        embedded += told.count(b"e")
        if served(folder, clips) is Other:
            return killed, embedded
        assert b"!" not in told, "it was acknowledged and isn't so"
        killed += 1


def test_what_was_embedded_survives_kill_9(tmp_path: Path) -> None:
    clips = 60
    killed, embedded = kills(make(tmp_path, clips), clips, seed=1)
    assert killed >= 2, "it was never killed in the midst"
    # At most the batch that was not committed yet is embedded again.
    assert clips <= embedded <= clips + 4 * killed
    assert migrate(tmp_path / "c", Other()).is_switched
    assert not (tmp_path / "c" / "migration").exists()


@pytest.mark.slow
def test_what_was_embedded_survives_kill_9_in_full(tmp_path: Path) -> None:
    for seed in range(200):
        clips = 40
        killed, embedded = kills(make(tmp_path / str(seed), clips), clips, seed)
        assert clips <= embedded <= clips + 4 * killed
        shutil.rmtree(tmp_path / str(seed))


def test_the_kill_test_can_fail(tmp_path: Path) -> None:
    """Its control: a migration that begins anew each time is noticed."""
    clips = 60
    make(tmp_path, clips)
    killed, embedded = kills(tmp_path / "c", clips, seed=1, mode="forgetful")
    assert embedded > clips + 4 * killed


def test_a_torn_draft_is_no_collection(tmp_path: Path) -> None:
    folder = make(tmp_path, CLIPS)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(
            "clap_engine.catalogue.Catalogue.take_over", Fault(1, LockedError("not yet")).wrap(None)
        )
        with pytest.raises(LockedError):
            migrate(folder, Other())
    (draft,) = (folder / "migration").glob("*.draft")
    with pytest.raises((IntegrityError, FileNotFoundError)):
        Collection.open(draft.parent, embedder=Other())
