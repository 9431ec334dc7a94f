"""What a collection keeps of a clip: all of its windows, or their mean alone.

In:  a clip with its windows; the granularity that the collection was made with.
Out: the clip as it is stored.
Knows nothing about sounds, SQL or search.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clap_engine.index.columns import clip_mean
from clap_engine.records import Granularity, NewClip


def kept(clip: NewClip, granularity: Granularity) -> NewClip:
    """The clip with its windows, or with one vector that spans them all."""
    if granularity != "clip":
        return clip
    span = np.array([[clip.spans[:, 0].min(), clip.spans[:, 1].max()]], np.float64)
    return replace(clip, vectors=clip_mean(clip.vectors), spans=span)
