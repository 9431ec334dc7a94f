"""How many cores this process may use, and how many threads a graph is given when nobody says.

In:  the processors that this process may use.
Out: a number of cores, of threads.
Knows nothing about graphs.
"""

from __future__ import annotations

import os
from pathlib import Path

# One text or one window stops gaining beyond this; further cores serve further requests.
MAX_DEFAULT_THREADS = 4


def default_threads() -> int:
    """Physical cores that this process may use, at most MAX_DEFAULT_THREADS."""
    return min(usable_cores(), MAX_DEFAULT_THREADS)


def usable_cores() -> int:
    """Physical cores that this process may use."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = list(range(os.cpu_count() or 1))
    return max(1, len({_core_of(cpu) for cpu in allowed}))


def _core_of(cpu: int) -> str:
    """The hardware threads that share a core with `cpu`, or `cpu` itself where nobody says."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text().strip()
    except OSError:
        return str(cpu)
