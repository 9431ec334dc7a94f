"""The rows that a filter lets through, in the form that scans want them.

In:  the blocks of a view, the numbers of the clips that a filter lets through.
Out: their positions; scores of their prefixes; which rows of a whole scan to hide.
Knows nothing about filters, keys or SQLite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64
from clap_engine.index import columns, flat
from clap_engine.index.generation import Block
from clap_engine.index.lists import Lists

# Up to this share of all rows, their prefixes are copied together and scanned alone. The copy
# is kept with the filter: 128 bytes a row, so 16 MB for the broadest of them at 1M rows.
NARROW_SHARE = 1 / 8


@dataclass(frozen=True)
class Part:
    """The allowed rows of one block."""

    block: Block
    positions: Int64  # [n] in the block, ascending
    _lists: dict[int, Lists] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def columns(self) -> Int64:
        """[c] in the block, ascending: those that lead to the allowed rows, and to no other."""
        return self.block.columns_of(self.positions)

    @cached_property
    def prefixes(self) -> Float32:
        """[d, c], side by side."""
        return np.ascontiguousarray(self.block.prefixes[:, self.columns])

    @cached_property
    def hidden(self) -> npt.NDArray[np.bool_]:
        """[C]: True for the columns that are not allowed."""
        hidden = np.ones(self.block.columns, np.bool_)
        hidden[self.columns] = False
        return hidden

    def lists(self, whole: Lists) -> Lists:
        """The lists of the block with the allowed columns alone; kept."""
        found = self._lists.get(id(whole))
        if found is None:
            found = self._lists[id(whole)] = whole.only(self.columns)
        return found

    def without(self, dead: Int64) -> Part:
        """The same but for the positions `dead`; itself where that changes nothing."""
        is_gone = np.isin(self.positions, dead) if len(dead) else None
        if is_gone is None or not is_gone.any():
            return self
        return Part(self.block, self.positions[~is_gone])


@dataclass(frozen=True)
class Allowed:
    """The allowed rows of one view, of the generation and of the tail; none of them removed."""

    base: Part
    tail: Part

    def __len__(self) -> int:
        return len(self.base.positions) + len(self.tail.positions)

    @property
    def is_narrow(self) -> bool:
        """Whether the allowed columns are so few that they are scanned alone."""
        return self.width <= NARROW_SHARE * (self.base.block.columns + self.tail.block.columns)

    @property
    def width(self) -> int:
        """How many columns lead to the allowed rows."""
        return len(self.base.columns) + len(self.tail.columns)

    @cached_property
    def columns(self) -> Int64:
        """[c] in the view, ascending."""
        if self.base.block.starts is None:
            return self.positions
        return np.concatenate([self.base.columns, self.tail.columns + self.base.block.columns])

    @cached_property
    def positions(self) -> Int64:
        """[n] in the view, ascending."""
        return np.concatenate([self.base.positions, self.tail.positions + len(self.base.block)])

    def scan(self, queries: Float32) -> Float32:
        """[..., d] -> [..., c]: scores of the allowed prefixes alone."""
        return _joined([flat.scan(part.prefixes, queries) for part in (self.base, self.tail)])

    def hide(self, scores: Float32) -> None:
        """Mark, in scores [..., C] of all columns of the view, those that are not allowed."""
        split = self.base.block.columns
        np.copyto(scores[..., :split], -np.inf, where=self.base.hidden)
        np.copyto(scores[..., split:], -np.inf, where=self.tail.hidden)

    def contains(self, chosen: Int64) -> npt.NDArray[np.bool_]:
        """Which of the generation's columns are allowed."""
        return ~self.base.hidden[chosen]


def _joined(parts: list[Float32]) -> Float32:
    return np.concatenate(parts, axis=-1) if parts[-1].shape[-1] else parts[0]


def positions_of(block: Block, clips: Int64) -> Int64:
    """Positions, ascending, of all windows of these clips in the block."""
    starts = np.searchsorted(block.clips, clips, side="left")
    lengths = np.searchsorted(block.clips, clips, side="right") - starts
    return np.sort(columns.runs(starts, lengths))
