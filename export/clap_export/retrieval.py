"""Held-out evaluation: does one of the top k clips truly satisfy the caption?

In:  embeddings of clips and captions, and what each clip is.
Out: hit@k per set of captions and rung, zero-shot accuracy per kind.
Knows nothing about towers or graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clap_engine.arrays import Float32
from clap_export.corpus import captions
from clap_export.corpus.captions import Caption
from clap_export.corpus.classes import CLASSES
from clap_export.corpus.lexicon import Lexicon

Attributes = Mapping[str, str]


def queries(
    lexicon: Lexicon, clips: Sequence[Attributes], wording: str, seed: int = 0
) -> list[Caption]:
    """One caption for every clip that can have one, as `asked` draws them."""
    return [caption for caption in asked(lexicon, clips, wording, seed) if caption is not None]


def asked(
    lexicon: Lexicon, clips: Sequence[Attributes], wording: str, seed: int = 0
) -> list[Caption | None]:
    """A caption for each clip: in "known" wording, in "held" phrasings, or in unseen words as
    `captions.unseen` has them by part; None where its class has no such phrase."""
    rng = np.random.default_rng([seed, 7])
    if wording == "known":
        return [captions.known(rng, lexicon, clip) for clip in clips]
    if wording == "held":
        return [captions.phrasing(rng, lexicon, clip) for clip in clips]
    return [captions.unseen(rng, lexicon, clip, wording) for clip in clips]


def relevance(asked: Sequence[Caption], clips: Sequence[Attributes]) -> np.ndarray:
    """bool [Q, N]: whether clip n satisfies caption q; equal claims are looked at once."""
    rows: dict[tuple[tuple[str, str], ...], np.ndarray] = {}
    for caption in asked:
        key = tuple(sorted(caption.claims.items()))
        if key not in rows:
            rows[key] = np.array([caption.is_true_of(clip) for clip in clips])
    return np.stack([rows[tuple(sorted(caption.claims.items()))] for caption in asked])


def chance(relevant: np.ndarray, k: int = 1) -> float:
    """Expected hit@k of k clips drawn at random without return."""
    n = relevant.shape[1]
    missing = 1.0 - relevant.sum(axis=1) / n
    return float(np.mean(1.0 - missing**k))


def found_within(scores: Float32, relevant: np.ndarray, k: int) -> np.ndarray:
    """bool [Q]: whether a satisfying clip is among the k best scores."""
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.asarray(np.take_along_axis(relevant, top, axis=1).any(axis=1))


def hit_at(scores: Float32, relevant: np.ndarray, k: int) -> float:
    """Share of captions with a satisfying clip among the k best scores."""
    return float(found_within(scores, relevant, k).mean())


def unit_prefix(x: Float32, dim: int) -> Float32:
    prefix = x[:, :dim]
    return np.asarray(prefix / np.linalg.norm(prefix, axis=1, keepdims=True), dtype=np.float32)


def hits(
    text: Float32,
    audio: Float32,
    relevant: np.ndarray,
    ladder: Sequence[int] = (512,),
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """hit@k at every rung, as {"hit@10": ..., "hit@10 d=32": ...}; the plain keys are full dim."""
    result: dict[str, float] = {}
    for dim in ladder:
        scores = unit_prefix(text, dim) @ unit_prefix(audio, dim).T
        for k in ks:
            name = f"hit@{k}" if dim == text.shape[1] else f"hit@{k} d={dim}"
            result[name] = hit_at(scores, relevant, k)
    return result


def zero_shot(
    names: Mapping[str, Float32], audio: Float32, clips: Sequence[Attributes]
) -> dict[str, dict[str, float]]:
    """Accuracy by kind, choosing among the classes of the kind; `names`: class -> embedding."""
    table: dict[str, dict[str, float]] = {}
    for kind, classes in CLASSES.items():
        rows = [i for i, clip in enumerate(clips) if clip["kind"] == kind]
        if not rows:
            continue
        scores = audio[rows] @ np.stack([names[name] for name in classes]).T
        target = np.array([classes.index(clips[i]["class"]) for i in rows])
        order = np.argsort(-scores, axis=1)
        table[kind] = {
            "classes": float(len(classes)),
            "clips": float(len(rows)),
            "top1": float((order[:, 0] == target).mean()),
            "top5": float((order[:, :5] == target[:, None]).any(axis=1).mean()),
        }
    return table
