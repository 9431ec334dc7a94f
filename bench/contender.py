"""Whatever searches vectors, behind one small face.

In:  a folder made by vectors.py; a folder of their own for what they build.
Out: `Contender`: the ten best rows for a query, at each setting that trades recall for time.
Knows nothing about time, recall or processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clap_engine.arrays import Float32
from vectors import Vectors

K, BUILD_THREADS = 10, 2
BATCH = 1000

Knob = dict[str, float]


class Contender:
    """One way to search; `build` and `open` may run in different processes."""

    is_kept = True  # whether what was built outlives the process
    knobs: Sequence[Knob] = ({},)

    def __init__(self, vectors: Vectors, folder: Path) -> None:
        self.vectors, self.folder = vectors, folder

    def build(self) -> dict[str, Any]:
        """Make what is searched, in `folder`; facts worth noting."""
        return {}

    def open(self) -> None:
        """Be ready to search, on one thread."""

    def set(self, knob: Knob) -> None:
        """Use this setting from now on."""

    def search(self, query: Float32) -> list[int]:
        """[D] -> the ten best rows, best first."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Facts of the last setting: a plan, milliseconds by stage."""
        return {}

    def others(self) -> list[int]:
        """Other processes whose memory is this contender's."""
        return []

    def close(self) -> None:
        """Stop what was started."""
