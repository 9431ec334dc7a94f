"""Migration: a collection's clips embedded anew in another space, then taken over in one step.

In:  the folder of a collection; an embedder of another space; perhaps another folder.
Out: the same keys, metadata and declared filters with new vectors; a report of what can't move.
Knows nothing about models, queries or how rows are searched.

What was embedded lies in a draft, batch by batch durable, so that a killed migration goes on where
it stopped. The old collection serves, and may change, until all is there; one transaction of
SQLite is the switch. Whoever has the collection open in the old space is told by the next search.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from clap_engine import marker, planner, storage
from clap_engine.catalogue import Catalogue
from clap_engine.errors import CollectionError, IntegrityError, LockedError, NotFoundError
from clap_engine.filters import field_of
from clap_engine.folders import LOCK, check_space, create_database
from clap_engine.ingest import Embedder, Ingest, Item
from clap_engine.limits import DEFAULT_LIMITS, Limits
from clap_engine.records import Record
from clap_engine.states import DATABASE, rebuild_alone

log = logging.getLogger("clap_engine")

Progress = Callable[[int, str], None]

# The draft of a migration that replaces the collection, inside its folder.
DRAFT = "migration"
# Clips read at a time.
_AT_ONCE = 256
# A search may still ask for the records of old clips after the switch: new ones get other numbers,
# with room for what is added to the old collection meanwhile.
_NUMBERS_APART = 1 << 32
_LOCK_TIMEOUT_S = 5.0
_NO_PATH = "it was added from memory, so there is no path to read it from"


@dataclass(frozen=True)
class MigrateReport:
    """What became of the clips; `missing` holds (key, why it can't be embedded anew).

    `changed` are the keys whose file is no longer what was indexed: they have the vectors of what
    the file is now. With `is_switched` False the collection is as it was.
    """

    path: str
    clips: int  # in the new space, so far
    embedded: int  # by this run
    changed: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    is_switched: bool


def migrate(
    path: str | os.PathLike[str],
    embedder: Embedder,
    *,
    into: str | os.PathLike[str] | None = None,
    drop_missing: bool = False,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> MigrateReport:
    """Embed every clip of the collection at `path` anew, from its stored path, with `embedder`.

    The collection changes over once all clips are there, or a new one is made at `into`. Where
    some can't be read (files that are gone, sounds that were added from memory), nothing changes
    over, and the report names them; with `drop_missing` they are left out. A call after a kill or
    an interruption goes on where that one stopped. `progress(done, key)` is called for each clip.

    The tuned plan is dropped: it was measured in the old space. LockedError where another process
    writes when it comes to the switch; what was embedded is kept.
    """
    folder, place = Path(path), None if into is None else Path(into).absolute()
    if place is None and marker.is_marked(folder):
        raise marker.refusal(folder)
    with closing(Catalogue(folder / DATABASE, read_only=True)) as old:
        is_there = (old.identity.space_id, old.identity.dim) == (embedder.space_id, embedder.dim)
        if is_there and place is None:
            return _already(folder, old)
        if is_there:
            raise CollectionError(
                f"{folder} is in the space of {embedder.bundle_id} already; make a backup instead"
            )
        if place is not None and place.exists():
            raise CollectionError(f"{place} is there already; give a new folder")
        draft = folder / DRAFT if place is None else place.with_name(f".{place.name}.migration")
        with ExitStack() as stack:
            lock = _taken(draft, stack)
            move = _Move(folder, old, _staged(draft, old, embedder, stack), embedder, limits)
            report = move.run(place, draft, drop_missing, progress, stack)
            lock.release()
        if report.is_switched and place is None:
            storage.remove_tree(draft)
            _rebuild(folder, embedder)
        return report


class _Move:
    """One run of a migration: from the old catalogue into the staged one."""

    def __init__(
        self, folder: Path, old: Catalogue, staged: Catalogue, embedder: Embedder, limits: Limits
    ) -> None:
        self._folder, self._old, self._staged = folder, old, staged
        self._embedder, self._limits = embedder, limits
        self._embedded = 0

    def run(
        self,
        place: Path | None,
        draft: Path,
        drop_missing: bool,
        progress: Progress | None,
        stack: ExitStack,
    ) -> MigrateReport:
        """Catch up with the old collection, twice if it changed, then switch if nothing misses."""
        change = self._old.state().change
        found = self._catch_up(progress)
        is_same = self._old.state().change == change
        if is_same and found.missing and not drop_missing:
            return self._report(place, found, is_switched=False)
        lock = storage.FileLock(self._folder / LOCK)
        lock.acquire(_LOCK_TIMEOUT_S)
        stack.callback(lock.release)
        if self._old.state().change != change:
            found = self._catch_up(None)
        if found.missing and not drop_missing:
            return self._report(place, found, is_switched=False)
        for key, _ in found.missing:
            self._staged.remove(key)
        if problems := self._staged.problems():
            raise IntegrityError(f"{draft} is damaged ({problems[0]}); remove it and migrate again")
        report = self._report(place, found, is_switched=True)
        if place is None:
            with closing(Catalogue(self._folder / DATABASE, read_only=False)) as writer:
                writer.take_over(draft / f"{DATABASE}.draft", self._staged)
        else:
            self._staged.index_filters([field_of(name) for name in self._old.filter_fields()])
            self._staged.settle()
            storage.rename(draft / f"{DATABASE}.draft", draft / DATABASE)
            _rebuild(draft, self._embedder)
            storage.rename(draft, place)
        return report

    def _catch_up(self, progress: Progress | None) -> _Found:
        """Embed what the draft lacks, take out what the old collection lost."""
        found = _Found()
        run = Ingest(
            self._staged, self._embedder, limits=self._limits, guard=threading.RLock(), root=None,
            progress=progress,
        )  # fmt: skip
        done = run.run(self._items())
        self._embedded += done.added + done.updated
        failed = {key: str(error) for key, error in done.failed}
        for some in _pages(self._staged):
            known = self._old.find_all([record.key for record in some])
            for record in some:
                if record.key not in known:
                    self._staged.remove(record.key)
        for some in _pages(self._old):
            staged = self._staged.find_all([record.key for record in some])
            for record in some:
                new = staged.get(record.key)
                if new is not None and new.digest == record.digest:
                    self._amend(new, record)
                    continue  # the very sound, though its file may be gone by now
                if record.path is None:
                    found.missing.append((record.key, _NO_PATH))
                elif new is None or record.key in failed:
                    found.missing.append(
                        (record.key, failed.get(record.key, "it was added meanwhile"))
                    )
                else:
                    found.changed.append(record.key)
        return found

    def _amend(self, new: Record, record: Record) -> None:
        """Give it the facts of the old one, where there was no file to take them up from."""
        facts = replace(new, path=record.path, metadata=record.metadata)
        if facts != new:
            self._staged.put([], [facts])

    def _items(self) -> Iterator[Item]:
        for some in _pages(self._old):
            for record in some:
                if record.path is not None:
                    yield Item(record.path, record.key, json.loads(record.metadata))

    def _report(self, place: Path | None, found: _Found, *, is_switched: bool) -> MigrateReport:
        return MigrateReport(
            os.fspath(self._folder if place is None else place),
            self._staged.state().clips,
            self._embedded,
            tuple(sorted(found.changed)),
            tuple(sorted(found.missing)),
            is_switched,
        )


@dataclass
class _Found:
    changed: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def _pages(catalogue: Catalogue) -> Iterator[list[Record]]:
    """All clips by their numbers; no snapshot is held between two pages."""
    last = 0
    while some := catalogue.records_after(last, _AT_ONCE):
        yield some
        last = some[-1].id


def _taken(draft: Path, stack: ExitStack) -> storage.FileLock:
    storage.make_dir(draft, parents=True)
    lock = storage.FileLock(draft / LOCK)
    try:
        lock.acquire(timeout_s=0)
    except LockedError as error:
        raise LockedError(f"another migration into {draft} is under way; wait for it") from error
    stack.callback(lock.release)
    return lock


def _staged(draft: Path, old: Catalogue, embedder: Embedder, stack: ExitStack) -> Catalogue:
    """The draft's catalogue: as a migration to the same space left it, or a new one."""
    database = draft / f"{DATABASE}.draft"
    if (draft / DATABASE).exists():  # cut off just before the draft got its name
        Catalogue(draft / DATABASE, read_only=False).settle()
        storage.rename(draft / DATABASE, database)
    if database.exists():
        found = None
        try:
            found = Catalogue(database, read_only=False)
            check_space(found.identity, embedder, draft)
            if found.granularity == old.granularity:
                stack.callback(found.close)
                return found
        except (IntegrityError, CollectionError, NotFoundError) as error:
            log.info("%s is begun anew: %s", draft, error)
        if found is not None:
            found.close()  # before its files go: it would take the log of the next one with it
        for entry in draft.glob(f"{DATABASE}*"):
            entry.unlink(missing_ok=True)
    create_database(
        database, embedder, old.granularity, numbers_after=old.state().last_row + _NUMBERS_APART
    )
    made = Catalogue(database, read_only=False)
    stack.callback(made.close)
    return made


def _already(folder: Path, old: Catalogue) -> MigrateReport:
    """Nothing is left to do but to clear a draft away."""
    storage.remove_tree(folder / DRAFT)
    return MigrateReport(os.fspath(folder), old.state().clips, 0, (), (), is_switched=True)


def _rebuild(folder: Path, embedder: Embedder) -> None:
    """Derived files of the new vectors; without them all is found as well, only slower."""
    known = getattr(embedder, "calibration", None) or {}
    try:
        rebuild_alone(folder, per_sqrt_row=planner.measured(known))
    except (storage.StorageError, IntegrityError) as error:
        log.warning("the derived files of %s are built by its next writer: %s", folder, error)
