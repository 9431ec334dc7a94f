"""Keys and metadata of hits: from the derived files, or read from the truth and kept.

In:  views; the numbers of clips in them.
Out: the label of each.
Knows nothing about queries, scores or spans.

Labels of a clip change only where a commit removes or amends clips, and a view says which did so
last. A clip that another process removes while a search is under way may still be found by that
search, as if it had come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from clap_engine.index.view import View
from clap_engine.records import Label
from clap_engine.states import States

# The clips whose labels are kept: some 300 bytes each, and at most 2 KB of metadata.
KEPT = 10_000
_LONGEST = 2_000


class Facts:
    """Safe in many threads at once."""

    def __init__(self, states: States) -> None:
        self._states = states
        self._kept: tuple[int, dict[int, Label]] = (-1, {})

    def of(self, view: View, clips: Sequence[int]) -> dict[int, Label] | None:
        """The labels of all these clips, or None when one of them is gone meanwhile."""
        packed = {} if view.labels is None else view.labels.of(clips)
        if len(packed) == len(clips):
            return packed
        touched, known = self._kept
        if touched != view.touched or len(known) > KEPT:
            known = {}
            self._kept = (view.touched, known)
        missing = [clip for clip in clips if clip not in packed and clip not in known]
        with self._states.guard:
            found = self._states.reader.labels(missing) if missing else {}
        if len(found) < len(missing):
            return None
        known.update((c, label) for c, label in found.items() if len(label.metadata) <= _LONGEST)
        for clip in clips:
            if clip not in packed:
                packed[clip] = found[clip] if clip in found else known[clip]
        return packed
