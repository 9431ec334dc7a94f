"""Arrays at the door: checks, unit rows, and the denormals that make matrix products crawl.

In:  anything array-like from a caller.
Out: float32, C-contiguous, finite arrays that the caller does not own.
Knows nothing about audio, text or files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.errors import ArrayError

Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Below this, float32 products fall into denormals and run some 50 times slower; it is
# 400 dB under full scale, so nothing audible is lost.
TINY = np.float32(1e-20)


def l2_normalize(x: Float32, eps: float = 1e-12) -> Float32:
    """[B, D] -> [B, D] with unit rows; a zero row stays zero, never NaN."""
    norm = np.sqrt(np.einsum("...d,...d->...", x, x, dtype=np.float32))[..., None]
    return np.asarray(x / np.maximum(norm, np.float32(eps)), dtype=np.float32)


def flush_denormals(x: Float32) -> Float32:
    """A copy in which every |value| < 1e-20 is 0."""
    return np.where(np.abs(x) < TINY, np.float32(0), x)


def check_array(x: Any, *, shape: tuple[int | None, ...], name: str = "array") -> Float32:
    """`x` as finite C-contiguous float32 of `shape` (None: any length); never written to later.

    Raises ArrayError on another number of axes, another length, a dtype that is not real
    numbers, or a value that is not finite.
    """
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ArrayError(f"{name} is ragged: {error}; give rows of one length") from error
    if array.dtype.kind not in "fiu":
        raise ArrayError(f"{name} has dtype {array.dtype}; give real numbers (float32 is best)")
    wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
    if array.ndim != len(shape) or any(
        n is not None and n != m for n, m in zip(shape, array.shape, strict=True)
    ):
        raise ArrayError(f"{name} has shape {list(array.shape)}; {wanted} is needed")
    result = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(result).all():
        raise ArrayError(f"{name} holds NaN or infinity; clean the data first")
    return result
