"""Large pages under a loaded graph: a query then spends its time in products, not in page tables.

In:  which pages of this process held something before a graph was loaded.
Out: what the load added, moved to large pages where the system allows it.
Knows nothing about graphs, files or onnxruntime.

Weights are read once a query, in order, from memory that other work has pushed out of the caches:
each 4 KiB page then costs a page walk, two-dimensional on a virtual machine. On large pages
clap-mini's text graph takes 1.1 ms where it took 1.5 to 1.7 (one thread, caches cold), GPT-2's
(85 MB) 8.7 where it took 11.7. Linux lets a process ask for them; elsewhere nothing happens, and
nothing here can fail.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Int64

LARGE_PAGE = 2 * 1024**2
_SELF = Path("/proc/self")
# A mapping beyond this is a reservation (of a driver, a sanitizer), not loaded weights.
_LARGEST_MAPPING = 64 * 1024**3
_PRESENT = np.uint64(1 << 63)  # of an entry of pagemap: Documentation/admin-guide/mm/pagemap.rst
_MADV_HUGEPAGE = getattr(mmap, "MADV_HUGEPAGE", 14)
_MADV_COLLAPSE = 25  # at once and not in the background; Linux 6.1, unknown to Python's mmap
_NONE: Int64 = np.empty(0, np.int64)


def resident() -> Int64:
    """Numbers of the pages that hold something, in large private anonymous mappings; ascending."""
    if sys.platform != "linux":
        return _NONE
    found = []
    try:
        with open(_SELF / "pagemap", "rb") as pagemap:
            for start, end in _mappings():
                first, count = start // mmap.PAGESIZE, (end - start) // mmap.PAGESIZE
                pagemap.seek(8 * first)
                entries = np.frombuffer(pagemap.read(8 * count), np.uint64)
                found.append(np.flatnonzero(entries & _PRESENT) + first)
    except (OSError, ValueError):
        return _NONE
    return np.concatenate(found) if found else _NONE


def give_back_freed() -> None:
    """Hand memory that was freed back to the system: what is loaded next then counts as new."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def added(before: Int64, after: Int64) -> list[tuple[int, int]]:
    """(start, end) of the large pages that are mostly new in `after`; neighbours are joined."""
    per_large = LARGE_PAGE // mmap.PAGESIZE
    fresh = np.setdiff1d(after, before, assume_unique=True)
    numbers, counts = np.unique(fresh // per_large, return_counts=True)
    numbers = numbers[2 * counts >= per_large]
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    runs = np.split(numbers, breaks)
    return [(int(run[0]) * LARGE_PAGE, (int(run[-1]) + 1) * LARGE_PAGE) for run in runs]


def move(spans: list[tuple[int, int]]) -> int:
    """Ask for large pages under these spans; the bytes that were asked for.

    A span that was given back meanwhile is refused by the system, which is harmless: the advice
    never changes what memory holds. Costs 0.7 ms for each MiB: the contents are copied.
    """
    if (advise := _of_libc("madvise")) is None:
        return 0
    moved = 0
    for start, end in spans:
        where, size = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
        if advise(where, size, _MADV_HUGEPAGE) == 0:
            advise(where, size, _MADV_COLLAPSE)
            moved += end - start
    return moved


def _of_libc(name: str) -> Any:
    """A function of the C library, where there is one of that name."""
    return _linked(name) if sys.platform == "linux" else None


@cache
def _linked(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)


def _mappings() -> Iterator[tuple[int, int]]:
    """Start and end of each private anonymous mapping that could hold a large page."""
    for line in (_SELF / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, mode, _, _, inode, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        is_anonymous = inode == "0" and name in ([], ["[heap]"])
        if mode == "rw-p" and is_anonymous and LARGE_PAGE <= end - start <= _LARGEST_MAPPING:
            yield start, end
