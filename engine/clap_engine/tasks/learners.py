"""A linear rule from a handful of examples a class.

In:  unit rows float32 [N, D]; class numbers int [N] from 0 to C - 1, each there at least once;
     perhaps a unit row of words for each class [C, D].
Out: weights float64 [C, D] and bias [C]: the class of a row is the largest of `row @ W.T + b`.
Knows nothing about labels, sounds or files. Deterministic: no start is drawn by lot.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Float64

Classes = npt.NDArray[np.int64]
Rule = tuple[Float64, Float64]

# Chosen on four groups of held-out classes, 1 to 16 examples each (docs/decisions.md): ridge is
# level with logistic regression, which needs steps, and far above prototypes from four examples on.
RIDGE = 0.3
# The words of a class count as so many examples more.
WORDS = 2.0


def ridge(rows: Float32, classes: Classes, count: int, words: Float32 | None = None) -> Rule:
    """Least squares on +1 and -1 with a penalty; each class weighs the same.

    Rows of words lie elsewhere in the space than sounds: both are taken relative to the mean of
    their classes, and brought to the same length.
    """
    sizes = np.bincount(classes, minlength=count)
    weight = 1.0 / (count * sizes[classes])
    centre = weight @ rows.astype(np.float64)
    x, targets = rows - centre, _signs(classes, count)
    if words is not None:
        share = WORDS / (WORDS + len(rows) / count)
        x = np.concatenate([x, _like(words, x)])
        weight = np.concatenate([weight * (1 - share), np.full(count, share / count)])
        targets = np.concatenate([targets, _signs(np.arange(count), count)])
    mean = weight @ targets
    root = np.sqrt(weight)[:, None]
    a = root * x
    # In the span of the examples: N equations instead of D.
    gram = a @ a.T + RIDGE / len(x) * np.eye(len(x))
    weights = (a.T @ np.linalg.solve(gram, root * (targets - mean))).T
    return weights, mean - weights @ centre


def _signs(classes: Classes, count: int) -> Float64:
    return np.where(np.arange(count) == classes[:, None], 1.0, -1.0)


def _like(words: Float32, x: Float64) -> Float64:
    """Words less their mean, as long as the rows of `x` are on average."""
    around = words - words.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(around, axis=1).mean()
    return np.asarray(around * (np.linalg.norm(x, axis=1).mean() / max(length, 1e-12)))
