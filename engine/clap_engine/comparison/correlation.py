"""Does a picture predict accuracy? Rank correlations over classes, with their intervals.

In:  a separation with its plane; how often each class is right.
Out: `Separated`.
Knows nothing about models or sounds.

A class' separation in the plane is the mean silhouette of its points by Euclidean distance, of the
simplified kind (Hruschka et al., 2004): the distance to the middle of its own class, taken without
the point, against that to the nearest other middle. A class of one clip has no silhouette and is
not ranked. Intervals are percentile bootstrap over classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clap_engine.arrays import Float64
from clap_engine.comparison.results import ClassPoint, Correlation, Separated
from clap_engine.evaluation.bootstrap import LEVEL
from clap_engine.tasks.separation import Separation

# Fewer classes have no ranks worth the name.
LEAST = 5


def separated(
    found: Separation, accuracy: Mapping[str, float] | None, *, seed: int, resamples: int
) -> Separated:
    """With `accuracy` by label, or that of the nearest middle where it is None."""
    plane = plane_silhouettes(found.plane.points, found.labels)
    points = tuple(
        ClassPoint(
            one.label, one.count, plane[one.label], one.silhouette,
            one.accuracy if accuracy is None else accuracy[one.label],
        )
        for one in found.classes
        if accuracy is None or one.label in accuracy
    )  # fmt: skip
    ranked = [point for point in points if point.count > 1]
    right = np.array([point.accuracy for point in ranked])

    def told_by(values: Sequence[float]) -> Correlation | None:
        return correlation(np.array(values), right, seed=seed, resamples=resamples)

    return Separated(
        figures=found,
        classes=points,
        accuracy_of="nearest middle" if accuracy is None else "zero-shot",
        plane_tells=told_by([point.plane for point in ranked]),
        all_dims_tell=told_by([point.all_dims for point in ranked]),
    )


def plane_silhouettes(points: Float64, labels: Sequence[str]) -> dict[str, float]:
    """[N, 2] -> by label the mean silhouette of its points; 0 for a class of one."""
    names = sorted(set(labels))
    place = {name: number for number, name in enumerate(names)}
    classes = np.array([place[label] for label in labels], np.int64)
    counts = np.bincount(classes).astype(np.float64)
    sums = np.zeros((len(names), points.shape[1]))
    np.add.at(sums, classes, points)
    own = sums[classes] - points
    own /= np.maximum(counts[classes] - 1, 1)[:, None]
    within = np.linalg.norm(points - own, axis=1)
    silhouette = np.empty(len(points))
    step = max(1, 1_000_000 // len(names))
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        away = np.linalg.norm(points[part, None] - (sums / counts[:, None])[None], axis=2)
        away[np.arange(len(away)), classes[part]] = np.inf
        nearest = away.min(axis=1)
        most = np.maximum(np.maximum(within[part], nearest), 1e-12)
        silhouette[part] = (nearest - within[part]) / most
    silhouette[counts[classes] < 2] = 0.0
    means = np.bincount(classes, silhouette) / counts
    return {name: float(means[number]) for name, number in place.items()}


def correlation(x: Float64, y: Float64, *, seed: int, resamples: int) -> Correlation | None:
    """[C], [C] -> Spearman's; None below LEAST classes or where one is the same for all."""
    rho = spearman(x, y) if len(x) >= LEAST else None
    if rho is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(len(x), size=len(x))
        one = spearman(x[chosen], y[chosen])
        if one is not None:
            drawn.append(one)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn or [rho], [tail, 1 - tail])
    return Correlation(rho, float(low), float(high), len(x))


def spearman(x: Float64, y: Float64) -> float | None:
    """The correlation of ranks, ties by their mean rank; None where one is the same for all."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 0 else None


def ranks(x: Float64) -> Float64:
    """[C] -> ranks from 1 on; those of equal values are their mean."""
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[group.reshape(-1)], np.float64)
