"""Snapshots: a copy of one state that never changes, for readers anywhere.

In:  the folder of a collection, in use or not; a folder for the copy; a link to switch to it.
Out: a compacted, checked copy with derived files for all of it, which opens without being written.
Knows nothing about queries, sounds or embedders.

A snapshot stands alone: its database has no log, its files no write permission, and its marker
says so. Readers need no right to write anywhere, and many machines may read one copy.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from clap_engine import backups, marker, storage, tune
from clap_engine.catalogue import Catalogue
from clap_engine.errors import CollectionError
from clap_engine.folders import LOCK
from clap_engine.states import DATABASE, GENERATIONS, States, rebuild_alone


@dataclass(frozen=True)
class SnapshotReport:
    """Where the snapshot is, what it holds, and the link that leads to it now."""

    path: str
    clips: int
    windows: int
    size_bytes: int
    link: str | None


def take(
    folder: Path,
    target: str | os.PathLike[str],
    *,
    link: str | os.PathLike[str] | None = None,
    per_sqrt_row: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> SnapshotReport:
    """Copy what is committed in `folder` now to `target`, new or empty; whole or not at all.

    Then `link`, a symbolic link or nothing yet, is switched to it in one step. `check` may end it
    by what it raises. IntegrityError where the collection is damaged.
    """
    place = Path(target).absolute()
    if link is not None:
        _check_link(Path(link))
    with backups.drafted(place) as draft:
        state, why = backups.fill(folder, draft, check)
        if why:
            storage.remove_tree(draft / GENERATIONS)
        if state.windows and (why or _is_due(draft, per_sqrt_row)):
            rebuild_alone(draft, per_sqrt_row=per_sqrt_row, check=check)
        _finish(draft, check)
    # Readers need no lock; while the draft had its name, another copy would have taken it over.
    (place / LOCK).unlink(missing_ok=True)
    if link is not None:
        switch(Path(link), place)
    return SnapshotReport(
        os.fspath(target), state.clips, state.windows, storage.tree_bytes(place),
        None if link is None else os.fspath(link),
    )  # fmt: skip


def switch(link: Path, place: Path) -> None:
    """Let the symbolic link lead to `place`, in one step: it leads somewhere at every moment."""
    _check_link(link)
    storage.make_dir(link.absolute().parent, parents=True)
    draft = link.with_name(f".{link.name}.{os.getpid()}.draft")
    # Relative, so that it leads to the same snapshot wherever the folder is mounted.
    leads = os.path.relpath(place.resolve(), link.absolute().parent.resolve())
    with storage.translated("link", link):
        draft.unlink(missing_ok=True)
        draft.symlink_to(leads)
    try:
        storage.rename(draft, link)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _check_link(link: Path) -> None:
    if link.exists() and not link.is_symlink():
        raise CollectionError(
            f"{link} is there and is no symbolic link; name a link, or a place where nothing is"
        )


def _is_due(draft: Path, per_sqrt_row: float | None) -> bool:
    """Whether the derived files that came along lack rows, hold removed ones, or lack a graph."""
    with closing(States(draft, read_only=False, per_sqrt_row=per_sqrt_row)) as states:
        view = states.refresh()
        is_short = states.tuning is not None and tune.is_short_of(view, states.tuning)
        return bool(view.stale or not view.number or is_short or states.lacks_graph(view))


def _finish(draft: Path, check: Callable[[], None]) -> None:
    """Give the draft what makes it a snapshot: a database that stands alone, the marker, modes."""
    database = draft / DATABASE
    catalogue = Catalogue(database, read_only=False)
    try:
        identity, state = catalogue.identity, catalogue.state()
        with catalogue.ending(check):
            catalogue.freeze()
    finally:
        catalogue.close()
    storage.fsync_path(database)
    digest = storage.file_digest(database)
    marker.write(
        draft,
        marker.Marker(
            identity.id, identity.space_id, state.change, state.clips, state.windows,
            time.time(), digest.size, digest.sha256,
        ),
    )  # fmt: skip
    for file in draft.rglob("*"):
        if file.is_file() and file.name != LOCK:
            # What the caller's umask lets others read they may read, and nobody may write; a
            # courtesy, where the file system knows modes: it is the marker that counts.
            with suppress(OSError):
                file.chmod(stat.S_IMODE(file.stat().st_mode) & 0o444)
