"""Which way a search goes: exact, flat scan, HNSW or lists, and how long the shortlist is.

In:  how many rows there are, how many clips are wanted, what the caller insists on, what `tune`
     measured.
Out: a frozen `Plan` and where it comes from; whether a new generation is due.
Knows nothing about vectors, files or queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from clap_engine.errors import CollectionError
from clap_engine.records import Tuning

# recall@10 of an exact 32-d shortlist of K against exact 512-d, 100 queries on synthetic vectors
# whose variances fall as i^-0.7 (a harder space than a Matryoshka-trained one):
#     rows      K=500   1000   2000   3000   5000
#     10,000    .988   .998   1.0    1.0    1.0
#     20,000    .968   .992   .999   .999   1.0
#     50,000    .939   .983   .995   .998   1.0
#     100,000   .896   .962   .984   .994   .997
# K = 10 sqrt(rows) stays at .99 or above: .998, .995, .996, .994 in these rows. It is for spaces
# that nobody measured: a bundle that was measured says its own factor.
SHORTLIST_PER_SQRT_ROW = 10.0
SHORTLIST_MIN_UNMEASURED = 1000
# The shortlist counts windows and k counts clips, whose windows resemble each other.
SHORTLIST_PER_HIT = 20
# A shortlist that held too few clips is widened by this factor.
WIDEN = 4

# A tuned plan's recall is promised up to this many times the rows that it was measured on: its
# shortlist grows with their square root, what is needed somewhat faster (exponent .73 in the table
# above, from 500 windows for .99 at 10,000 rows to some 2,700 at 100,000).
OUTGROWN = 2.0

# Of few rows a shortlist of this share is no faster than scoring them all: 250 take .15 ms.
EXACT_SHARE = 4

# Tails shorter than this cost nothing to scan; beyond it, a share of the whole makes one due.
TAIL_MIN_ROWS = 1000
TAIL_MAX_SHARE = 0.05

Shortlist = int | Literal["all"] | None
Index = Literal["exact", "flat", "hnsw", "ivf"]
Source = Literal["default", "tuned", "caller"]
Counts = Literal["windows", "clips"]


@dataclass(frozen=True)
class Plan:
    """How one search was made; `shortlist` is its final length in what `counts` says, of `rows`.

    `counts` is "clips" where the shortlist is taken of their means. `dims` are those of its rungs,
    coarse first; `kept` is how many windows the middle one passes on, 0 without one.
    `expected_recall` is what `tune` measured, 1 where all rows are scored, or None where nobody
    knows. A graph over all dims ranks as the last rung does: `kept` is then how many of its
    windows are scored again. Where a graph has other dims than the index' prefixes, `scan_dim`
    and `scan_shortlist` are the scan's that takes its place where it can't serve, else 0.
    Of lists ("ivf"), `probes` are read; 0 without them.
    """

    index: Index
    rows: int
    shortlist: int
    dims: tuple[int, ...]
    widened: int = 0
    kept: int = 0
    source: Source = "default"
    expected_recall: float | None = None
    counts: Counts = "windows"
    scan_dim: int = 0
    scan_shortlist: int = 0
    probes: int = 0

    @property
    def is_direct(self) -> bool:
        """Whether the graph ranks by all dims."""
        return self.index == "hnsw" and self.dims[0] == self.dims[-1]


def measured(calibration: Mapping[str, float]) -> float | None:
    """The factor that a bundle's exporter measured on its own embeddings, if it did."""
    factor = calibration.get("shortlist_per_sqrt_row")
    return factor if factor is not None and factor > 0 else None


def shortlist_for(rows: int, k: int, per_sqrt_row: float | None = None) -> int:
    """Windows to rerank for k clips among `rows` windows; the factor is `measured`."""
    least = SHORTLIST_PER_HIT * k
    if per_sqrt_row is None:
        per_sqrt_row = SHORTLIST_PER_SQRT_ROW
        least = max(least, SHORTLIST_MIN_UNMEASURED)
    return max(least, math.ceil(per_sqrt_row * math.sqrt(rows)))


