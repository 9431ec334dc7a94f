"""A map of a collection: the plane in which a sample of its clips lies widest.

In:  an open collection; how many clips to draw.
Out: keys and points float32 [N, 2] within -1 and 1; points of other clips on the same plane.
Knows nothing about requests or pages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.collection import Collection

# The sample is drawn anew, where the collection has grown or shrunk, no more often than this.
_FRESH_S = 10.0
_SEED = 0


@dataclass(frozen=True)
class Plane:
    """Two principal axes float32 [D, 2] through the mean [D], scaled so that the sample fits."""

    mean: Float32
    axes: Float32
    share: float  # of the sample's variance that both axes show
    keys: tuple[str, ...]
    points: Float32
    clips: int

    def place(self, vectors: Float32) -> Float32:
        """[N, D] -> [N, 2], points outside moved to the edge."""
        return np.clip((vectors - self.mean) @ self.axes, -1, 1).astype(np.float32)


class ClipMap:
    """The plane of one collection, kept while it stays as large as it is."""

    def __init__(self, sounds: Collection, most: int) -> None:
        self._sounds = sounds
        self._most = most
        self._lock = threading.Lock()
        self._plane: Plane | None = None
        self._made_s = 0.0

    def plane(self) -> Plane:
        """The newest plane."""
        with self._lock:
            now, clips = time.monotonic(), len(self._sounds)
            is_stale = self._plane is None or (
                self._plane.clips != clips and now - self._made_s > _FRESH_S
            )
            if self._plane is None or is_stale:
                sample = self._sounds.clip_vectors(most=self._most, seed=_SEED)
                self._plane = plane_of(sample.keys, sample.vectors, clips)
                self._made_s = now
            return self._plane

    def places(self, keys: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Where clips of these keys lie, those aside that are gone."""
        plane = self.plane()
        found = self._sounds.clip_vectors(keys)
        points = plane.place(found.vectors).tolist()
        return {key: (x, y) for key, (x, y) in zip(found.keys, points, strict=True)}


def plane_of(keys: Sequence[str], vectors: Float32, clips: int) -> Plane:
    """The principal plane of vectors [N, D]; where there is no such, all lie in the middle."""
    dim = vectors.shape[1]
    if not len(vectors):
        none = np.zeros((0, 2), np.float32)
        return Plane(np.zeros(dim, np.float32), np.zeros((dim, 2), np.float32), 0.0, (), none, 0)
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    # An axis points to where its largest entry does: the map is no mirror image of the last one.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    total = float(values.sum())
    share = float(values[-2:].sum()) / total if total > 1e-12 else 0.0
    spread = np.abs(centred @ axes).max()
    axes = (axes / max(float(spread), 1e-6)).astype(np.float32)
    plane = Plane(mean, axes, share, tuple(keys), np.zeros((0, 2), np.float32), clips)
    return Plane(mean, axes, share, tuple(keys), plane.place(vectors), clips)
