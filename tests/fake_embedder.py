"""An embedder without a model: its vectors depend on the bytes alone, or are handed to it.

In:  texts; paths or bytes, hashed; or (vectors [W, 512], rate_hz), taken as they are.
Out: unit vectors with spans of 5 s, as a collection expects them.
Knows nothing about sound: it stands in for the collaborator, not for the thing tested.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, l2_normalize
from clap_engine.collection import Collection
from clap_engine.errors import AudioError, TextError

DIM = 512
WINDOW_S = 5.0
# Where a test that needs no real disk runs eight times as fast: memory, on Linux.
FAST_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def hashed(data: bytes, rows: int) -> Float32:
    """[rows, DIM] unit vectors that depend on `data` alone; energy falls along the dims."""
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return l2_normalize(noise * np.arange(1, DIM + 1, dtype=np.float32) ** -0.35)


def power_law(rows: int, seed: int, exponent: float = 0.7) -> Float32:
    """[rows, DIM] unit vectors whose variances fall as i^-exponent."""
    noise = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    return l2_normalize(noise * np.arange(1, DIM + 1, dtype=np.float32) ** (-exponent / 2))


class FakeEmbedder:
    """Counts what it embedded, so that tests can tell skipping from doing again."""

    bundle_id = "fake"
    revision = "0" * 64
    dim = DIM
    ladder = (32, 64, 128, 256, 512)

    def __init__(self, space_id: str = "5" * 64) -> None:
        self.space_id = space_id
        self.embedded: list[Any] = []

    def embed_text(self, texts: list[str]) -> Float32:
        if not all(text.strip() for text in texts):
            raise TextError("a text is empty; write something")
        return np.concatenate([hashed(text.encode(), 1) for text in texts])

    def embed_windows(self, source: Any) -> tuple[Float32, Any, float]:
        self.embedded.append(source)
        if isinstance(source, tuple):
            vectors = np.atleast_2d(np.asarray(source[0], np.float32))
        else:
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
            if data.startswith(b"bad"):
                raise AudioError("this is no sound; give one")
            vectors = hashed(data, 1 + len(data) % 4)
        starts = np.arange(len(vectors)) * WINDOW_S
        spans = np.stack([starts, starts + WINDOW_S], axis=1)
        return vectors, spans, float(spans[-1, 1])


def sound_of(vectors: Float32) -> tuple[Float32, int]:
    """A source that FakeEmbedder gives back as these vectors."""
    return (np.atleast_2d(vectors), 32000)


def fill(collection: Collection, vectors: Float32, prefix: str = "k") -> list[str]:
    """Add one clip of one window for each vector, and wait for the rebuild if due; the keys."""
    keys = [f"{prefix}{i:06d}" for i in range(len(vectors))]
    report = collection.add([sound_of(row) for row in vectors], keys=keys)
    assert not report.failed
    collection._writer.join()
    return keys


def child_environment() -> dict[str, str]:
    """The environment for a subprocess that imports what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
