"""More embeddings than can be rendered: made of real ones, each near one of them.

In:  embeddings of real sounds, unit rows float32 [S, D].
Out: as many more as are wanted, and figures that tell whether they are alike.
Knows nothing about sounds, files or search engines.

A made row starts at a real one, its origin, and moves as the rows around the origin vary: a draw
from the normal distribution that has the covariance of the origin's nearest neighbours, shrunk
towards their mean so that what is made spreads no wider than what it was made of. Directions in
which sounds of a kind don't differ stay still, so that classes, spectrum and the distance to the
nearest neighbours are those of real sounds. NEAR and SPREAD were chosen by growing 3,000 real
embeddings to 24,000 and comparing with 24,000 real ones: a smaller SPREAD leaves clumps, a larger
one or more neighbours blur the classes (see `table`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clap_engine.arrays import Float32, Int64, l2_normalize

NEAR, SPREAD = 16, 0.9
# Shortlists by 32 dims whose share of the true top ten is compared, and the rows looked at.
LENGTHS = (50, 100, 200, 500, 1000)
PROBES, COARSE = 1000, 32
_AT_ONCE = 2000


@dataclass(frozen=True)
class Likeness:
    """What must agree between real rows and made ones; medians and shares.

    `rank`: directions that the variance fills (participation ratio); `in_32`, `in_128`: share of
    the variance in the first dims; `nearest`: cosine of each row to its 1st, 10th and 50th
    neighbour (median); `pure`: share of the ten nearest that are of the row's class; `texts`,
    `windows`: share of the true ten in an exact shortlist of LENGTHS by 32 dims.
    """

    rows: int
    rank: float
    in_32: float
    in_128: float
    nearest: tuple[float, ...]
    pure: float
    texts: tuple[float, ...]
    windows: tuple[float, ...]


def neighbours(seeds: Float32, count: int = NEAR) -> Int64:
    """[S, D] -> [S, count]: the nearest other rows of each, in any order."""
    found = np.empty((len(seeds), count), np.int64)
    for start in range(0, len(seeds), _AT_ONCE):
        scores = seeds[start : start + _AT_ONCE] @ seeds.T
        here = np.arange(len(scores))
        scores[here, here + start] = -np.inf
        found[start : start + _AT_ONCE] = np.argpartition(-scores, count, axis=1)[:, :count]
    return found


def grow(
    seeds: Float32, near: Int64, origins: Int64, rng: np.random.Generator, spread: float = SPREAD
) -> Float32:
    """A row [N, D] for each of the origins [N]."""
    still = np.float32(np.sqrt(1 - spread**2))
    made = np.empty((len(origins), seeds.shape[1]), np.float32)
    for start in range(0, len(origins), _AT_ONCE):
        some = origins[start : start + _AT_ONCE]
        around = seeds[near[some]]
        mean = around.mean(axis=1)
        around -= mean[:, None]
        weights = rng.standard_normal((len(some), near.shape[1]), np.float32)
        weights *= np.float32(spread / np.sqrt(near.shape[1]))
        moved = np.matmul(weights[:, None], around)[:, 0]
        made[start : start + _AT_ONCE] = mean + still * (seeds[some] - mean) + moved
    return l2_normalize(made)


def origins(seeds: int, start: int, count: int, seed: int) -> Int64:
    """Origins of the made rows start, start + 1, ...: all seeds in a new order, again and again."""
    found = []
    while count > 0:
        turn, at = divmod(start, seeds)
        order = np.random.default_rng([seed, 19, turn]).permutation(seeds)[at : at + count]
        found.append(order)
        start, count = start + len(order), count - len(order)
    return np.concatenate(found)


def likeness(rows: Float32, classes: Int64, texts: Float32, seed: int = 0) -> Likeness:
    """Figures of rows [N, D] of classes [N], asked by texts [M, D] and by rows of theirs."""
    centred = rows - rows.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)
    by_dim = np.square(centred).sum(axis=0)
    drawn = np.random.default_rng([seed, 23]).choice(len(rows), min(PROBES, len(rows)), False)
    scores = rows[drawn] @ rows.T
    scores[np.arange(len(drawn)), drawn] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    best = np.take_along_axis(scores, order, 1)
    pure = classes[order[:, :10]] == classes[drawn][:, None]
    none = np.full(len(texts), -1)
    return Likeness(
        len(rows),
        float(variances.sum() ** 2 / np.square(variances).sum()),
        float(by_dim[:32].sum() / by_dim.sum()),
        float(by_dim[:128].sum() / by_dim.sum()),
        tuple(float(np.median(best[:, at])) for at in (0, 9, 49)),
        float(pure.mean()),
        held(rows, texts, none),
        held(rows, rows[drawn[:300]], drawn[:300]),
    )


def held(rows: Float32, queries: Float32, own: Int64) -> tuple[float, ...]:
    """Share of each query's true ten within the shortlists of LENGTHS by 32 dims."""
    scores = queries @ rows.T
    coarse = l2_normalize(queries[:, :COARSE]) @ l2_normalize(rows[:, :COARSE]).T
    for query in np.flatnonzero(own >= 0):
        scores[query, own[query]] = coarse[query, own[query]] = -np.inf
    true = np.argpartition(-scores, 10, axis=1)[:, :10]
    ranks = np.array(
        [
            [np.count_nonzero(row >= row[at]) for at in some]
            for row, some in zip(coarse, true, strict=True)
        ]
    )
    return tuple(float((ranks <= length).mean()) for length in LENGTHS)


def table(found: dict[str, Likeness]) -> str:
    """The figures side by side, in markdown."""
    head = "| | " + " | ".join(found) + " |\n|---|" + "---|" * len(found)
    rows: list[tuple[str, list[str]]] = []

    def add(name: str, pick: Any) -> None:
        rows.append((name, [pick(one) for one in found.values()]))

    add("rows", lambda one: f"{one.rows:,}")
    add("participation ratio of the variances", lambda one: f"{one.rank:.1f}")
    add("variance in dims 32 / 128", lambda one: f"{one.in_32:.3f} / {one.in_128:.3f}")
    add("cosine to neighbour 1 / 10 / 50", lambda one: " / ".join(f"{v:.3f}" for v in one.nearest))
    add("ten nearest of the same class", lambda one: f"{one.pure:.3f}")
    for kind, asked in (("texts", "texts"), ("windows", "rows")):
        for at, length in enumerate(LENGTHS):
            name = f"top ten of {asked} in 32-d top {length}"
            add(name, lambda one, kind=kind, at=at: f"{getattr(one, kind)[at]:.3f}")
    return "\n".join([head, *(f"| {name} | {' | '.join(values)} |" for name, values in rows)])


def facts(found: dict[str, Likeness]) -> dict[str, Any]:
    """The same as JSON values."""
    return {name: asdict(one) for name, one in found.items()}
