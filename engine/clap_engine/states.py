"""The states that a reader sees: each commit becomes a view, each damage a rebuild.

In:  a collection's folder, its source of truth, its generations.
Out: immutable views, never older than the last commit when they were asked for.
Knows nothing about queries, sounds or locks between processes.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from clap_engine import planner, storage
from clap_engine.catalogue import Catalogue
from clap_engine.errors import ClapError, IntegrityError, RebuildWarning
from clap_engine.index import coarse, columns, generation
from clap_engine.index.generation import PREFIX_DIM, Block, Generation
from clap_engine.index.tail import Tail
from clap_engine.index.view import View
from clap_engine.logwatch import LogWatch, log_of
from clap_engine.records import Label, Rows, State, Tuning

log = logging.getLogger("clap_engine")

DATABASE = "collection.sqlite"
GENERATIONS = "generations"
# How often a generation may be replaced while a reader opens it, before that is called damage.
_TRIES = 5
# A rebuild reads rows in Python, and a search waits for each turn of the interpreter lock. With 64
# rows a turn and a rest after it, p99 of searches meanwhile is 16 ms instead of 33 (60,000 rows,
# two busy cores; idle 8), and reading takes a third longer.
_ROWS_AT_ONCE, _REST_S = 64, 1e-4


class States:
    """Follows the commits of a collection. `guard` is held while its connection is used."""

    def __init__(self, folder: Path, *, read_only: bool, per_sqrt_row: float | None = None) -> None:
        self.guard = threading.RLock()
        self.reader = Catalogue(folder / DATABASE, read_only=read_only)
        self.identity = self.reader.identity
        self.is_damaged = False  # the generation that is pointed at can't be used
        self.tuning: Tuning | None = None  # the plan that was tuned, as of the newest state
        self._tuned_at = -1  # the change as of which that was read
        self._checked_at = -1  # the generation as of which the identity was; a migration makes one
        self._folder = folder
        self._per_sqrt_row = per_sqrt_row
        self._generations = folder / GENERATIONS
        self._by_clip = self.reader.granularity == "both"
        self._owner = generation.Owner(
            self.identity.id, self.identity.space_id, self.identity.dim, self._by_clip
        )
        prefix_dim = _prefix_dim(None, self.identity.dim)
        self._tail = Tail(self.identity.dim, prefix_dim, self._by_clip)
        self._view = View.of(None, self.identity.dim, prefix_dim, self._by_clip)
        self._pointer = 0  # the generation under the view, as the truth numbers it
        self._proven: Generation | None = None
        self._version: int | None = None
        self._watch = LogWatch(log_of(folder / DATABASE))
        self.is_led = False  # whether a thread brings it up to date, and searches don't

    def close(self) -> None:
        """Close the connection; views stay valid."""
        with self.guard:
            self.reader.close()

    @property
    def view(self) -> View:
        """The view that was made last."""
        return self._view

    def refresh(self) -> View:
        """The view of what is committed by now, by others 50 ms ago at the latest."""
        if self.is_led or self._watch.is_quiet():
            return self._view
        return self.follow()

    def follow(self) -> View:
        """The view of what is committed by now, wherever else the states are kept up to date."""
        with self.guard:
            look, version = self._watch.look(), self.reader.data_version()
            if version != self._version:
                with self.held():
                    self._version = version
            self._watch.keep(look)
            return self._view

    def look_ahead(self) -> None:
        """Open a newer generation beside the one that serves, so that no search waits for that."""
        with self.guard:
            if self.reader.data_version() == self._version:
                return
            state, known = self.reader.state(), self._proven
        if not state.header_size or state.generation == self._pointer:
            return
        if known is None or known.number != state.generation:
            header = storage.FileDigest(state.header_size, state.header_sha256)
            found = generation.open(self._generations, state.generation, header, self._owner)
            with self.guard:
                self._proven = found

    def adopt(self, view: View) -> None:
        """Begin with the generation of a view of the same file, which is not opened again."""
        self._proven = Generation(
            view.number, view.change, view.last_row, view.base, view.coarse, view.labels,
            view.lists,
        )  # fmt: skip

    @contextmanager
    def held(self) -> Iterator[View]:
        """The newest view, while nothing that the connection reads can change."""
        with self.guard:
            for _ in range(_TRIES):
                with self.reader.snapshot():
                    state = self.reader.state()
                    if state.generation != self._checked_at:
                        self.reader.check_identity()
                        self._checked_at = state.generation
                    if state.change != self._tuned_at:
                        self.tuning, self._tuned_at = _tuning_of(self.reader), state.change
                    try:
                        if state.generation != self._pointer:
                            self._start(state, self._generation(state))
                        self._advance(state)
                    except _Damage as damage:
                        reason = damage
                    else:
                        yield self._view
                        return
                # A writer may have replaced the generation after this snapshot began.
                if self.reader.state().generation == state.generation:
                    self._give_up(state, reason)
            raise IntegrityError(f"{self._folder} changes too fast to be read; try again")

    def rebuild(
        self,
        writer: Catalogue,
        guard: threading.RLock,
        check: Callable[[], None],
        *,
        with_graph: bool = True,
    ) -> int:
        """Write, prove and publish a new generation from the truth; its number.

        The caller holds the writer's lock; `guard` is taken only to publish, so that commits go
        on meanwhile: they become the tail. `check` is called now and then, and ends it by what it
        raises. A failure leaves the old generation in its place. A graph that is due may
        be left out where it would soon be replaced.
        """
        with (
            closing(Catalogue(self._folder / DATABASE, read_only=True)) as own,
            ExitStack() as held,
        ):
            held.enter_context(own.snapshot())
            stored = held.enter_context(closing(own.rows_after(-1, _ROWS_AT_ONCE)))
            state, tuning = own.state(), _tuning_of(own)
            number = max([state.generation, *generation.numbers(self._generations)]) + 1
            header = storage.FileDigest(0, "")
            count = state.clips if self._by_clip else state.windows
            if state.windows:
                header = generation.write(
                    self._generations,
                    number,
                    self._owner,
                    change=state.change,
                    last_row=state.last_row,
                    batches=_read(stored, held, check),
                    clips=_rested(own.all_labels(_ROWS_AT_ONCE), check),
                    with_coarse=with_graph and self._is_graph_due(count, tuning),
                    prefix_dim=_prefix_dim(tuning, self.identity.dim),
                    coarse_dim=None
                    if tuning is None
                    else min(self.identity.dim, tuning.coarse_dim),
                    with_lists=with_graph and planner.are_lists_due(count, tuning),
                    check=check,
                )
        check()
        if header.size:
            proven = generation.open(self._generations, number, header, self._owner)
            if len(proven.block) != state.windows:
                raise IntegrityError(
                    f"{self._folder} holds {len(proven.block)} windows where {state.windows} were "
                    "committed; run `clap-engine verify` on it"
                )
            with self.guard:
                self._proven = proven
        with guard:
            check()
            writer.publish(number, header.size, header.sha256, state.change)
        generation.keep_only(self._generations, number)
        return number

    def is_graph_due(self, view: View) -> bool:
        """Whether a generation of these rows would have a graph, or lists."""
        is_listed = planner.are_lists_due(view.columns, self.tuning)
        return is_listed or self._is_graph_due(view.columns, self.tuning)

    def lacks_graph(self, view: View) -> bool:
        """Whether the generation has none of those dims, or no lists, that it should have."""
        if planner.are_lists_due(view.columns, self.tuning):
            return view.lists is None
        due = view.prefix_dim if self.tuning is None else self.tuning.coarse_dim
        return view.graph_dim != due and self._is_graph_due(view.columns, self.tuning)

    def _is_graph_due(self, columns: int, tuning: Tuning | None) -> bool:
        is_due = planner.is_coarse_due(columns, self._per_sqrt_row, tuning)
        return is_due and coarse.is_available()

    def problems(self, check: Callable[[], None] = lambda: None) -> list[str]:
        """What is wrong on disk, all of it read again; empty when nothing is.

        By a connection of its own: others go on. `check` ends it by what it raises.
        """
        found: list[str] = []
        try:
            own = Catalogue(self._folder / DATABASE, read_only=True)
        except ClapError as error:
            return [str(error)]
        with closing(own), own.ending(check):
            for _ in range(_TRIES):
                with own.snapshot():
                    number, found = self._problems_of(own)
                check()
                # A generation that was replaced while it was read is gone, not damaged.
                if number is None or own.state().generation == number:
                    break
        return found

    def _problems_of(self, reader: Catalogue) -> tuple[int | None, list[str]]:
        """(the generation that can't be used, if it is that; what is wrong)."""
        try:
            found = reader.problems()
            state = reader.state()
        except ClapError as error:
            return None, [str(error)]
        if found or not state.header_size:
            return None, found
        header = storage.FileDigest(state.header_size, state.header_sha256)
        try:
            opened = generation.open(self._generations, state.generation, header, self._owner)
            found = _differences(opened, reader)
        except ClapError as error:
            found = [f"generation {state.generation}: {error}"]
        return (state.generation if found else None), found

    def _generation(self, state: State) -> Generation | None:
        """The generation that `state` points at; raises _Damage when it can't be used."""
        if not state.header_size:
            return None
        if self._proven is not None and self._proven.number == state.generation:
            return self._proven
        header = storage.FileDigest(state.header_size, state.header_sha256)
        try:
            return generation.open(self._generations, state.generation, header, self._owner)
        except ClapError as error:
            raise _Damage(error) from error

    def _start(self, state: State, found: Generation | None) -> None:
        dim, before = self.identity.dim, self._view.tail
        self._view = View.of(found, dim, _prefix_dim(self.tuning, dim), self._by_clip)
        self._tail = Tail(dim, self._view.prefix_dim, self._by_clip, self._view.lists)
        if found is not None:
            self._carry(before)
        self._pointer = state.generation
        self._proven = None
        self.is_damaged = False

    def _carry(self, before: Block) -> None:
        """Take what the new generation lacks over from the tail before, not to read it again."""
        first = int(np.searchsorted(before.rows, self._view.last_row, side="right"))
        if first < len(before):
            rows, clips, spans = before.rows[first:], before.clips[first:], before.spans[first:]
            self._tail.append(Rows(rows, clips, spans, before.vectors[first:]))
            self._view = replace(self._view, last_row=int(rows[-1]), tail=self._tail.block())

    def _advance(self, state: State) -> None:
        """Bring the view to `state`: rows that are newer, rows that were removed."""
        if state.change == self._view.change:
            return
        # Read to the end before anything is kept: a rotten row must not leave half a tail.
        batches = list(self.reader.rows_after(self._view.last_row))
        removed = self.reader.removed_after(self._view.change)
        for batch in columns.whole_clips(batches) if self._by_clip else batches:
            self._tail.append(batch)
        self._tail.give_lists(is_all=self._version is None)
        self._view = self._view.later(state.change, state.last_row, self._tail.block(), removed)
        if self._view.rows != state.windows:
            error = IntegrityError(
                f"{self._folder} holds {self._view.rows} windows where {state.windows} were "
                "committed; run `clap-engine verify` on it"
            )
            if not len(self._view.base):
                self._pointer = -1  # so that the next refresh starts over
                raise error
            raise _Damage(error)

    def _give_up(self, state: State, reason: _Damage) -> None:
        """Serve all rows from the truth itself, and say so."""
        self._start(state, None)
        self.is_damaged = True
        text = f"generation {state.generation} of {self._folder} is rebuilt: {reason}"
        log.warning("%s", text)
        warnings.warn(text, RebuildWarning, stacklevel=2)


def rebuild_alone(
    folder: Path, *, per_sqrt_row: float | None = None, check: Callable[[], None] = lambda: None
) -> None:
    """Give a collection that nobody else has open new derived files."""
    with (
        closing(States(folder, read_only=False, per_sqrt_row=per_sqrt_row)) as states,
        closing(Catalogue(folder / DATABASE, read_only=False)) as writer,
    ):
        states.rebuild(writer, threading.RLock(), check)


def _tuning_of(catalogue: Catalogue) -> Tuning | None:
    """The tuned plan; a rotten one is none, for search can do without."""
    try:
        return catalogue.tuning()
    except IntegrityError as error:
        log.warning("%s: the default plan serves; tune again", error)
        return None


def _prefix_dim(tuning: Tuning | None, dim: int) -> int:
    return min(dim, PREFIX_DIM if tuning is None else tuning.prefix_dim)


def _read(batches: Iterator[Rows], held: ExitStack, check: Callable[[], None]) -> Iterator[Rows]:
    """The batches; what is held for them is let go with the last.

    A graph takes minutes, in which SQLite's log would grow with every commit.
    """
    for batch in batches:
        check()
        yield batch
        time.sleep(_REST_S)
    held.close()


def _rested(
    labels: Iterator[tuple[int, Label]], check: Callable[[], None]
) -> Iterator[tuple[int, Label]]:
    """The same, at the pace of `_read`."""
    for at, label in enumerate(labels):
        if at % _ROWS_AT_ONCE == 0:
            check()
            time.sleep(_REST_S)
        yield label


class _Damage(Exception):
    """The generation does not hold what the truth says it must."""


def _differences(found: Generation, reader: Catalogue) -> list[str]:
    """Where a generation and the truth disagree."""
    block, matched = found.block, 0
    for batch in reader.rows_after(-1):
        old = batch.rows <= found.last_row
        at = np.searchsorted(block.rows, batch.rows[old]).clip(max=len(block) - 1)
        same = (
            (block.rows[at] == batch.rows[old])
            & (block.clips[at] == batch.clips[old])
            & (block.spans[at] == batch.spans[old]).all(axis=1)
            & (block.vectors[at] == batch.vectors[old]).all(axis=1)
        )
        if not same.all():
            return [f"generation {found.number} differs from the truth; rebuild it"]
        matched += len(at)
    gone = sum(
        int(np.searchsorted(block.rows, first + count) - np.searchsorted(block.rows, first))
        for first, count in reader.removed_after(found.change)
    )
    if matched + gone != len(block):
        return [f"generation {found.number} holds rows that were removed; rebuild it"]
    return []
