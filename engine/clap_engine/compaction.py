"""Compaction: what was removed leaves the disk.

In:  an open collection's folder, states and writer.
Out: a generation without removed rows, a database without free pages, the bytes before and after.
Knows nothing about clips or queries.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from clap_engine import storage
from clap_engine.deadline import Deadline
from clap_engine.index import generation
from clap_engine.states import GENERATIONS, States
from clap_engine.writer import Writer

log = logging.getLogger("clap_engine")


@dataclass(frozen=True)
class CompactReport:
    """Bytes of all files of the collection, and how many removed windows the derived ones held."""

    before_bytes: int
    after_bytes: int
    dropped_windows: int


def compact(
    folder: Path, states: States, writer: Writer, deadline: Deadline | None = None
) -> CompactReport:
    """Rebuild the derived files if they hold what is gone, then let the database shrink.

    A kill at any moment leaves the old files or the new ones. Searches go on; commits wait while
    the database is written anew. On DeadlineError each of the two was done whole or not at all.
    """
    deadline = deadline or Deadline()
    catalogue = writer.open(deadline)
    before = storage.tree_bytes(folder)
    view = states.refresh()
    # What a killed rebuild left behind is cleared away by the next one.
    leftover = set(generation.numbers(folder / GENERATIONS)) - {view.number}
    if view.stale or leftover:
        writer.rebuild(deadline)
    with writer.held(deadline), catalogue.ending(deadline.check):
        is_small = catalogue.shrink()
    if not is_small:
        log.warning("%s takes its space until its readers have moved on", folder)
    return CompactReport(before, storage.tree_bytes(folder), view.dead)
