"""Takes by how well they fit a prompt: the re-ranking of what a generator made.

In:  a unit row for each take [N, D]; unit rows of the prompt and of what is not wanted.
Out: `Take`s, best first, ties in the order given.
Knows nothing about files, graphs or generators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clap_engine.arrays import Float32


@dataclass(frozen=True)
class Take:
    """Take number `index` of those given; `score` is its cosine with the prompt, less that with
    what fits it best of all that is not wanted (if that is above 0)."""

    index: int
    score: float


def ranked(takes: Float32, prompt: Float32, unwanted: Float32) -> list[Take]:
    """[N, D], [D], [U, D] -> N takes, best first."""
    scores = takes @ prompt
    if len(unwanted):
        scores = scores - np.maximum((takes @ unwanted.T).max(axis=1), 0)
    order = np.argsort(-scores, kind="stable").tolist()
    return [Take(i, float(scores[i])) for i in order]
