"""What each rung of a space finds: plain truncation, rotations and trained heads side by side.

In:  features of pairs that none of the heads was made from; heads by name.
Out: `Row`s, and the table of them.
Knows nothing about files or towers.

Two questions for each rung d. Does a shortlist of the K best by the first d dims hold the ten best
by all dims (of the same space: what an exact rerank would show)? And is the right clip among the
ten best by d dims alone?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clap_engine.arrays import Float32, Int64, l2_normalize
from clap_export.errors import TrainingError
from clap_export.features import Features
from clap_export.rotation import Head

QUERIES = 256  # scored at a time
MOST_QUERIES = 4_000  # a standard error of .008 of a hit rate at most
TOP = 10

Relevant = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One rung of one space."""

    space: str
    dim: int
    dims: int  # of the whole space
    kept: dict[int, float]  # shortlist -> share of the ten best by all dims that it holds
    hit10: float  # share of queries with a right clip among the ten best by `dim` dims alone


def compare(
    features: Features,
    heads: Mapping[str, Head | None],
    ladder: Sequence[int],
    shortlists: Sequence[int],
    relevant: Relevant | None = None,
) -> list[Row]:
    """Rows by space and rung; the space of `None` is the source's own.

    Queries are captions, right their own clips; with `relevant` [N, N] the first caption of each
    clip is a query and its row says what is right. Of more than `MOST_QUERIES` as many are drawn.
    """
    count = len(features)
    if not shortlists or not all(TOP <= k < count for k in shortlists):
        raise TrainingError(
            f"shortlists {','.join(map(str, shortlists))} of {count} clips; give lengths of {TOP} "
            f"to {count - 1}"
        )
    rows = features.said[:-1] if relevant is not None else np.arange(len(features.texts))
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_QUERIES])
    rows = rows[drawn]
    if relevant is None:
        right = features.owners()[rows][:, None] == np.arange(count)
    else:
        right = relevant[drawn]
    result = []
    for name, head in heads.items():
        matrix = None if head is None else head.matrix
        text = matrix if head is None or head.text is None else head.text
        sounds = features.sounds(matrix)
        texts = features.texts[rows] if text is None else l2_normalize(features.texts[rows] @ text)
        dims = sounds.shape[1]
        best = _best(texts, sounds)
        for dim in (*(d for d in ladder if d < dims), dims):
            kept, hits = _measure(texts[:, :dim], sounds[:, :dim], best, shortlists, right)
            result.append(Row(name, dim, dims, kept, hits))
    return result


def _best(texts: Float32, sounds: Float32) -> Int64:
    """[Q, TOP]: the ten best clips of each query by all dims."""
    parts = [
        np.argpartition(-(texts[i : i + QUERIES] @ sounds.T), TOP - 1, axis=1)[:, :TOP]
        for i in range(0, len(texts), QUERIES)
    ]
    return np.concatenate(parts)


def _measure(
    texts: Float32, sounds: Float32, best: Int64, shortlists: Sequence[int], right: Relevant
) -> tuple[dict[int, float], float]:
    """Shares kept of `best`, and hits, by prefixes [Q, d] and [N, d]."""
    texts, sounds = l2_normalize(texts), l2_normalize(sounds)
    count = len(sounds)
    kept = dict.fromkeys(shortlists, 0.0)
    hits = 0.0
    for start in range(0, len(texts), QUERIES):
        part = slice(start, start + QUERIES)
        coarse = texts[part] @ sounds.T
        scores = np.take_along_axis(coarse, best[part], axis=1)
        first = np.argpartition(-coarse, TOP - 1, axis=1)[:, :TOP]
        hits += float(np.take_along_axis(right[part], first, axis=1).any(axis=1).sum())
        # At count - k stands the worst score that still makes a list of k.
        coarse.partition([count - k for k in shortlists], axis=1)
        for k in shortlists:
            kept[k] += float((scores >= coarse[:, count - k, None]).mean(axis=1).sum())
    return {k: total / len(texts) for k, total in kept.items()}, hits / len(texts)


def table(rows: Sequence[Row], shortlists: Sequence[int], hit: str = "R@10") -> str:
    """Markdown."""
    lists = " | ".join(f"K = {k}" for k in shortlists)
    lines = [f"| space | d | {lists} | {hit} |", "|---|---|" + "---|" * (len(shortlists) + 1)]
    for row in rows:
        shares = " | ".join(_share(row.kept[k]) for k in shortlists)
        name = row.space if row.dim == min(r.dim for r in rows if r.space == row.space) else ""
        lines.append(f"| {name} | {row.dim} | {shares} | {_share(row.hit10)} |")
    return "\n".join(lines) + "\n"


def _share(value: float) -> str:
    return "1" if value > 0.9995 else f"{value:.3f}".removeprefix("0")
