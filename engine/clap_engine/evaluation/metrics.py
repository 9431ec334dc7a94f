"""Retrieval and zero-shot figures, from embeddings.

In:  unit rows of captions [Q, D], of clips [N, D], of classes [T, D]; what belongs to what.
Out: for each clip the sum of a figure over its queries, and how many those are.
Knows nothing about files, graphs or intervals.

Let s(q, c) be the inner product of query q and candidate c. The place of c is 1 + the candidates
that score higher + those that score the same and stand before it in the set: ties are decided by
the order of the set, so a model that scores everything alike is found at chance and not above.
Rows that are equal to the bit score the same to the bit.

text to audio: each caption is a query, its own clip the one right candidate among all clips.
    R@k      share of captions whose clip has a place <= k
    mAP@10   mean of 1/place where place <= 10, else 0
audio to text: each clip is a query; its captions are right, all captions of the set candidates.
    R@k      share of clips for which the best place of its captions is <= k
    mAP@10   mean of AP@10 = sum over its captions with place p <= 10 of (right ones up to p)/p,
             divided by min(their number, 10)
    So DCASE 2022's task 6b has text to audio, and so Clotho and AudioCaps are measured by
    Mei et al., "On Metric Learning for Audio-Text Cross-Modal Retrieval" (Interspeech 2022) and
    Wu et al., "Large-scale Contrastive Language-Audio Pretraining" (ICASSP 2023).
zero-shot: a clip is given the class whose text scores highest, ties to the first in the alphabet.
    accuracy share of clips whose class is a true one (Radford et al., CLIP, 2021)
    top-5    share of clips with a true one among the five highest
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clap_engine.arrays import Float32, Float64, Int64
from clap_engine.tasks.labels import Labels

KS = (1, 5, 10)
DEPTH = 10  # of mAP
# Scores compared at a time, 16 MB of them.
BLOCK = 4_000_000

Sums = dict[str, tuple[Float64, Float64]]


def places(queries: Float32, candidates: Float32, pairs: tuple[Int64, Int64]) -> Int64:
    """[Q, D], [C, D], P pairs (query ascending, candidate) -> [P] places from 1 on."""
    of_query, of_candidate = pairs
    known: dict[bytes, int] = {}
    same = np.array([known.setdefault(row.tobytes(), len(known)) for row in candidates], np.int64)
    firsts = np.unique(same, return_index=True)[1]
    distinct = candidates[firsts].T
    found = np.empty(len(of_query), np.int64)
    numbers = np.arange(len(candidates))
    step = max(1, BLOCK // max(1, len(candidates)))
    for start in range(0, len(of_query), step):
        part = slice(start, start + step)
        asked, row_of = np.unique(of_query[part], return_inverse=True)
        scores = queries[asked] @ distinct
        if distinct.shape[1] < len(candidates):
            scores = scores[:, same]
        if len(asked) < len(row_of):
            scores = scores[row_of.reshape(-1)]
        right = of_candidate[part, None]
        own = np.take_along_axis(scores, right, axis=1)
        before = (scores > own) | ((scores == own) & (numbers < right))
        found[part] = 1 + before.sum(axis=1)
    return found


def text_to_audio(captions: Float32, clips: Float32, owner: Int64) -> Sums:
    """Captions [Q, D], clips [N, D], the clip of each caption [Q] ascending -> by figure (sums [N],
    counts [N]): their totals' quotient is the figure."""
    place = places(captions, clips, (np.arange(len(captions)), owner))
    counts = np.bincount(owner, minlength=len(clips)).astype(np.float64)

    def by_clip(values: Float64) -> tuple[Float64, Float64]:
        return np.bincount(owner, values, minlength=len(clips)).astype(np.float64), counts

    figures = {f"R@{k}": by_clip((place <= k).astype(np.float64)) for k in KS}
    return {**figures, f"mAP@{DEPTH}": by_clip(np.where(place <= DEPTH, 1.0 / place, 0.0))}


def audio_to_text(captions: Float32, clips: Float32, owner: Int64) -> Sums:
    """As `text_to_audio`, asked by clips that have a caption."""
    place = places(clips, captions, (owner, np.arange(len(captions))))
    order = np.lexsort((place, owner))
    place = place[order]
    sizes = np.bincount(owner, minlength=len(clips))
    starts = np.cumsum(sizes) - sizes
    right_so_far = np.arange(len(owner)) - starts[owner] + 1
    precision = np.where(place <= DEPTH, right_so_far / place, 0.0)
    counts = (sizes > 0).astype(np.float64)
    best = np.full(len(clips), np.iinfo(np.int64).max)
    np.minimum.at(best, owner, place)
    ap = np.bincount(owner, precision, minlength=len(clips)) / np.clip(sizes, 1, DEPTH)
    figures = {f"R@{k}": ((best <= k).astype(np.float64), counts) for k in KS}
    return {**figures, f"mAP@{DEPTH}": (ap, counts)}


def zero_shot(
    clips: Float32, rows: Float32, labels: Labels, true: Sequence[frozenset[str]]
) -> Sums:
    """Clips [N, D], texts [T, D], the true labels of each clip (none: it is not asked)."""
    counts = np.array([bool(some) for some in true], np.float64)
    first, among = np.zeros(len(clips)), np.zeros(len(clips))
    step = max(1, BLOCK // max(1, len(rows)))
    for start in range(0, len(clips), step):
        cosines = labels.best(clips[start : start + step] @ rows.T)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :5]
        for number, best in enumerate(order.tolist(), start):
            names = [labels.names[i] for i in best]
            first[number] = names[0] in true[number]
            among[number] = not true[number].isdisjoint(names)
    figures: Sums = {"accuracy": (first, counts)}
    return {**figures, "top-5": (among, counts)} if len(labels) > 5 else figures
