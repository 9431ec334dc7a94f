"""Do different texts come out differently? What is left of them once their mean is taken off.

In:  embeddings float32 [2n, D] of n pairs of texts, rows 2i and 2i+1 one sound in other words.
Out: a `Spread`.
Knows nothing about towers, bundles or what a finding means to a user.

The mean cosine does not tell: it is high where a few massive channels are common to all texts,
which a ranking never sees, and just as high where nothing but noise is left around the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32, l2_normalize

# Sixteen sounds in two wordings each; the wordings share words, so that a tower that has learnt
# nothing but reads its tokens (seeded random weights) still tells which two belong together.
PAIRS = (
    ("a dog barking", "a dog barks"),
    ("rain on a tin roof", "rain on a roof"),
    ("a slow banjo melody", "a banjo melody"),
    ("church bells ringing", "church bells"),
    ("a man speaking", "a man is speaking"),
    ("thunder in the distance", "distant thunder"),
    ("a car engine starting", "starting a car engine"),
    ("children laughing", "children are laughing"),
    ("a baby crying", "a crying baby"),
    ("waves on a beach", "waves on the beach"),
    ("glass breaking", "breaking glass"),
    ("a fast drum beat", "a drum beat"),
    ("footsteps on gravel", "footsteps on wet gravel"),
    ("a violin playing", "a solo violin playing"),
    ("a helicopter passing over", "a helicopter passing"),
    ("someone typing on a keyboard", "typing on a keyboard"),
)
TEXTS = tuple(text for pair in PAIRS for text in pair)


@dataclass(frozen=True)
class Spread:
    """`alike`: mean cosine of two rows. `rank`: how many directions the centred rows fill
    (participation ratio, 1 to 2n - 1). `paired`: share of rows whose nearest, centred, is the
    other row of their pair; chance is 1 / (2n - 1)."""

    alike: float
    rank: float
    paired: float


def alike(rows: Float32) -> float:
    """[N, D] unit rows, N at least 2 -> mean cosine of two different ones."""
    n = len(rows)
    return (float(np.square(rows.sum(axis=0, dtype=np.float64)).sum()) - n) / (n * (n - 1))


def measure(rows: Float32) -> Spread:
    """[2n, D] unit rows in pairs -> their spread; rows that are equal to the bit have none."""
    centred = (rows - rows.mean(axis=0, dtype=np.float64)).astype(np.float32)
    moments = np.maximum(np.linalg.eigvalsh(centred @ centred.T), 0).astype(np.float64)
    total = float(moments.sum())
    unit = l2_normalize(centred)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    partner = np.arange(len(rows)) ^ 1
    return Spread(
        alike(rows),
        total**2 / float(np.square(moments).sum()) if total else 0.0,
        float(np.mean(cosine.argmax(axis=1) == partner)) if total else 0.0,
    )
