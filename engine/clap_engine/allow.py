"""What filters let through in the states of a collection, found once and then kept up to date.

In:  a filter's tree; the states of a collection.
Out: a view, and the rows of it that the filter lets through.
Knows nothing about queries, scores or how filters are written.

Numbers of rows only grow, so that what a filter found stays right: clips that were added since
are asked for alone, rows that were removed since are taken out. Only new facts of stored clips,
or a new generation, make it ask for all clips again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clap_engine.arrays import Int64
from clap_engine.catalogue import Catalogue
from clap_engine.errors import ClosedError
from clap_engine.filters import Filter
from clap_engine.index.allowed import Allowed, Part, positions_of
from clap_engine.index.view import View
from clap_engine.records import State
from clap_engine.states import DATABASE, States

# At a million rows a filter takes 17 MB at most, the prefixes of a narrow one included.
KEPT_FILTERS = 16


@dataclass(frozen=True)
class _Answer:
    """What a filter lets through in one view."""

    state: State
    view: View
    allowed: Allowed


@dataclass(frozen=True)
class _Found:
    """The numbers of the clips that match in one committed state."""

    state: State
    clips: Int64


class AllowSets:
    """The answers to the filters that were used last; safe in many threads at once."""

    def __init__(self, states: States, folder: Path, *, read_only: bool) -> None:
        self._states = states
        self._path = folder / DATABASE
        self._read_only = read_only
        self._kept: OrderedDict[str, _Answer] = OrderedDict()
        self._kept_guard = threading.Lock()
        # To look at a million clips takes seconds. That has a connection of its own, so that
        # searches without a filter need not wait for it.
        self._reader: Catalogue | None = None
        self._reader_guard = threading.Lock()
        self._is_closed = False

    def open(self) -> None:
        """Open the connection now instead of with the first filter; a second call does nothing."""
        with self._reader_guard:
            self._connected()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._reader_guard:
            self._is_closed = True
            if self._reader is not None:
                self._reader.close()

    def of(self, tree: Filter) -> tuple[View, Allowed]:
        """The view of what is committed by now, and the rows of it that may be found."""
        name = _name(tree)
        view, kept = self._states.refresh(), self._recall(name)
        if kept is not None and kept.view is view:
            return view, kept.allowed
        basis: _Answer | _Found | None = kept
        if kept is None or kept.view.base is not view.base:
            basis = self._look(tree)
        with self._states.held() as view:
            return view, self._bring_up(tree, name, view, basis)

    def within(self, tree: Filter, view: View) -> Allowed:
        """What may be found in the view that the caller holds."""
        name = _name(tree)
        return self._bring_up(tree, name, view, self._recall(name))

    def _look(self, tree: Filter) -> _Found:
        """Ask for all clips that match, on the own connection."""
        with self._reader_guard:
            reader = self._connected()
            with reader.snapshot():
                return _Found(reader.state(), reader.matching(tree))

    def _connected(self) -> Catalogue:
        """The own connection; the guard is held."""
        if self._is_closed:
            raise ClosedError(f"{self._path} was closed; open the collection again")
        if self._reader is None:
            self._reader = Catalogue(self._path, read_only=self._read_only)
        return self._reader

    def _bring_up(
        self, tree: Filter, name: str, view: View, basis: _Answer | _Found | None
    ) -> Allowed:
        """The answer in a view that is held, from an older one where that is still good."""
        reader, state = self._states.reader, self._states.reader.state()
        if basis is None or not self._is_good(basis, view, state):
            allowed = view.allow(reader.matching(tree))
        else:
            new = reader.matching(tree, after_clip=basis.state.last_clip)
            if isinstance(basis, _Found):
                allowed = view.allow(np.concatenate([basis.clips, new]))
            else:
                tail = [basis.allowed.tail.positions, positions_of(view.tail, new)]
                allowed = Allowed(
                    basis.allowed.base.without(view.base_dead),
                    Part(view.tail, np.concatenate(tail)).without(view.tail_dead),
                )
        self._keep(name, _Answer(state, view, allowed))
        return allowed

    def _is_good(self, basis: _Answer | _Found, view: View, state: State) -> bool:
        """Whether no clip that was there then may match otherwise now."""
        if isinstance(basis, _Answer) and basis.view.base is not view.base:
            return False
        return basis.state.generation == state.generation and not (
            self._states.reader.is_amended_after(basis.state.change)
        )

    def _recall(self, name: str) -> _Answer | None:
        with self._kept_guard:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def _keep(self, name: str, answer: _Answer) -> None:
        with self._kept_guard:
            self._kept[name] = answer
            self._kept.move_to_end(name)
            # Answers for another generation are of no use, and would hold its files in memory.
            stale = [
                other
                for other, kept in self._kept.items()
                if kept.view.base is not answer.view.base
            ]
            for other in stale:
                del self._kept[other]
            while len(self._kept) > KEPT_FILTERS:
                self._kept.popitem(last=False)


def _name(tree: Filter) -> str:
    """A text that differs wherever trees do, also those that 1 and True make equal."""
    return repr(tree)
