"""What a collection holds of a clip beside its hits: where its sound lies, its one mean vector.

In:  the states of a collection; keys, or how many clips to draw.
Out: frozen `StoredClip` and `ClipVectors`.
Knows nothing about queries, scores or files of sound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.index.view import View
from clap_engine.records import Record
from clap_engine.states import States

# Rows drawn for each clip that is wanted: clips of many windows are drawn more than once.
_ROWS_PER_CLIP = 4


@dataclass(frozen=True)
class StoredClip:
    """One clip as it was added; `path` is None where it came as bytes or as a waveform."""

    key: str
    path: str | None
    duration_s: float
    digest: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class ClipVectors:
    """Keys and the normalised mean of each clip's windows, float32 [N, D]."""

    keys: tuple[str, ...]
    vectors: Float32


def clip(states: States, key: str) -> StoredClip | None:
    """The clip of that key, or None."""
    with states.guard:
        record = states.reader.find(key)
    if record is None:
        return None
    metadata: dict[str, Any] = json.loads(record.metadata)
    return StoredClip(record.key, record.path, record.duration_s, record.digest, metadata)


def vectors(states: States, keys: Sequence[str]) -> ClipVectors:
    """Of those of `keys` that are stored, each once, in their order."""
    with states.held() as view:
        found = (states.reader.find(key) for key in dict.fromkeys(keys))
        records = [record for record in found if record is not None]
        return ClipVectors(tuple(record.key for record in records), _means(view, records))


def sample(states: States, count: int, seed: int) -> ClipVectors:
    """Of at most `count` clips, by key; the same ones for the same state and seed."""
    with states.held() as view:
        everything = view.everything()
        rng = np.random.default_rng(seed)
        if len(everything) > _ROWS_PER_CLIP * count:
            everything = rng.choice(everything, _ROWS_PER_CLIP * count, replace=False)
        clips = np.unique(np.concatenate([view.base.clips, view.tail.clips])[everything])
        if len(clips) > count:
            clips = rng.choice(clips, count, replace=False)
        records = sorted(states.reader.records(clips.tolist()).values(), key=lambda r: r.key)
        return ClipVectors(tuple(record.key for record in records), _means(view, records))


def _means(view: View, records: Sequence[Record]) -> Float32:
    """[N, D]: the mean of each clip's stored vectors."""
    wanted: Int64 = np.array([record.id for record in records], np.int64)
    if not len(wanted):
        return np.zeros((0, view.base.vectors.shape[1]), np.float32)
    order = np.argsort(wanted)
    positions = view.allow(wanted[order]).positions
    clips = np.concatenate([view.base.clips, view.tail.clips])[positions]
    by_clip = np.argsort(clips, kind="stable")  # a clip lies in the generation or in the tail
    rows = view.vectors_at(positions[by_clip])
    starts = np.searchsorted(clips[by_clip], wanted[order])
    means = np.empty((len(wanted), rows.shape[1]), np.float32)
    means[order] = np.add.reduceat(rows, starts, axis=0)
    return l2_normalize(means)
