"""What is wanted of a search beside its query: how many hits, of which clips, how different.

In:  numbers and a filter as a caller gives them.
Out: a frozen, checked `Request`.
Knows nothing about queries, vectors or rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from clap_engine import filters
from clap_engine.deadline import Deadline, Timeout
from clap_engine.errors import CollectionError
from clap_engine.limits import Limits
from clap_engine.planner import Shortlist

# Clips to rank for each hit where some are folded together or passed over for variety.
CANDIDATES_PER_HIT = 10
CANDIDATES_MIN = 100
CANDIDATES_MAX = 10_000
# Hits are compared with each other in a time that grows with k * candidates.
MAX_COMPARED_K = 1000


@dataclass(frozen=True)
class Request:
    """One search's options, within the limits."""

    k: int
    shortlist: Shortlist
    tree: filters.Filter | None
    min_score: float | None
    min_calibrated: float | None
    collapse: float | None
    diversity: float
    explain: bool = False
    deadline: Deadline = field(default_factory=Deadline)

    @property
    def is_compared(self) -> bool:
        """Whether hits are compared with each other, so that more candidates are needed."""
        return self.collapse is not None or self.diversity > 0

    @property
    def candidates(self) -> int:
        """Clips to rank, to begin with."""
        return max(CANDIDATES_PER_HIT * self.k, CANDIDATES_MIN) if self.is_compared else self.k


def checked(
    limits: Limits,
    *,
    k: int,
    shortlist: Shortlist = None,
    where: Any = None,
    min_score: float | None = None,
    min_calibrated: float | None = None,
    collapse: float | None = None,
    diversity: float = 0.0,
    explain: bool = False,
    timeout_s: Timeout = None,
) -> Request:
    """The request; CollectionError says which option is out of bounds, FilterError why `where`."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= limits.max_k:
        raise CollectionError(f"k is {k!r}; give 1 to {limits.max_k} (max_k)")
    for name, value, low, high in (
        ("min_score", min_score, -math.inf, math.inf),
        ("min_calibrated", min_calibrated, 0, 1),
        ("collapse", collapse, 0, 1),
        ("diversity", diversity, 0, 1),
    ):
        if value is None and name != "diversity":
            continue
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is None or not is_number or not low <= value <= high:
            raise CollectionError(f"{name} is {value!r}; give a number from {low} to {high}")
    tree = None if where is None else filters.parse(where)
    request = Request(
        k, shortlist, tree, min_score, min_calibrated, collapse, float(diversity), bool(explain),
        Deadline.of(timeout_s),
    )  # fmt: skip
    if request.is_compared and k > MAX_COMPARED_K:
        raise CollectionError(
            f"k is {k}; {MAX_COMPARED_K} are allowed where hits are compared with each other "
            "(collapse, diversity)"
        )
    return request