def plan(
    rows: int,
    k: int,
    shortlist: Shortlist,
    *,
    has_coarse: bool,
    ladder: tuple[int, int],
    per_sqrt_row: float | None = None,
    tuning: Tuning | None = None,
    counts: Counts = "windows",
    graph_dim: int = 0,
    has_lists: bool = False,
) -> Plan:
    """The plan for one search; `ladder` is the dim of the prefixes and the full one.

    `graph_dim` is the graph's, where that is another. Lists serve tuned plans alone: how many of
    them a query must read is a matter of measurement.
    """
    source: Source = "default" if shortlist is None else "caller"
    near = graph_dim or ladder[0]
    if shortlist is None:
        if tuning is not None and tuning.prefix_dim == ladder[0]:
            is_there = has_coarse and tuning.coarse_dim == near
            if tuning.index == "ivf":
                is_there = has_lists
            return tuned(tuning, rows, k, has_coarse=is_there, dim=ladder[1], counts=counts)
        count = shortlist_for(rows, k, per_sqrt_row)
    elif shortlist == "all":
        count = rows
    elif isinstance(shortlist, bool) or not isinstance(shortlist, int) or shortlist < 1:
        raise CollectionError(
            f"shortlist is {shortlist!r}; give a number of {counts} from 1 on, 'all' or None"
        )
    else:
        count = max(shortlist, k)
    if count >= rows:
        return exact(rows, ladder[1], source, counts)
    if not (has_coarse and is_hnsw_faster(rows, count)):
        return Plan("flat", rows, count, ladder, source=source, counts=counts)
    scan = (0, 0) if near == ladder[0] else (ladder[0], count)
    return Plan(
        "hnsw", rows, count, (near, ladder[1]), source=source, counts=counts,
        scan_dim=scan[0], scan_shortlist=scan[1],
    )  # fmt: skip


def tuned(
    tuning: Tuning,
    rows: int,
    k: int,
    *,
    has_coarse: bool,
    dim: int,
    counts: Counts = "windows",
) -> Plan:
    """The tuned plan for k clips among `rows` windows, on a view whose prefixes are its own."""
    least = k if k <= tuning.k else SHORTLIST_PER_HIT * k
    # Rows that a filter lets through need no shorter one: what is near in few dims may be any.
    growth = max(1.0, math.sqrt(rows / tuning.rows))
    count = max(least, math.ceil(tuning.shortlist * growth))
    scan = max(least, math.ceil(tuning.scan_shortlist * growth)) if tuning.scan_dim else 0
    is_outgrown = rows > OUTGROWN * tuning.rows
    is_lists = tuning.index == "ivf" and has_coarse
    is_graph = tuning.index == "hnsw" or (is_outgrown and is_hnsw_faster(rows, count))
    is_graph = is_graph and has_coarse and not is_lists
    near = tuning.coarse_dim
    if scan and not (is_graph or is_lists):
        count, near = scan, tuning.scan_dim
    is_few = counts == "windows" and rows < tuning.rows and EXACT_SHARE * count >= rows
    if count >= rows or is_few:
        return exact(rows, dim, "tuned", counts)
    kept = max(least, math.ceil(tuning.kept * growth)) if tuning.kept else 0
    # A clip leads to many windows, so more of these may be kept than clips were shortlisted.
    has_middle = kept > 0 and (kept < count or counts == "clips")
    if near != tuning.coarse_dim:
        has_middle = has_middle and tuning.middle_dim > near
    middle = (tuning.middle_dim,) if has_middle and tuning.middle_dim else ()
    if is_lists:
        # As many lists as hold the same share of the growth; there is their square root more.
        probes = math.ceil(tuning.probes * growth)
        return Plan(
            "ivf", rows, count, (dim, dim), source="tuned", counts=counts,
            expected_recall=None if is_outgrown or k > tuning.k else tuning.recall,
            scan_dim=tuning.scan_dim, scan_shortlist=scan, probes=probes,
        )  # fmt: skip
    return Plan(
        "hnsw" if is_graph else "flat",
        rows,
        count,
        (near, *middle, dim),
        kept=kept if has_middle else 0,
        source="tuned",
        expected_recall=None if is_outgrown or k > tuning.k else tuning.recall,
        counts=counts,
        scan_dim=tuning.scan_dim if is_graph else 0,
        scan_shortlist=scan if is_graph else 0,
    )


def exact(rows: int, dim: int, source: Source = "default", counts: Counts = "windows") -> Plan:
    """All rows scored on all dims."""
    return Plan("exact", rows, rows, (dim,), source=source, expected_recall=1.0, counts=counts)


