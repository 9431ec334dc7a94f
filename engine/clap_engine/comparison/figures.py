"""The figures of two sides and of their difference, from the same clips and the same draws.

In:  sums and counts of both sides by figure; both sides' rows of the same clips.
Out: `Figure`s, `Separated`s.
Knows nothing about bundles, sets or pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from clap_engine.arrays import Float32, Float64
from clap_engine.comparison.correlation import separated
from clap_engine.comparison.results import Figure, Separated
from clap_engine.evaluation import Estimate
from clap_engine.evaluation.bootstrap import estimates
from clap_engine.evaluation.embedded import Embedded, Sums
from clap_engine.evaluation.metrics import Sums as OfTask
from clap_engine.tasks import separation

Pair: TypeAlias = "tuple[Float64, Float64]"


def paired(a: Sums, b: Sums) -> Iterator[tuple[str, Pair, Pair]]:
    """Name, (sums, counts) of a and of b, for each figure."""
    parts: list[tuple[str, OfTask, OfTask]] = [
        ("text to audio ", a.text_to_audio, b.text_to_audio),
        ("audio to text ", a.audio_to_text, b.audio_to_text),
        *((f"{task} ", a.tasks[task], b.tasks[task]) for task in a.tasks),
    ]
    for prefix, ours, theirs in parts:
        for name, pair in ours.items():
            if pair[1].sum() > 0:
                yield prefix + name, pair, theirs[name]


def values(a: Sums, b: Sums) -> dict[str, tuple[float, float]]:
    """Name -> the figure of a, and of b."""
    return {name: (_value(ours), _value(theirs)) for name, ours, theirs in paired(a, b)}


def _value(pair: Pair) -> float:
    return float(pair[0].sum() / pair[1].sum())


def figures_of(sums: tuple[Sums, Sums], seed: int, resamples: int) -> tuple[Figure, ...]:
    """The same draws for both and for their difference: the clips of a pair stay together."""
    asked: dict[str, Pair] = {}
    pairs = list(paired(*sums))
    for name, ours, theirs in pairs:
        asked |= {f"a {name}": ours, f"b {name}": theirs,
                  f"d {name}": (ours[0] - theirs[0], ours[1])}  # fmt: skip
    found: Mapping[str, Estimate] = estimates(asked, seed=seed, resamples=resamples)
    return tuple(
        Figure(name, found[f"a {name}"], found[f"b {name}"], found[f"d {name}"])
        for name, _, _ in pairs
    )


def separations(
    sides: Sequence[Embedded], task: str, seed: int, resamples: int
) -> list[Separated] | None:
    """Of the clips with one true class; None where these are of fewer than two classes."""
    true = sides[0].true[task]
    used = [i for i, some in enumerate(true) if len(some) == 1]
    names = [next(iter(true[i])) for i in used]
    if len(set(names)) < 2:
        return None
    found = []
    for side in sides:
        one = separation.separate(side.sounds.rows[used], names)
        hits, counts = side.sums(side.sounds.rows.shape[1]).tasks[task]["accuracy"]
        right: dict[str, list[float]] = {}
        for i, name in zip(used, names, strict=True):
            if counts[i]:
                right.setdefault(name, []).append(float(hits[i]))
        accuracy = {name: float(np.mean(some)) for name, some in right.items()}
        found.append(separated(one, accuracy, seed=seed, resamples=resamples))
    return found


def nearest(rows: Float32, found: separation.Separation) -> OfTask:
    """Accuracy of the nearest middle, and purity, row by row, so that both can be drawn anew."""
    middle, purity = separation.by_row(rows, found.labels)
    ones = np.ones(len(rows))
    return {"accuracy": (middle, ones), f"purity@{found.neighbours}": (purity, ones)}
