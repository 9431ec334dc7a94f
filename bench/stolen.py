"""Time that a virtual machine's host gave to others while something was timed.

In:  something to time, for so many seconds at a time.
Out: what it gave in slices from which no time was stolen, and how many there were of each kind.
Knows nothing about what is timed.

On a shared host a core may be taken away for 10 to 300 ms, which then stands in every p99. Linux
counts it ("steal" in proc_stat(5)), in ticks of 10 ms over all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psutil

SLICE_S = 0.5
# What may be stolen of a slice: a tick, 1 % of two cores' half second, and what rounding adds.
SPARED_S = 0.0105
# Slices that are tried for each that is wanted.
PATIENCE = 4

T = TypeVar("T")


def stolen_s() -> float:
    """Seconds of all cores since the start; 0 where nobody counts."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def in_slices(
    works: Mapping[str, Callable[[float], list[T]]], seconds: float
) -> dict[str, tuple[list[T], dict[str, Any]]]:
    """What each of `works` gives when it is called with seconds, in turns, until `seconds` of each
    are full.

    Of slices from which time was stolen nothing is kept, unless most of them are such: then all
    is, and `is_disturbed` says so.
    """
    wanted, slice_s = max(1, round(seconds / SLICE_S)), min(SLICE_S, seconds)
    calm: dict[str, list[list[T]]] = {name: [] for name in works}
    rough: dict[str, list[list[T]]] = {name: [] for name in works}
    for _ in range(PATIENCE * wanted):
        short = [name for name in works if len(calm[name]) < wanted]
        for name in short:
            before = stolen_s()
            found = works[name](slice_s)
            (calm if stolen_s() - before <= SPARED_S else rough)[name].append(found)
        if not short:
            break
    return {name: _kept(calm[name], rough[name], wanted, slice_s) for name in works}


def is_disturbed(record: Any) -> bool:
    """Whether anything in a record says so of itself."""
    if isinstance(record, Mapping):
        return bool(record.get("is_disturbed")) or any(map(is_disturbed, record.values()))
    return isinstance(record, list) and any(map(is_disturbed, record))


def _kept(
    calm: list[list[T]], rough: list[list[T]], wanted: int, slice_s: float
) -> tuple[list[T], dict[str, Any]]:
    is_rough = 2 * len(calm) < wanted
    kept = calm + rough if is_rough else calm
    counts = {
        "seconds": len(kept) * slice_s, "slices": len(calm), "stolen_from": len(rough),
        "is_disturbed": is_rough,
    }  # fmt: skip
    return [one for some in kept for one in some], counts
