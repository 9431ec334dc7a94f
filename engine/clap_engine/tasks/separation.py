"""How well embeddings tell classes apart: figures, the pairs that are mixed up, a plane.

In:  rows float32 [N, D] (made unit rows), a label for each.
Out: `Separation`.
Knows nothing about sounds, files or pictures. Memory is O(N + chunk), never [N, N].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Float64, check_array, l2_normalize
from clap_engine.errors import TaskError

Int64 = npt.NDArray[np.int64]

NEIGHBOURS = 10
MAX_CLASSES = 10_000
CHUNK = 512
PAIRS = 20


@dataclass(frozen=True)
class ClassFigures:
    """One class: its rows, their mean silhouette, the share of neighbours of the same class, the
    share that lies nearest to the class' own middle."""

    label: str
    count: int
    silhouette: float
    purity: float
    accuracy: float


@dataclass(frozen=True)
class Confusion:
    """`count` rows of `label` lie nearer to the middle of `taken_for` than to their own."""

    label: str
    taken_for: str
    count: int
    share: float


@dataclass(frozen=True)
class Plane:
    """The two directions of most variance: `points` float64 [N, 2], `share` of all variance."""

    points: Float64
    share: float


@dataclass(frozen=True)
class Separation:
    """`silhouette` (cosine distance, -1 to 1) and `purity` (of the `neighbours` nearest) are means
    over rows; `fisher` is the variance between classes over that within, `davies_bouldin` lower
    where classes are further apart: both None where no class has any spread or all middles are one.
    `accuracy` is that of the nearest middle, a row's own middle taken without it.
    """

    count: int
    silhouette: float
    purity: float
    neighbours: int
    fisher: float | None
    davies_bouldin: float | None
    accuracy: float
    classes: tuple[ClassFigures, ...]
    confusions: tuple[Confusion, ...]
    labels: tuple[str, ...]
    plane: Plane


def separate(rows: Any, labels: Sequence[str], *, neighbours: int = NEIGHBOURS) -> Separation:
    """All figures; TaskError for fewer than two classes, ArrayError for rows that are no numbers.

    A class of one row has silhouette 0 and counts as found nowhere: it has no middle without it.
    """
    x, names, classes, sums, counts = _checked(rows, labels, neighbours)
    silhouette = _silhouettes(x, classes, sums, counts)
    purity, k = _purities(x, classes, min(neighbours, len(x) - 1))
    found = _nearest_middles(x, classes, sums, counts)
    fisher, davies_bouldin = _spreads(x, classes, sums, counts)
    return Separation(
        count=len(x),
        silhouette=float(silhouette.mean()),
        purity=float(purity.mean()),
        neighbours=k,
        fisher=fisher,
        davies_bouldin=davies_bouldin,
        accuracy=float((found == classes).mean()),
        classes=tuple(
            ClassFigures(
                name, int(counts[c]), float(silhouette[classes == c].mean()),
                float(purity[classes == c].mean()), float((found[classes == c] == c).mean()),
            )
            for c, name in enumerate(names)
        ),
        confusions=_confusions(classes, found, names, counts),
        labels=tuple(labels),
        plane=_plane(x),
    )  # fmt: skip


def by_row(
    rows: Any, labels: Sequence[str], *, neighbours: int = NEIGHBOURS
) -> tuple[Float64, Float64]:
    """[N] 1 where the nearest middle is the row's own, else 0; [N] its share of the `neighbours`
    nearest rows that are of its class. `separate` has their means; the same errors."""
    x, _, classes, sums, counts = _checked(rows, labels, neighbours)
    right = _nearest_middles(x, classes, sums, counts) == classes
    purity, _ = _purities(x, classes, min(neighbours, len(x) - 1))
    return right.astype(np.float64), purity


