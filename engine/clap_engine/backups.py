"""Backups: a whole copy of one state of a collection, made while its writer goes on.

In:  the folder of a collection, in use or not; a folder for the copy, new or empty.
Out: a collection that opens like any other, checked from end to end, or nothing.
Knows nothing about queries, sounds or embedders.

The copy is made under another name, where its database has a name that nobody opens. It gets its
own names once every byte of it is right and on the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from clap_engine import storage
from clap_engine.catalogue import Catalogue
from clap_engine.errors import (
    ClapError,
    ClosedError,
    CollectionError,
    DeadlineError,
    IntegrityError,
    LockedError,
)
from clap_engine.folders import LOCK
from clap_engine.index import generation
from clap_engine.records import State
from clap_engine.states import DATABASE, GENERATIONS, rebuild_alone

log = logging.getLogger("clap_engine")

# How often the generation may be replaced while it is copied, before the copy gets its own.
_TRIES = 3


@dataclass(frozen=True)
class BackupReport:
    """Where the copy is, and what it holds."""

    path: str
    clips: int
    windows: int
    size_bytes: int


def backup(
    folder: Path, target: str | os.PathLike[str], check: Callable[[], None] = lambda: None
) -> BackupReport:
    """Copy the collection at `folder` to `target`; `check` may end it by what it raises.

    CollectionError unless `target` is new or empty; IntegrityError where the collection is
    damaged: what can't be read can't be kept.
    """
    place = Path(target).absolute()
    with drafted(place) as draft:
        state, why = fill(folder, draft, check)
        if why and state.header_size:
            log.warning("the copy of %s gets derived files of its own: %s", folder, why)
            storage.remove_tree(draft / GENERATIONS)
            rebuild_alone(draft, check=check)
    return BackupReport(os.fspath(target), state.clips, state.windows, storage.tree_bytes(place))


@contextlib.contextmanager
def drafted(place: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name once the body has ended, or leaves nothing behind.

    CollectionError unless `place` is new or empty; LockedError while another copy is made there.
    """
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise CollectionError(f"{place} is there already; give a new or empty folder")
    storage.make_dir(place.parent, parents=True)
    draft = place.with_name(f".{place.name}.draft")
    storage.make_dir(draft, parents=True)
    lock = storage.FileLock(draft / LOCK)  # it goes along: a collection has such a file
    try:
        lock.acquire(timeout_s=0)
    except LockedError as error:
        raise LockedError(
            f"another backup or snapshot to {place} is under way; wait for it"
        ) from error
    try:
        yield draft
        storage.rename(draft, place)
    except BaseException:
        # Without its draft it got its name, but nobody knows for how long.
        storage.remove_tree(draft if draft.exists() else place)
        raise
    finally:
        lock.release()


def fill(folder: Path, draft: Path, check: Callable[[], None]) -> tuple[State, str]:
    """Make the draft a collection; the state that it holds, why its derived files can't be used."""
    unnamed = draft / f"{DATABASE}.draft"
    with closing(Catalogue(folder / DATABASE, read_only=True)) as own:
        for tries_left in reversed(range(_TRIES)):
            _clear(draft)
            before = own.state()
            why = _copy_files(before, folder, draft, check)
            with own.snapshot():
                state = own.state()
                if state.generation != before.generation:
                    why = "others took their place while they were copied"
                    if tries_left:
                        continue
                check()
                own.copy_to(unnamed, check)
            break
    check()
    with closing(Catalogue(unnamed, read_only=False)) as copied, copied.ending(check):
        copied.thaw()  # it may be a snapshot's
        problems = copied.problems()
        if not problems and copied.state() != state:
            problems = ["the copy holds another state than was read"]
    if problems:
        raise IntegrityError(f"{folder} was not copied: {problems[0]}; verify it")
    storage.rename(unnamed, draft / DATABASE)
    return state, why


def _clear(draft: Path) -> None:
    """Remove what an earlier try left."""
    for entry in draft.iterdir():
        if entry.is_dir():
            storage.remove_tree(entry)
        elif entry.name != LOCK:
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()


def _copy_files(state: State, folder: Path, draft: Path, check: Callable[[], None]) -> str:
    """Copy the generation that `state` points at, or say why it can't be had."""
    if not state.header_size:
        return ""
    digest = storage.FileDigest(state.header_size, state.header_sha256)
    try:
        generation.copy(folder / GENERATIONS, state.generation, digest, draft / GENERATIONS, check)
    except (storage.StorageError, DeadlineError, ClosedError):
        raise  # the disk is full or failing: the rest would not fit either; or it is to end
    except ClapError as error:
        return str(error)
    return ""
