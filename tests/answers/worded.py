"""Sounds made of words: a clip's vector is the sum of those of the texts that are heard in it.

In:  keys, the texts of each window, metadata.
Out: a collection in which a text's score says how much of it is in a window.
Knows nothing about models: texts are random directions, near orthogonal to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fake_embedder import DIM, FakeEmbedder, hashed, sound_of

from clap_engine.arrays import l2_normalize
from clap_engine.collection import Collection

# Unrelated texts have cosines of this spread here; so one of three heard, .58, stands out.
CALIBRATION = {"text_mean": 0.0, "text_std": 0.1, "audio_mean": 0.0, "audio_std": 0.1}

CLIPS = {
    "banjo.wav": ["banjo"],
    "both.wav": ["silence", "banjo rain"],
    "rain.wav": ["rain", "thunder"],
    "drums.wav": ["banjo drums cymbals"],
    "dogs/bark.wav": ["dogs barking"],
    "far.wav": ["theorem"],
}
METADATA = {
    "banjo.wav": {"year": 1994, "genre": "folk", "artist": "Ann Bo"},
    "both.wav": {"year": 1999, "genre": ["folk", "field"]},
    "rain.wav": {"year": 2005, "genre": "field"},
    "drums.wav": {"year": 1994, "genre": "rock"},
}


class WordEmbedder(FakeEmbedder):
    """Knows a text by its words: their sum, articles aside."""

    calibration = CALIBRATION

    def embed_text(self, texts: list[str]) -> Any:
        return np.stack([vector_of(text) for text in texts])


def vector_of(text: str) -> Any:
    """[D]: the unit sum of the words' directions."""
    words = [word.strip(",.?!").rstrip("s") for word in text.lower().split()]
    kept = [word for word in words if word not in ("a", "an", "the", "and", "of", "or")] or words
    return l2_normalize(np.sum([spread(word) for word in kept], axis=0)[None])[0]


def spread(word: str) -> Any:
    """[D]: a random direction of this word; no energy is gathered in its first dims."""
    seed = int.from_bytes(hashed(word.encode(), 1)[0, :2].tobytes(), "little")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32) / DIM**0.5


def make(
    path: Path,
    clips: Mapping[str, Sequence[str]],
    metadata: Mapping[str, dict[str, Any]] | None = None,
    declared: Sequence[str] = (),
    calibration: Mapping[str, float] | None = CALIBRATION,
) -> Collection:
    """A collection of clips {key: the texts of its windows}, of 5 s each."""
    embedder = WordEmbedder()
    if calibration is None:
        embedder.calibration = {}
    sounds = Collection.open(path, embedder=embedder, create=True)
    sources = [sound_of(np.stack([vector_of(text) for text in texts])) for texts in clips.values()]
    known = metadata or {}
    report = sounds.add(sources, keys=list(clips), metadata=[known.get(key) for key in clips])
    assert not report.failed
    sounds.declare_filters(list(declared))
    return sounds
