"""What an index keeps in memory: stored rows that searches read, and a graph or lists of them.

In:  how many rows and columns there are, their dims, the dims of a graph.
Out: bytes.
Knows nothing about files, plans or who else needs memory.
"""

from __future__ import annotations

# In memory hnswlib takes so much for each column beside its dims: links of M 16, label, lock
# (a million rows: 360 bytes at 32 dims).
_GRAPH_BYTES = 232
# A stored row has its span and its numbers beside its vector.
_ROW_BYTES = 32


def with_lists(rows: int, columns: int, dim: int) -> int:
    """Bytes of rows of `dim` dims and of lists of so many columns: a byte a dim, and a number."""
    return rows * (2 * dim + _ROW_BYTES) + columns * (dim + 4)


def with_graph(rows: int, columns: int, dim: int, graph_dim: int) -> int:
    """Bytes of rows of `dim` dims and a graph over `graph_dim` dims of so many columns.

    Prefixes are left out: beside a graph only filters and long shortlists read them.
    """
    return rows * (2 * dim + _ROW_BYTES) + columns * (4 * graph_dim + _GRAPH_BYTES)