def reason(found: Plan, tuning: Tuning | None, prefix_dim: int) -> str:
    """Why a search was planned so, in a sentence; `prefix_dim` is that of the rows it ran on."""
    if found.source == "caller":
        return "the caller gave the length of the shortlist"
    if tuning is None:
        return "no plan was tuned for this collection"
    if found.source == "default":
        return (
            f"the tuned plan shortlists by {tuning.prefix_dim} dims and the index holds "
            f"{prefix_dim}; it serves from the next rebuild on"
        )
    if found.rows <= OUTGROWN * tuning.rows:
        return f"tuned for recall {tuning.target:g} on {tuning.rows} {found.counts}"
    return (
        f"tuned for recall {tuning.target:g} on {tuning.rows} {found.counts}, of which there are "
        f"{found.rows} now: tune again"
    )


def as_scan(found: Plan) -> Plan:
    """The same search without its graph."""
    if not found.scan_dim:
        return replace(found, index="flat")
    dims = (found.scan_dim, *(dim for dim in found.dims[1:] if dim > found.scan_dim))
    if found.is_direct:
        dims, found = (found.scan_dim, found.dims[-1]), replace(found, kept=0)
    count = min(max(found.scan_shortlist, found.shortlist), found.rows)
    return replace(found, index="flat", shortlist=count, dims=dims, scan_dim=0, scan_shortlist=0)


def widen(narrow: Plan) -> Plan:
    """The next plan when a shortlist held too few clips; it ends at an exact scan of all rows."""
    count = narrow.shortlist * WIDEN
    if count >= narrow.rows:
        return replace(
            narrow, index="exact", shortlist=narrow.rows, dims=narrow.dims[-1:],
            widened=narrow.widened + 1, kept=0, expected_recall=1.0,
        )  # fmt: skip
    wider = replace(narrow, shortlist=count, kept=narrow.kept * WIDEN, widened=narrow.widened + 1)
    if narrow.index == "ivf":
        return replace(wider, probes=narrow.probes * WIDEN)
    # A long shortlist is where the scan overtakes the graph.
    is_graph = narrow.index == "hnsw" and is_hnsw_faster(narrow.rows, count)
    return wider if is_graph or narrow.index == "flat" else as_scan(wider)


# Medians of 60 searches on one thread (Sapphire Rapids, numpy 1.26, hnswlib 0.8, M 16, 32 dims),
# flat scan with selection against HNSW, the exact rerank left out:
#     rows       K=1000: flat  hnsw    default K: flat  hnsw
#     10,000         0.20  0.79 ms        (1000)
#     100,000        1.19  1.24 ms        (3162)  1.40  3.34 ms
#     200,000        3.03  1.56 ms        (4472)  3.29  5.42 ms
#     400,000        6.30  1.78 ms        (6324)  6.49  8.15 ms
# A row costs the scan 16 ns, a candidate costs the graph 1.25 us: HNSW wins beyond 80 rows a
# candidate. At the default shortlist that is 640,000 rows; with K = 1000 it is 100,000.
HNSW_ROWS_PER_CANDIDATE = 80


def is_hnsw_faster(rows: int, shortlist: int) -> bool:
    """Whether the graph finds `shortlist` candidates among `rows` sooner than a scan."""
    return rows > HNSW_ROWS_PER_CANDIDATE * shortlist


def is_coarse_due(
    rows: int, per_sqrt_row: float | None = None, tuning: Tuning | None = None
) -> bool:
    """Whether a generation of `rows` should hold a graph: where searches for ten use it."""
    if tuning is not None and tuning.index == "ivf":
        return False
    if tuning is not None:
        return tuned(tuning, rows, tuning.k, has_coarse=True, dim=0).index == "hnsw"
    return is_hnsw_faster(rows, shortlist_for(rows, 10, per_sqrt_row))


def are_lists_due(rows: int, tuning: Tuning | None) -> bool:
    """Whether a generation of `rows` should hold lists: where the tuned plan reads them."""
    if tuning is None or tuning.index != "ivf":
        return False
    return tuned(tuning, rows, tuning.k, has_coarse=True, dim=0).index == "ivf"


def is_generation_due(base_rows: int, stale_rows: int) -> bool:
    """Whether the rows outside the generation, or removed from it, are too many."""
    return stale_rows > max(TAIL_MIN_ROWS, TAIL_MAX_SHARE * base_rows)
