"""The background of a query: what unrelated sounds score, and what share of them a score beats.

In:  a view of rows, a unit query vector float32 [D]; scores.
Out: mean and spread of the scores of a sample; shares from 0 to 1.
Knows nothing about ranking or what queries say.
"""

from __future__ import annotations

import math

import numpy as np

from clap_engine.arrays import Float32
from clap_engine.index.view import View

# Rows whose scores are the background of a sum, which no exporter can have measured.
_ROWS = 1000
_SEED = 0


def sampled(view: View, vector: Float32) -> tuple[float, float] | None:
    """Mean and spread of the scores of a sample of rows, the same one for the same view."""
    if view.rows <= _ROWS:
        positions = view.everything()
    else:
        total = len(view.base) + len(view.tail)
        drawn = np.random.default_rng(_SEED).integers(0, total, _ROWS)
        gone = np.concatenate([view.base_dead, view.tail_dead + len(view.base)])
        positions = np.setdiff1d(drawn, gone)
    scores = view.scores(positions, vector)
    std = float(scores.std()) if len(scores) else 0.0
    return (float(scores.mean()), std) if std > 0 else None


def calibrated(score: float, background: tuple[float, float] | None) -> float | None:
    """The share of unrelated pairs that score lower; None where their mean and std aren't known."""
    if background is None:
        return None
    mean, std = background
    return 0.5 * (1.0 + math.erf((score - mean) / (std * math.sqrt(2.0))))