def _checked(
    rows: Any, labels: Sequence[str], neighbours: int
) -> tuple[Float32, tuple[str, ...], Int64, Float64, Int64]:
    """Unit rows [N, D], the classes' names, each row's class [N], their sums [C, D], counts [C]."""
    x = check_array(rows, shape=(None, None), name="rows")
    if len(x) != len(labels):
        raise TaskError(f"{len(x)} rows have {len(labels)} labels; give one each")
    if any(not isinstance(label, str) or not label.strip() for label in labels):
        raise TaskError("a label is blank or no text; give each row a name of its class")
    if neighbours < 1:
        raise TaskError(f"neighbours is {neighbours}; give 1 or more")
    names = tuple(sorted(set(labels)))
    if not 2 <= len(names) <= MAX_CLASSES:
        raise TaskError(
            f"{len(names)} classes are given; 2 to {MAX_CLASSES} can be told apart or not"
        )
    x = l2_normalize(x)
    place = {name: number for number, name in enumerate(names)}
    classes = np.array([place[label] for label in labels], np.int64)
    counts = np.bincount(classes, minlength=len(names))
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, classes, x.astype(np.float64))
    return x, names, classes, sums, counts


def _silhouettes(x: Float32, classes: Int64, sums: Float64, counts: Int64) -> Float64:
    """[N]; a mean of cosines with a class is one product with the class' sum: exact, in O(N C)."""
    own = np.arange(len(x)), classes
    cosines = x @ sums.T
    n = counts[classes]
    within = 1.0 - (cosines[own] - 1.0) / np.maximum(n - 1, 1)
    others = 1.0 - cosines / counts
    others[own] = np.inf
    nearest = others.min(axis=1)
    most = np.maximum(np.maximum(within, nearest), 1e-12)
    return np.asarray(np.where(n > 1, (nearest - within) / most, 0.0), np.float64)


def _purities(x: Float32, classes: Int64, k: int) -> tuple[Float64, int]:
    """[N] share of the k nearest rows that are of the same class, ties by their order."""
    shares = np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        cosines = x[start : start + CHUNK] @ x.T
        mine = np.arange(len(cosines))
        cosines[mine, start + mine] = -np.inf
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        shares[start : start + CHUNK] = (
            classes[nearest] == classes[start : start + CHUNK, None]
        ).mean(axis=1)
    return shares, k


def _nearest_middles(x: Float32, classes: Int64, sums: Float64, counts: Int64) -> Int64:
    """[N] the class whose middle is nearest by cosine, the own one taken without the row."""
    lengths = np.maximum(np.linalg.norm(sums, axis=1), 1e-12)
    cosines = (x @ sums.T) / lengths
    rest = sums[classes] - x
    own = np.einsum("nd,nd->n", rest, x) / np.maximum(np.linalg.norm(rest, axis=1), 1e-12)
    cosines[np.arange(len(x)), classes] = np.where(counts[classes] > 1, own, -np.inf)
    return np.asarray(cosines.argmax(axis=1), np.int64)


def _spreads(
    x: Float32, classes: Int64, sums: Float64, counts: Int64
) -> tuple[float | None, float | None]:
    """Fisher's ratio of variances, and the index of Davies and Bouldin over Euclidean distance."""
    middles = sums / counts[:, None]
    away = np.square(x - middles[classes]).sum(axis=1)
    mean = x.mean(axis=0, dtype=np.float64)
    between = float((counts * np.square(middles - mean).sum(axis=1)).sum() / len(x))
    within = float(away.mean())
    fisher = between / within if within > 1e-12 else None
    spread = np.sqrt(np.bincount(classes, weights=away, minlength=len(counts)) / counts)
    squares = np.square(middles).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * middles @ middles.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    if float(distance.min()) < 1e-6:
        return fisher, None
    worst = ((spread[:, None] + spread) / distance).max(axis=1)
    return fisher, float(worst.mean())


def _confusions(
    classes: Int64, found: Int64, names: tuple[str, ...], counts: Int64
) -> tuple[Confusion, ...]:
    """The pairs that are taken for each other most often."""
    wrong = classes != found
    pairs, numbers = np.unique(
        np.stack([classes[wrong], found[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-numbers, kind="stable")[:PAIRS]
    return tuple(
        Confusion(names[a], names[b], int(n), float(n / counts[a]))
        for (a, b), n in ((pairs[i], numbers[i]) for i in order)
    )


def _plane(x: Float32) -> Plane:
    """The first two principal components; each points so that its largest weight is positive."""
    centred = x - x.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    axes = axes * np.where(signs == 0, 1.0, signs)
    points = np.zeros((len(x), 2))
    points[:, : axes.shape[1]] = centred @ axes
    total = float(values.sum())
    return Plane(points, float(values[::-1][:2].sum() / total) if total > 1e-12 else 0.0)
