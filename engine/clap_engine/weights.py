"""The verified bytes of a graph, beside a session that reads its weights there.

In:  those bytes in memory of their own; a run of the session and its results.
Out: the memory of weights that the session has packed copies of, given back to the system.
Knows nothing about onnxruntime, bundles or files.

onnxruntime packs the weights of most products for the processor it finds, and never looks at the
originals again; it does not say which. So they are given back on trial: a run whose results stay
the same to the bit did not need them. Should it have needed one, all are put back.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine import initializers
from clap_engine.errors import GraphError

# Below this the trial costs more than it gains.
LEAST_BYTES = 4 << 20

Arrays = Sequence[npt.NDArray[Any]]


class Weights:
    """The bytes of one loaded graph; whoever uses it sees to it that nothing runs meanwhile."""

    def __init__(
        self, data: memoryview, operators: frozenset[str], again: Callable[[], memoryview]
    ) -> None:
        """`operators` are the kinds of nodes whose weights are packed; `again` reads the bytes."""
        self._data = data
        self._operators = operators
        self._again = again

    def give_back(self, due: Arrays, run: Callable[[], Arrays]) -> int:
        """Give back what `run` can do without to have the results `due`; bytes of memory."""
        pages = self._data.obj
        if not isinstance(pages, mmap.mmap) or not hasattr(pages, "madvise"):
            return 0  # the caller's memory
        spans = [_whole_pages(span) for span in initializers.read_by(self._data, self._operators)]
        size = sum(max(0, end - start) for start, end in spans)
        if size < LEAST_BYTES:
            return 0
        try:
            for start, end in spans:
                if start < end:
                    pages.madvise(mmap.MADV_DONTNEED, start, end - start)
            found = run()
        except OSError:
            found = []  # refused half way: what was given back is put back
        if _are_equal(found, due):
            return size
        pages.seek(0)
        pages.write(self._again())
        if not _are_equal(run(), due):
            raise GraphError("a graph gives other results for the same input; load it again")
        return 0


def _are_equal(found: Arrays, due: Arrays) -> bool:
    """To the bit; NaN, which a broken graph may give, is NaN again."""
    return len(found) == len(due) and all(
        np.array_equal(one, other, equal_nan=True) for one, other in zip(found, due, strict=True)
    )


def _whole_pages(span: tuple[int, int]) -> tuple[int, int]:
    """The pages that lie in a span as a whole."""
    start, end = span
    return -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
