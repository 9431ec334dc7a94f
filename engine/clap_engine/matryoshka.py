"""Prefixes of an embedding that are embeddings themselves.

In:  embeddings float32 [..., D] and a rung of the bundle's ladder.
Out: unit embeddings float32 [..., d], which own their memory.
Knows nothing about bundles, models or search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.errors import DimError


def check_dim(dim: int, ladder: Sequence[int]) -> int:
    """`dim` if it is a rung; between rungs the heads were never trained, so it is refused."""
    if isinstance(dim, bool) or dim not in ladder:
        rungs = ", ".join(map(str, ladder))
        raise DimError(f"dim {dim!r} is not on the ladder; take one of {rungs}")
    return int(dim)


def truncate(x: Float32, dim: int, ladder: Sequence[int] | None = None) -> Float32:
    """[..., D] -> [..., dim]: the first entries, normalised again; `ladder` refuses other dims."""
    if ladder is not None:
        check_dim(dim, ladder)
    width = x.shape[-1] if x.ndim else 0
    if not 1 <= dim <= width:
        raise DimError(f"dim {dim} of an embedding of {width}; take 1 to {width}")
    return l2_normalize(np.asarray(x[..., :dim], dtype=np.float32))
