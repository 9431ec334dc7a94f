"""Which of these labels fits a sound: best first, as shares, or each for itself.

In:  the vectors of a clip's windows [W, D]; labels and the rows of their texts [T, D].
Out: `[{"label", "score"}]`, best first, ties in the order in which the labels were given.
Knows nothing about files, graphs or templates.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from clap_engine.arrays import Float32, Float64, l2_normalize
from clap_engine.errors import TaskError
from clap_engine.tasks.labels import Labels
from clap_engine.tasks.scores import Background, shares


class LabelScore(TypedDict):
    """One label and its score from 0 to 1: the shape that transformers' pipelines give."""

    label: str
    score: float


def by_share(vectors: Float32, labels: Labels, rows: Float32, scale: float, bias: float) -> Float64:
    """[W, D], [T, D] -> [L] that sum to 1, of the normalised mean of the windows."""
    mean = vectors
    if len(vectors) > 1:
        mean = l2_normalize(vectors.mean(axis=0, dtype=np.float32, keepdims=True))
    (found,) = shares(labels.best(mean @ rows.T), scale, bias)
    return np.asarray(found, np.float64)


def by_probability(
    vectors: Float32, labels: Labels, rows: Float32, background: Background
) -> Float64:
    """[W, D], [T, D] -> [L]: how likely each label is true of the window that fits it best."""
    return background.probabilities(labels.best((vectors @ rows.T).max(axis=0)))


def check_top_k(top_k: int | None) -> None:
    """TaskError unless None or at least 1."""
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise TaskError(f"top_k is {top_k!r}; give 1 or more, or None for all labels")


def ranked(labels: Labels, scores: Float64, top_k: int | None = None) -> list[LabelScore]:
    """The labels with their scores, best first."""
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    values = scores.tolist()
    return [{"label": labels.names[i], "score": values[i]} for i in order]
