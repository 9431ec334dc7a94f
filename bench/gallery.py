"""Vectors to search: the bundle's own embeddings, 10,000 of them, or more made of those.

In:  the subject's int8 audio graph; a rendered corpus, or the calibration windows of the weights.
Out: unit vectors float32 [N, 512], and collections that hold them.
Knows nothing about queries or time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_engine.collection import Collection
from clap_engine.engine import Engine

if TYPE_CHECKING:
    from subject import Subject

WINDOW_S = 5.0
# How far a made vector goes from its own sound towards others, see `spread`.
MIXED = (0.1, 0.5)


def embeddings(subject: Subject, corpus: Path | None, count: int) -> tuple[Float32, str]:
    """[count, 512] from real log-mels, and where those come from."""
    from clap_export.corpus import render
    from subject import embed_log_mels

    if corpus is not None and any((corpus / "train").glob("*.npz")):
        log_mels, _ = render.load(corpus / "train")
        if len(log_mels) >= count:
            decibels = log_mels[:count].astype(np.float32) * render.DB_STEP - 80.0
            rows = embed_log_mels(subject.bundle, "int8", decibels)
            return rows, f"{count} clips of the training corpus"
    seeds = subject.weights.log_mels
    rows = np.concatenate(
        [
            embed_log_mels(subject.bundle, "int8", mixtures(seeds, min(500, count - start), start))
            for start in range(0, count, 500)
        ]
    )
    return rows, f"mixtures of {len(seeds)} calibration windows"


def mixtures(log_mels: Float32, count: int, seed: int) -> Float32:
    """[count, F, M]: two windows each, moved in time and pitch, one up to 15 dB under the other."""
    return mixed(log_mels, count, seed)[0]


def mixed(log_mels: Float32, count: int, seed: int) -> tuple[Float32, Int64]:
    """`mixtures`, and which window is the louder one in each [count]."""
    rng = np.random.default_rng([seed, 11])
    power = np.zeros((count, *log_mels.shape[1:]))
    chosen = []
    for fall_db in (0.0, rng.uniform(0, 15, (count, 1, 1))):
        chosen.append(rng.integers(len(log_mels), size=count))
        part = log_mels[chosen[-1]]
        part = np.stack([np.roll(row, int(rng.integers(row.shape[0])), axis=0) for row in part])
        part = np.stack([np.roll(row, int(rng.integers(-6, 7)), axis=1) for row in part])
        power += 10 ** ((part - fall_db) / 10)
    decibels = 10 * np.log10(power / power.max(axis=(1, 2), keepdims=True))
    return np.asarray(np.clip(decibels, -80, 0), np.float32), chosen[0]


def spread(rows: Float32, count: int, seed: int = 0) -> Float32:
    """[N, D] -> [count, D]: the rows themselves, then mixtures of two of them and a little noise.

    More sounds than can be rendered here: each goes 10 to 50 % of the way from one embedding
    to another's, plus a tenth of a random third difference, so that no two are alike and the
    spectrum of the variances stays that of the real ones.
    """
    rng = np.random.default_rng([seed, 13])
    made = [rows]
    for start in range(len(rows), count, 10_000):
        n = min(10_000, count - start)
        a, b, c, d = (rows[rng.integers(len(rows), size=n)] for _ in range(4))
        share = rng.uniform(*MIXED, (n, 1)).astype(np.float32)
        made.append(l2_normalize((1 - share) * a + share * b + np.float32(0.1) * (c - d)))
    return np.concatenate(made)[:count]


class Stored:
    """An embedder that is handed its vectors: it fills a collection without any sound."""

    def __init__(self, engine: Engine) -> None:
        self.bundle_id, self.revision = engine.bundle_id, engine.revision
        self.space_id, self.dim, self.ladder = engine.space_id, engine.dim, engine.ladder

    def embed_text(self, texts: list[str], /) -> Float32:
        """Never asked: the collection is searched through the engine."""
        raise NotImplementedError

    def embed_windows(self, source: Any, /) -> tuple[Float32, Any, float]:
        """One vector [1, D] as a clip of one window."""
        vector, _ = source
        return vector, np.array([[0.0, WINDOW_S]]), WINDOW_S


def fill(folder: Path, engine: Engine, rows: Float32) -> list[str]:
    """A collection of one clip for each row; the keys, in their order."""
    keys = [f"{number:06d}.wav" for number in range(len(rows))]
    sources = ((rows[i : i + 1], 1) for i in range(len(rows)))
    with Collection.open(folder, embedder=Stored(engine), create=True) as collection:
        report = collection.add(sources, keys=keys)
        if report.added != len(rows):
            raise RuntimeError(f"{report.added} of {len(rows)} vectors were stored")
    return keys
