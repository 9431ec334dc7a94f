"""Codes: rows in eight bits a dim, and their products with a query, exact to the last bit.

In:  vectors float32 [N, D]; a scale for each dim; a query float32 [D].
Out: codes int8; inner products of codes float32 [N].
Knows nothing about lists, files or which rows are worth it; the one module that talks to numkong.

A row is coded in units of its dims' scales, and a query, weighed by the scales, in a unit of its
own: then a product of codes ranks rows as the inner product does, up to rounding. The largest code
is so small that the sum of D products is below 2^24, where float32 still tells all integers apart:
numkong, BLAS and any order of adding give the same bits, so results depend on no library.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32
from clap_engine.errors import ArrayError

Int8 = npt.NDArray[np.int8]

# Without numkong so many rows are widened at a time: 1 MB of float32 at 512 dims.
_ROWS_AT_ONCE = 512
# So many queries are worth widening all rows: of 2,000, a query takes 31 us then, 22 among 128, 14
# among 512, and 30 by numkong however many there are.
_MANY_QUERIES = 64


def is_fast() -> bool:
    """Whether numkong can be imported; without it numpy widens the codes first."""
    return importlib.util.find_spec("numkong") is not None


def largest(dim: int) -> int:
    """The largest code of `dim` dims: 127, less above 1,040 dims."""
    return min(127, int(np.sqrt(2.0**24 / dim)))


def scales(highest: Float32) -> Float32:
    """[D]: the unit of each dim, from the largest size of its values [D]; never 0."""
    most = np.maximum(highest, np.float32(1e-9))
    return np.asarray(most / np.float32(largest(len(highest))), np.float32)


def coded(vectors: Float32, units: Float32) -> Int8:
    """Vectors [N, D] in the units [D] of their dims; what is beyond the largest code is cut."""
    most = largest(len(units))
    rounded = np.rint(vectors / units)
    return np.asarray(np.clip(rounded, -most, most, out=rounded), np.int8)


def weighed(vectors: Float32, units: Float32) -> Int8:
    """[..., D] -> codes whose products with rows' codes rank these; each in a unit of its own."""
    by_dim = vectors * units
    high = np.abs(by_dim).max(axis=-1, keepdims=True)
    np.multiply(by_dim, largest(len(units)) / np.maximum(high, np.float32(1e-30)), out=by_dim)
    return np.asarray(np.rint(by_dim, out=by_dim), np.int8)


def products(queries: Int8, codes: Int8) -> Float32:
    """[M, N]: of many queries' codes [M, D] with rows' codes [N, D]."""
    out = np.empty((len(queries), len(codes)), np.float32)
    if len(queries) < _MANY_QUERIES and _cdist() is not None and len(queries):
        _cdist()(queries, codes, "dot", out=out)
        return out
    wide = queries.astype(np.float32)
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        some = codes[start : start + _ROWS_AT_ONCE].astype(np.float32)
        np.matmul(wide, some.T, out=out[:, start : start + len(some)])
    return out


@cache
def _cdist() -> Any:
    """numkong's function, or None."""
    return importlib.import_module("numkong").cdist if is_fast() else None


class Scan:
    """The products of one query's codes [D] with any rows'."""

    def __init__(self, query: Int8) -> None:
        if query.dtype != np.int8 or query.ndim != 1:
            raise ArrayError(f"a query's codes are {query.dtype} {query.shape}; give int8 [D]")
        self._row = np.ascontiguousarray(query)[None]
        self._wide = None if _cdist() is not None else query.astype(np.float32)

    def into(self, codes: Int8, out: Float32) -> None:
        """The products with codes [n, D] into `out` [n], both without gaps."""
        if not len(codes):
            return
        if self._wide is None:
            _cdist()(self._row, codes, "dot", out=out[None])
            return
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            some = codes[start : start + _ROWS_AT_ONCE].astype(np.float32)
            np.dot(some, self._wide, out=out[start : start + len(some)])

    def of(self, codes: Int8) -> Float32:
        """The products [n] with codes [n, D]."""
        out = np.empty(len(codes), np.float32)
        self.into(codes, out)
        return out
