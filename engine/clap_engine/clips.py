"""A clip's embedding from those of its windows.

In:  the windows of one clip: unit rows float32 [W, D], their spans.
Out: unit embedding float32 [D].
Knows nothing about sounds or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, Float64, l2_normalize


@dataclass(frozen=True)
class ClipWindows:
    """One clip's windows: `vectors` float32 [W, D] unit rows, `spans` seconds [W, 2]."""

    vectors: Float32
    spans: Float64
    duration_s: float

    @property
    def embedding(self) -> Float32:
        """[D], the normalised mean of the windows."""
        return clip_embedding(self.vectors)


def clip_embedding(vectors: Float32) -> Float32:
    """[W, D] -> [D], the normalised mean; one window is returned as it is, to the bit."""
    mean = vectors[:1].copy()
    if len(vectors) > 1:
        mean = l2_normalize(vectors.mean(axis=0, dtype=np.float32, keepdims=True))
    (embedding,) = mean
    return np.asarray(embedding, np.float32)
